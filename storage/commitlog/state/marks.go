package state

import (
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// Source says which sequences of a stream a batch holds. Prev is the last sequence that
// this sender sent to this partition before, or the mark that it was given, or 0.
// appendSource has the rules.
//
// Row is how the sender mapped the records to this partition. The log keeps the newest
// one of each stream and topic, and returns it with the marks. The zero Row means that
// the sender does not say.
type Source struct {
	Stream            weir.Stream
	Prev, First, Last uint64
	Row               weir.Row
}

// Maps reports whether the sender's row can have mapped the last record to this
// partition.
func (s Source) Maps(partition int32) bool {
	return s.Row == weir.Row{} || s.Row.Maps(partition, s.Last)
}

// tombstones is how many retired buffers of a gateway are remembered.
const tombstones = 256

// gateway is what the log remembers of one gateway.
type gateway struct {
	Buffers map[weir.BufferID]*progress // those that are not retired

	retired   []weir.BufferID // ascending, so oldest first; at most tombstones
	forgotten bool            // older ones than those in retired have been dropped
}

// progress is how far a gateway's buffer has been delivered.
type progress struct {
	Marks   map[laneKey]uint64
	Rows    map[rowKey]weir.Row  // the newest with which something was appended
	Reached map[weir.Lane]uint64 // by lane: the highest mark ever, also in topics that are gone
}

func newProgress() *progress {
	return &progress{make(map[laneKey]uint64), make(map[rowKey]weir.Row), make(map[weir.Lane]uint64)}
}

// rowKey names a row within its buffer.
type rowKey struct {
	Lane  weir.Lane
	Topic weir.TopicID
}

// laneKey names a mark within its buffer.
type laneKey struct {
	Lane  weir.Lane
	Place Place
}

// Mark returns the last sequence of a stream in a partition, 0 for none.
func (s *State) Mark(key MarkKey) uint64 {
	g := s.Gateways[key.Stream.Gateway]
	if g == nil || g.Buffers[key.Stream.Buffer] == nil {
		return 0
	}
	return g.Buffers[key.Stream.Buffer].Marks[laneKey{key.Stream.Lane, key.Place}]
}

// BufferState returns the state of a buffer.
func (s *State) BufferState(key BufferKey) weir.BufferState {
	g := s.Gateways[key.Gateway]
	if g == nil {
		return weir.BufferNew
	}
	st := g.state(key.Buffer)
	if st == weir.BufferAside && (forgottenIsNew(s.Mutations) || s.Adopted[key.Gateway] == key.Buffer) {
		return weir.BufferNew
	}
	return st
}

// state returns the state of a buffer. It is Aside only if a tombstone was dropped. As
// long as none was, an unknown buffer is new, however low its counter: one of its lanes
// may have waited while a younger buffer was delivered and retired.
func (g *gateway) state(id weir.BufferID) weir.BufferState {
	if _, ok := g.Buffers[id]; ok {
		return weir.BufferKnown
	}
	if _, ok := slices.BinarySearchFunc(g.retired, id, weir.BufferID.Compare); ok {
		return weir.BufferRetired
	}
	if g.forgotten && id.Counter() <= g.retired[0].Counter() {
		return weir.BufferAside
	}
	return weir.BufferNew
}

// gateway returns what is remembered of a gateway. It creates an empty entry if there
// is none.
func (s *State) gateway(name string) *gateway {
	g := s.Gateways[name]
	if g == nil {
		g = &gateway{Buffers: make(map[weir.BufferID]*progress)}
		s.Gateways[name] = g
	}
	return g
}

// advance moves a mark by what was appended. Nothing else moves marks.
func (s *State) advance(place Place, src Source) error {
	key := MarkKey{src.Stream, place}
	if s.BufferState(BufferKey{src.Stream.Gateway, src.Stream.Buffer}) == weir.BufferRetired {
		if err := s.broken("partition %d of topic %v: append of buffer %v of gateway %q, which is retired", place.Partition, place.Topic, src.Stream.Buffer, src.Stream.Gateway); err != nil {
			return err
		}
	}
	if mark := s.Mark(key); src.Prev != mark || src.First <= mark {
		if err := s.broken("partition %d of topic %v: stream %s/%v/%d goes on with %d to %d behind %d, but its mark is %d",
			place.Partition, place.Topic, src.Stream.Gateway, src.Stream.Buffer, src.Stream.Lane, src.First, src.Last, src.Prev, mark); err != nil {
			return err
		}
	}
	g := s.gateway(src.Stream.Gateway)
	b := g.Buffers[src.Stream.Buffer]
	if b == nil {
		b = newProgress()
		g.Buffers[src.Stream.Buffer] = b
	}
	b.Marks[laneKey{src.Stream.Lane, place}] = src.Last
	b.Reached[src.Stream.Lane] = max(b.Reached[src.Stream.Lane], src.Last)
	row := rowKey{src.Stream.Lane, place.Topic}
	if old, ok := b.Rows[row]; !ok && src.Row != (weir.Row{}) || old.Before(src.Row) && !keepFirstRow(s.Mutations) {
		b.Rows[row] = src.Row
	}
	return nil
}

// retire replaces the marks of a buffer by a tombstone.
func (s *State) retire(key BufferKey) {
	g := s.gateway(key.Gateway)
	delete(g.Buffers, key.Buffer)
	if keepNoTombs(s.Mutations) {
		return
	}
	at, ok := slices.BinarySearchFunc(g.retired, key.Buffer, weir.BufferID.Compare)
	if ok {
		return
	}
	g.retired = slices.Insert(g.retired, at, key.Buffer)
	if len(g.retired) > tombstones {
		g.retired = slices.Delete(g.retired, 0, 1)
		g.forgotten = true
	}
}

// forgetTopic drops the marks of a deleted topic. Buffers without any mark left
// stay known.
func (s *State) forgetTopic(id weir.TopicID) {
	for _, g := range s.Gateways {
		for _, b := range g.Buffers {
			maps.DeleteFunc(b.Marks, func(k laneKey, _ uint64) bool { return k.Place.Topic == id })
			maps.DeleteFunc(b.Rows, func(k rowKey, _ weir.Row) bool { return k.Topic == id })
		}
	}
}
