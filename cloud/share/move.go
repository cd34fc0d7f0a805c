package share

import (
	"context"

	"github.com/weirmq/weir/storage/weir"
)

// What a group has done with a partition moves to another shard with it. What members have
// acquired does not: the records are delivered again there, and that counts.

// CloseSlices makes the manager answer ErrClosed for the partitions in those slices, as
// another shard is about to have them. It returns nil when no change of theirs is on its way
// to the log. Errors: ctx's; then they are closed all the same.
func (m *Manager) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	return m.gate.Close(ctx, set)
}

// OpenSlices undoes CloseSlices: the partitions have not moved.
func (m *Manager) OpenSlices(set weir.SliceSet) { m.gate.Open(set) }

// elsewhere reports whether a partition has left, or is about to.
func (m *Manager) elsewhere(at Place) bool {
	return m.gate.Closed(weir.SliceOf(at.Topic, at.Partition))
}

// SliceOf is for state.Sliced.
func (m *Manager) SliceOf(kind uint16, body []byte) (weir.Slice, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.SliceOf(kind, body)
}

// Export is for state.Slicer, as the next two are.
func (m *Manager) Export(set weir.SliceSet) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Export(set)
}

// Import adds what Export of another shard's manager gave.
func (m *Manager) Import(body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids, err := m.state.Import(body)
	for _, id := range ids {
		m.came[id] = true
	}
	return err
}

// Remove forgets the partitions in those slices.
func (m *Manager) Remove(set weir.SliceSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.state.Remove(set) {
		if p := m.groups[at.Group][topicPart{at.Topic, at.Partition}]; p != nil {
			m.drop(p)
		}
	}
}
