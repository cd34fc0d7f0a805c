package share

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/weir"
)

// ahead is how many records after the last one that was acquired may be delivered
// without another entry. After a crash all of them count as delivered.
const ahead = 1_000

// open returns a share partition that can be used. With the first call for it, the
// group begins to share it; or this owner of the shard begins to serve it.
func (m *Manager) open(ctx context.Context, at Place) (*partition, error) {
	for {
		m.mu.Lock()
		if m.closed || m.elsewhere(at) {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		key := topicPart{at.Topic, at.Partition}
		p := m.groups[at.Group][key]
		if p == nil {
			p = &partition{place: at, opened: make(chan struct{}), turn: make(chan struct{}, 1)}
			if m.groups[at.Group] == nil {
				m.groups[at.Group] = make(map[topicPart]*partition)
			}
			m.groups[at.Group][key] = p
			m.mu.Unlock()
			return p, m.begin(ctx, p)
		}
		ready := p.id != 0
		m.mu.Unlock()
		if ready {
			return p, nil
		}
		select {
		case <-p.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin opens a share partition that is not in use yet.
func (m *Manager) begin(ctx context.Context, p *partition) error {
	err := m.beginDurably(ctx, p.place)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer close(p.opened)
	if durable := m.state.Partition(p.place); err == nil && durable != nil && m.current(p) {
		p.id = durable.ID
		delete(m.ends, p.id) // what it delivers from now on, it knows
		delete(m.came, p.id)
		return nil
	}
	m.drop(p)
	if err == nil {
		err = ErrClosed // closed, or deleted meanwhile
	}
	return err
}

func (m *Manager) beginDurably(ctx context.Context, at Place) error {
	leave, ok := m.gate.Enter(weir.SliceOf(at.Topic, at.Partition))
	if !ok {
		return ErrClosed
	}
	defer leave()
	start, end, err := m.log.Bounds(at.Topic, at.Partition)
	if err != nil {
		return err
	}
	if m.log.Level() < state.Level {
		return fmt.Errorf("share group %q: %w", at.Group, machine.ErrLevel)
	}
	m.mu.Lock()
	durable, n, settings := m.state.Partition(at), m.state.Len(), m.o.Settings(at.Group).withDefaults()
	opened := state.Opened{}
	if durable != nil {
		before := m.ends[durable.ID]
		if m.came[durable.ID] {
			before = end
		}
		opened = state.Opened{ID: durable.ID, Mark: min(durable.Lent, before-1)}
		if opened.Mark < max(durable.Start, start) {
			m.mu.Unlock()
			return nil // nothing was delivered that is not done
		}
	}
	m.mu.Unlock()
	switch {
	case durable != nil:
		return m.propose(ctx, state.KindOpened, opened.Append(nil))
	case n >= m.o.MaxPartitions:
		return ErrTooMany
	}
	begun := state.Begun{Place: at, Start: end}
	if settings.Earliest {
		begun.Start = start
	}
	if settings.Since > 0 {
		since := m.o.Now().Add(-settings.Since).UnixMilli()
		offset, _, err := m.log.OffsetByTime(ctx, at.Topic, at.Partition, since)
		if err != nil {
			return err
		}
		if offset >= 0 {
			begun.Start = offset
		}
	}
	begun.Lent = begun.Start - 1 + ahead
	return m.propose(ctx, state.KindBegun, begun.Append(nil))
}

// current reports whether a share partition is still the one in use.
func (m *Manager) current(p *partition) bool {
	return !m.closed && m.groups[p.place.Group][topicPart{p.place.Topic, p.place.Partition}] == p
}

// drop ends the use of a share partition.
func (m *Manager) drop(p *partition) {
	p.end()
	if !m.current(p) {
		return
	}
	parts := m.groups[p.place.Group]
	if delete(parts, topicPart{p.place.Topic, p.place.Partition}); len(parts) == 0 {
		delete(m.groups, p.place.Group)
	}
}
