package measure

import (
	"bytes"

	"github.com/weirmq/weir/cloud/broker"
)

// Sources say what a node knows, besides what its doors count. Each returns an error,
// usually broker.ErrNotOwner, while the node cannot know it.
type Sources struct {
	Coordination func() (broker.Coordination, error)
}

// Snapshot is what a node counts and knows at one moment. Each source was asked once.
type Snapshot struct {
	Listeners    []Listener           // of its doors
	Coordination *broker.Coordination // nil: not known
}

// SetSources sets the sources, which are not known when the first metrics are made.
func (r *Registry) SetSources(s Sources) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = s
}

func (r *Registry) asks() Sources {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources
}

// Coordination returns what this node coordinates. Errors: those of the source,
// broker.ErrNotOwner if there is none.
func (r *Registry) Coordination() (broker.Coordination, error) {
	source := r.asks().Coordination
	if source == nil {
		return broker.Coordination{}, broker.ErrNotOwner
	}
	return source()
}

// Snapshot asks all sources. If some cannot say, the error says why, and the snapshot
// has the rest.
func (r *Registry) Snapshot() (s Snapshot, err error) {
	s.Listeners = r.Listeners()
	c, err := r.Coordination()
	if err == nil {
		s.Coordination = &c
	}
	return s, err
}

// write writes what the snapshot knows, as metrics.
func (s Snapshot) write(out *bytes.Buffer) {
	writeListeners(out, s.Listeners)
	if s.Coordination != nil {
		writeCoordination(out, *s.Coordination)
	}
}
