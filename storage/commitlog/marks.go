package commitlog

import (
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// Stream is one lane of one buffer of a gateway: a sequence that starts at 1
// and only grows.
type Stream struct {
	Gateway string
	Buffer  weir.BufferID
	Lane    uint8
}

// Row says that a stream's records of a topic are spread over Partitions
// partitions from sequence From on. The zero Row: the sender does not say.
type Row struct {
	Partitions int32
	From       uint64
}

// older reports whether r came before s in a map table, which only grows.
func (r Row) older(s Row) bool {
	return r.From < s.From || r.From == s.From && r.Partitions < s.Partitions
}

// maps says whether r can have given the record at seq this partition.
func (r Row) maps(partition int32, seq uint64) bool {
	return r == Row{} || partition < r.Partitions && r.From > 0 && r.From <= seq
}

// BufferState is what the log remembers of a gateway's buffer.
type BufferState uint8

func (s BufferState) String() string {
	return [...]string{"new", "known", "retired", "aside"}[s]
}

// The states of a buffer.
const (
	New     BufferState = iota // never seen
	Known                      // has delivered something and is not retired
	Retired                    // fully delivered; never again
	Aside                      // unknown, but old enough to be a retired one that was forgotten
)

// Source says which sequences of a stream a batch holds. Prev is the sequence
// that this sender handed to this partition before, or the mark that it was
// given, or 0. appendSource holds the rules.
//
// Row is how the sender mapped the records to this partition. The log keeps the
// newest one of each stream and topic, and gives it back with the marks.
type Source struct {
	Stream            Stream
	Prev, First, Last uint64
	Row               Row
}

// tombstones is how many retired buffers of a gateway are remembered.
const tombstones = 256

// gateway is what the log remembers of one gateway.
type gateway struct {
	buffers map[weir.BufferID]*progress // those that are not retired

	retired   []weir.BufferID // ascending, so oldest first; at most tombstones
	forgotten bool            // older ones than those in retired have been dropped
}

// progress is how far a gateway's buffer has been delivered.
type progress struct {
	marks   map[laneKey]uint64
	rows    map[rowKey]Row   // the newest by which something was appended
	reached map[uint8]uint64 // by lane: the highest mark ever, also in topics that are gone
}

func newProgress() *progress {
	return &progress{make(map[laneKey]uint64), make(map[rowKey]Row), make(map[uint8]uint64)}
}

// rowKey names a row within its buffer.
type rowKey struct {
	lane  uint8
	topic weir.TopicID
}

// laneKey names a mark within its buffer.
type laneKey struct {
	lane  uint8
	place placeKey
}

// mark returns the last sequence of a stream in a partition, 0 for none.
func (s *state) mark(key markKey) uint64 {
	g := s.gateways[key.stream.Gateway]
	if g == nil || g.buffers[key.stream.Buffer] == nil {
		return 0
	}
	return g.buffers[key.stream.Buffer].marks[laneKey{key.stream.Lane, key.place}]
}

func (s *state) bufferState(key bufferKey) BufferState {
	g := s.gateways[key.gateway]
	if g == nil {
		return New
	}
	st := g.state(key.buffer)
	if st == Aside && (forgottenIsNew(s.mutations) || s.adopted[key.gateway] == key.buffer) {
		return New
	}
	return st
}

// state decides what a buffer is. Aside needs a tombstone that was dropped: as
// long as all of them are there an unknown buffer is new, however old its
// counter; one lane of it may have waited while a younger buffer came and went.
func (g *gateway) state(id weir.BufferID) BufferState {
	if _, ok := g.buffers[id]; ok {
		return Known
	}
	if _, ok := slices.BinarySearchFunc(g.retired, id, weir.BufferID.Compare); ok {
		return Retired
	}
	if g.forgotten && id.Counter() <= g.retired[0].Counter() {
		return Aside
	}
	return New
}

// gateway returns what is remembered of a gateway, from now on at least
// something.
func (s *state) gateway(name string) *gateway {
	g := s.gateways[name]
	if g == nil {
		g = &gateway{buffers: make(map[weir.BufferID]*progress)}
		s.gateways[name] = g
	}
	return g
}

// advance moves a mark by what was appended: the only thing that does.
func (s *state) advance(place placeKey, src Source) error {
	key := markKey{src.Stream, place}
	if s.bufferState(bufferKey{src.Stream.Gateway, src.Stream.Buffer}) == Retired {
		if err := s.broken("partition %d of topic %v: append of buffer %v of gateway %q, which is retired", place.partition, place.topic, src.Stream.Buffer, src.Stream.Gateway); err != nil {
			return err
		}
	}
	if mark := s.mark(key); src.Prev != mark || src.First <= mark {
		if err := s.broken("partition %d of topic %v: stream %s/%v/%d goes on with %d to %d behind %d, but its mark is %d",
			place.partition, place.topic, src.Stream.Gateway, src.Stream.Buffer, src.Stream.Lane, src.First, src.Last, src.Prev, mark); err != nil {
			return err
		}
	}
	g := s.gateway(src.Stream.Gateway)
	b := g.buffers[src.Stream.Buffer]
	if b == nil {
		b = newProgress()
		g.buffers[src.Stream.Buffer] = b
	}
	b.marks[laneKey{src.Stream.Lane, place}] = src.Last
	b.reached[src.Stream.Lane] = max(b.reached[src.Stream.Lane], src.Last)
	row := rowKey{src.Stream.Lane, place.topic}
	if old, ok := b.rows[row]; !ok && src.Row != (Row{}) || old.older(src.Row) && !keepFirstRow(s.mutations) {
		b.rows[row] = src.Row
	}
	return nil
}

// retire swaps the marks of a buffer for a tombstone.
func (s *state) retire(key bufferKey) {
	g := s.gateway(key.gateway)
	delete(g.buffers, key.buffer)
	if keepNoTombs(s.mutations) {
		return
	}
	at, ok := slices.BinarySearchFunc(g.retired, key.buffer, weir.BufferID.Compare)
	if ok {
		return
	}
	g.retired = slices.Insert(g.retired, at, key.buffer)
	if len(g.retired) > tombstones {
		g.retired = slices.Delete(g.retired, 0, 1)
		g.forgotten = true
	}
}

// forgetTopic drops the marks of a deleted topic. Buffers without any mark left
// stay known.
func (s *state) forgetTopic(id weir.TopicID) {
	for _, g := range s.gateways {
		for _, b := range g.buffers {
			maps.DeleteFunc(b.marks, func(k laneKey, _ uint64) bool { return k.place.topic == id })
			maps.DeleteFunc(b.rows, func(k rowKey, _ Row) bool { return k.topic == id })
		}
	}
}
