package measure

import (
	"bytes"
	"errors"
	"time"

	"github.com/weirmq/weir/cloud/broker"
)

// Sources say what a node knows, besides what its doors count. Each returns an error,
// usually broker.ErrNotOwner, while the node cannot know it.
type Sources struct {
	Shards       func() ([]Shard, error) // that this node owns
	Gateways     func() ([]Gateway, error)
	Coordination func() (broker.Coordination, error)

	GatewaySeries int // how many gateways have metrics of their own
}

// Snapshot is what a node counts and knows at one moment. Each source was asked once.
type Snapshot struct {
	At           time.Time  // when all had been asked
	Listeners    []Listener // of its doors
	Shards       []Shard    // by number; nil: not known, like the next two
	Gateways     []Gateway
	Coordination *broker.Coordination
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

// Gateways returns the gateways of the cluster, by id. Errors: as Coordination.
func (r *Registry) Gateways() ([]Gateway, error) { return ask(r.asks().Gateways) }

// Coordination returns what this node coordinates. Errors: those of the source,
// broker.ErrNotOwner if there is none.
func (r *Registry) Coordination() (broker.Coordination, error) { return ask(r.asks().Coordination) }

// ask asks a source that may be missing.
func ask[T any](source func() (T, error)) (T, error) {
	if source == nil {
		var none T
		return none, broker.ErrNotOwner
	}
	return source()
}

// Snapshot asks all sources. If some cannot say, the error says why, and the snapshot
// has the rest.
func (r *Registry) Snapshot() (s Snapshot, err error) {
	s.Listeners = r.Listeners()
	var noShard, noGateways error
	s.Shards, noShard = ask(r.asks().Shards)
	s.Gateways, noGateways = r.Gateways()
	c, noCoordination := r.Coordination()
	if noCoordination == nil {
		s.Coordination = &c
	}
	s.At = time.Now()
	return s, errors.Join(noShard, noGateways, noCoordination)
}

// write writes what the snapshot knows, as metrics. At most gatewaySeries gateways have
// metrics of their own.
func (s Snapshot) write(out *bytes.Buffer, gatewaySeries int) {
	writeListeners(out, s.Listeners)
	for _, one := range s.Shards {
		writeShard(out, one, s.At)
	}
	if s.Gateways != nil {
		writeGateways(out, s.Gateways, gatewaySeries, s.At)
	}
	if s.Coordination != nil {
		writeCoordination(out, *s.Coordination)
	}
}
