package commitlog

import (
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// speculation is what the durable state will be once all slots in flight, and
// the one being built, have landed. Only admission looks at it: nothing that
// can be seen from outside may depend on a slot that may still be lost.
//
// It holds differences only, and drops each one when its slot has landed and the
// durable state says the same. It belongs to the committer's goroutine, which holds
// Log.mu for reading while it asks.
type speculation struct {
	durable *state.State
	slot    uint64 // number of the slot being built

	topics    overlay[weir.TopicID, *state.Topic] // nil: deleted
	names     overlay[string, weir.TopicID]       // zero: free
	ends      overlay[state.Place, int64]
	producers overlay[state.ProducerKey, state.Producer]
	marks     overlay[state.MarkKey, uint64]
	buffers   overlay[state.BufferKey, weir.BufferState]
	ids       overlay[struct{}, uint64]
	standings overlay[weir.TopicID, standing]

	// forgotten is the highest position of the catalogue at which dropped topics may have
	// been forgotten. What a caller knows from before it may be one of these topics.
	forgotten journal.Position

	moving // slices
}

// forgetUpTo forgets the differences of all slots up to and including slot.
func (s *speculation) forgetUpTo(slot uint64) {
	s.topics.forgetUpTo(slot)
	s.names.forgetUpTo(slot)
	s.ends.forgetUpTo(slot)
	s.producers.forgetUpTo(slot)
	s.marks.forgetUpTo(slot)
	s.buffers.forgetUpTo(slot)
	s.ids.forgetUpTo(slot)
	s.standings.forgetUpTo(slot)
	s.moving.forgetUpTo(slot)
}

// topic returns the topic of that id, nil if there is none.
func (s *speculation) topic(id weir.TopicID) *state.Topic {
	if t, ok := s.topics.get(id); ok {
		return t
	}
	if t := s.durable.Topics[id]; t != nil {
		return &t.Topic
	}
	return nil
}

func (s *speculation) topicNamed(name string) *state.Topic {
	if id, ok := s.names.get(name); ok {
		return s.topic(id)
	}
	if t := s.durable.Names[name]; t != nil {
		return s.topic(t.ID)
	}
	return nil
}

// standing is where a topic stands between the catalogue and the other shards: see
// state/opened.go.
type standing struct {
	opened   journal.Position // zero: it was not opened here
	dropped  journal.Position // zero: it was not dropped here
	deleting bool
}

func (s *speculation) standing(id weir.TopicID) standing {
	if x, ok := s.standings.get(id); ok {
		return x
	}
	x := standing{dropped: s.durable.Dropped[id]}
	if t := s.durable.Topics[id]; t != nil {
		x.opened, x.deleting = t.Opened, !t.Deleting.IsZero()
	}
	return x
}

// end is the offset that the next record of a partition gets.
func (s *speculation) end(key state.Place) int64 {
	if end, ok := s.ends.get(key); ok {
		return end
	}
	if p := s.durable.Partition(key); p != nil {
		return p.End
	}
	return 0
}

// leaderEpoch is the leader epoch of what an owner appends to a partition.
func (s *speculation) leaderEpoch(key state.Place, owner int32) int32 {
	if p := s.durable.Partition(key); p != nil {
		return p.LeaderEpoch(owner)
	}
	return owner
}

func (s *speculation) producer(key state.ProducerKey) state.Producer {
	if p, ok := s.producers.get(key); ok {
		return p
	}
	if p := s.durable.Partition(key.Place); p != nil {
		if known := p.Producers.Get(key.ID); known != nil {
			return *known
		}
	}
	return state.Producer{}
}

// forgot reports whether a partition may have forgotten a producer. A partition forgets
// only when entries land.
func (s *speculation) forgot(key state.Place) bool {
	p := s.durable.Partition(key)
	return p != nil && p.Producers.Forgot()
}

func (s *speculation) mark(key state.MarkKey) uint64 {
	if mark, ok := s.marks.get(key); ok {
		return mark
	}
	return s.durable.Mark(key)
}

func (s *speculation) bufferState(key state.BufferKey) weir.BufferState {
	if state, ok := s.buffers.get(key); ok {
		return state
	}
	return s.durable.BufferState(key)
}

// producerIDs returns the first producer id that is not reserved.
func (s *speculation) producerIDs() uint64 {
	if next, ok := s.ids.get(struct{}{}); ok {
		return next
	}
	return s.durable.ProducerIDs
}

// overlay holds the values that slots in flight will give to keys. The zero value is
// empty.
type overlay[K comparable, V any] struct {
	values map[K]change[V]
	order  []touch[K] // oldest slot first
}

type change[V any] struct {
	value V
	slot  uint64 // the last slot that changes the key
}

type touch[K comparable] struct {
	key  K
	slot uint64
}

func (o *overlay[K, V]) get(key K) (V, bool) {
	c, ok := o.values[key]
	return c.value, ok
}

// set notes that slot gives key a value. slot is not older than any slot set before.
func (o *overlay[K, V]) set(slot uint64, key K, value V) {
	if o.values == nil {
		o.values = make(map[K]change[V])
	}
	if old, ok := o.values[key]; !ok || old.slot != slot {
		o.order = append(o.order, touch[K]{key, slot})
	}
	o.values[key] = change[V]{value, slot}
}

// forgetUpTo removes the values that no slot younger than slot has changed.
func (o *overlay[K, V]) forgetUpTo(slot uint64) {
	n := 0
	for n < len(o.order) && o.order[n].slot <= slot {
		if key := o.order[n].key; o.values[key].slot <= slot {
			delete(o.values, key)
		}
		n++
	}
	if n == len(o.order) {
		o.order = nil
	} else {
		o.order = o.order[n:]
	}
}
