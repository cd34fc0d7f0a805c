package commitlog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// The body of a checkpoint: the state, then what each Machine says of itself.
// FORMAT.md has the byte tables. It is canonical: equal states are equal bytes,
// so that a checkpoint can be compared with a replay.

// stateVersion is the first byte of a state that says nothing of the objects beside
// the log, namedVersion that of one that does. The one before, 1, had no transactions
// and no epochs.
const (
	stateVersion = 2
	namedVersion = 3
)

// become replaces what the log says by what other holds, which is not to be used
// any more. What is not of the log stays: whoever has s goes on with it.
func (s *state) become(other *state) {
	for _, t := range s.topics {
		for _, p := range t.partitions {
			p.wake()
		}
	}
	s.topics, s.names, s.gateways, s.producerIDs = other.topics, other.names, other.gateways, other.producerIDs
	s.segments, s.garbage, s.cleaned, s.truncated = other.segments, other.garbage, other.cleaned, other.truncated
	s.identity = other.identity
}

// before reports whether all that the state refers to was made before pos.
func (s *state) before(pos journal.Position) bool {
	for _, t := range s.topics {
		for _, p := range t.partitions {
			if n := len(p.index); n > 0 && !p.index[n-1].position().Before(pos) {
				return false
			}
			if n := len(p.epochs); n > 0 && uint64(p.epochs[n-1].epoch) > pos.Epoch {
				return false
			}
		}
	}
	for id := range s.segments {
		if id.epoch > pos.Epoch {
			return false
		}
	}
	return !pos.Before(s.truncated)
}

// encode returns the part of a checkpoint that is the state's own: all that the
// log determines.
func (s *state) encode() []byte { return s.append(nil) }

func (s *state) append(p []byte) []byte {
	version := byte(stateVersion)
	if s.identity != nil {
		version = namedVersion
	}
	e := &encoder{p: append(p, version), truncated: s.truncated}
	e.uvarint(s.producerIDs)
	e.uvarint(s.cleaned)
	e.uvarint(s.truncated.Epoch)
	e.uvarint(s.truncated.Slot)

	e.number(len(s.topics))
	e.topics = make(map[weir.TopicID]int, len(s.topics))
	for i, id := range slices.SortedFunc(maps.Keys(s.topics), compareTopics) {
		e.topics[id] = i
		e.topic(s.topics[id])
	}
	e.number(len(s.gateways))
	for _, name := range slices.Sorted(maps.Keys(s.gateways)) {
		e.gateway(name, s.gateways[name])
	}
	e.number(len(s.garbage))
	var last segmentID
	for _, id := range slices.SortedFunc(slices.Values(s.garbage), segmentID.compare) {
		e.pair(last.epoch, last.number, id.epoch, id.number)
		last = id
	}
	if s.identity != nil {
		e.p = s.identity.append(e.p)
	}
	return e.p
}

func compareTopics(a, b weir.TopicID) int { return bytes.Compare(a[:], b[:]) }

// near is what was encoded last and is likely to be followed by its like, so
// that only the difference is written.
type near struct {
	time    int64
	segment segmentID
}

// encoder writes a state. Of a state that breaks the rules, as an auditor may
// have it, it makes something, and the same each time.
type encoder struct {
	p         []byte
	truncated journal.Position
	topics    map[weir.TopicID]int // the number of each, in their order
	near      near
}

func (e *encoder) uvarint(v uint64) { e.p = binary.AppendUvarint(e.p, v) }
func (e *encoder) varint(v int64)   { e.p = binary.AppendVarint(e.p, v) }
func (e *encoder) number(n int)     { e.uvarint(uint64(n)) }

// pair writes two numbers of which the first counts more, and which grow: how
// much the first has grown, and the second, or how much that has grown if the
// first is the same.
func (e *encoder) pair(wasMajor, wasMinor, major, minor uint64) {
	e.uvarint(major - wasMajor)
	if major == wasMajor {
		minor -= wasMinor
	}
	e.uvarint(minor)
}

// moment writes a time as the difference from the one before.
func (e *encoder) moment(t int64) {
	e.varint(t - e.near.time)
	e.near.time = t
}

func (e *encoder) topic(t *topic) {
	head := encodeTopicCreated(t.Topic)
	e.number(len(head))
	e.p = append(e.p, head...)
	for _, p := range t.partitions {
		e.partition(p)
	}
}

// partition writes no offsets but the first: everything lies without a hole.
func (e *encoder) partition(p *partition) {
	e.uvarint(uint64(p.start))
	e.number(len(p.pieces))
	e.number(len(p.index))
	switch {
	case len(p.pieces) > 0:
		e.uvarint(uint64(p.start - p.pieces[0].base))
	case len(p.index) > 0:
		e.uvarint(uint64(p.start - p.index[0].base))
	}
	for i := range p.pieces {
		e.piece(&p.pieces[i])
	}
	last := e.truncated
	for i := range p.index {
		x := &p.index[i]
		e.uvarint(uint64(p.nextOf(i) - x.base))
		e.moment(x.time)
		e.pair(last.Epoch, last.Slot, uint64(x.epoch), x.slot)
		e.uvarint(uint64(x.at))
		e.uvarint(uint64(x.size))
		last = x.position()
	}
	e.producers(p.producers.young, p.end)
	e.producers(p.producers.old, p.end)
	e.producers(p.producers.open, p.end)
	e.aborted(p.aborted, p.start)
	e.epochs(p.epochs)
}

// aborted writes the transactions in the order in which they ended, the first of
// them at or behind start.
func (e *encoder) aborted(all []aborted, start int64) {
	e.number(len(all))
	for i := range all {
		x := &all[i]
		e.uvarint(uint64(x.Producer))
		e.uvarint(uint64(x.Last - start))
		e.uvarint(uint64(x.Last - x.First))
		e.uvarint(uint64(x.Last + 1 - x.stable))
		start = x.Last
	}
}

// epochs writes no start of the first one: that is where the partition begins.
func (e *encoder) epochs(all epochs) {
	e.number(len(all))
	for i, x := range all {
		if i == 0 {
			e.uvarint(uint64(x.epoch))
			continue
		}
		e.uvarint(uint64(x.epoch - all[i-1].epoch))
		e.uvarint(uint64(x.start - all[i-1].start))
	}
}

func (e *encoder) piece(x *piece) {
	e.uvarint(uint64(x.next - x.base))
	e.moment(x.time)
	e.varint(int64(x.segment.epoch - e.near.segment.epoch))
	e.varint(int64(x.segment.number - e.near.segment.number))
	e.near.segment = x.segment
	e.uvarint(uint64(x.at))
	e.uvarint(uint64(x.size))
	e.uvarint(uint64(x.index))
	e.uvarint(uint64(x.records))
}

// producers writes one generation, or those with an open transaction. The sequences
// of a producer follow each other: only the first needs to be told.
func (e *encoder) producers(all map[int64]*producer, end int64) {
	e.number(len(all))
	if len(all) == 0 {
		return // as nearly everywhere
	}
	last := int64(0)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		x := all[id]
		e.uvarint(uint64(id - last))
		last = id
		e.varint(int64(x.epoch))
		e.moment(x.time)
		if x.open {
			e.uvarint(uint64(end - x.first))
		}
		if e.number(int(x.n)); x.n == 0 {
			continue // only a marker is known
		}
		e.varint(int64(x.last[0].first))
		e.uvarint(uint64(end - x.last[0].base))
		for i := range x.last[:x.n] {
			if i > 0 {
				e.uvarint(uint64(x.last[i].base - x.last[i-1].base))
			}
			e.varint(int64(x.last[i].last) - int64(x.last[i].first))
		}
	}
}

func (e *encoder) gateway(name string, g *gateway) {
	e.number(len(name))
	e.p = append(e.p, name...)
	forgotten := byte(0)
	if g.forgotten {
		forgotten = 1
	}
	e.p = append(e.p, forgotten)
	e.number(len(g.retired))
	for _, id := range g.retired {
		e.p = append(e.p, id[:]...)
	}
	e.number(len(g.buffers))
	for _, id := range slices.SortedFunc(maps.Keys(g.buffers), weir.BufferID.Compare) {
		e.p = append(e.p, id[:]...)
		e.progress(g.buffers[id])
	}
}

// progress writes the marks of a buffer, those of a lane and topic together:
// they have one row.
func (e *encoder) progress(b *progress) {
	e.number(len(b.reached))
	for _, lane := range slices.Sorted(maps.Keys(b.reached)) {
		e.p = append(e.p, lane)
		e.uvarint(b.reached[lane])
	}
	keys := slices.SortedFunc(maps.Keys(b.marks), compareLanes)
	groups := 0
	for i, k := range keys {
		if i == 0 || k.row() != keys[i-1].row() {
			groups++
		}
	}
	e.number(groups)
	for len(keys) > 0 {
		group := keys[0].row()
		n := 1
		for n < len(keys) && keys[n].row() == group {
			n++
		}
		row := b.rows[group]
		e.p = append(e.p, group.lane)
		e.number(e.topics[group.topic])
		e.uvarint(uint64(row.Partitions))
		e.uvarint(row.From)
		e.number(n)
		last := int32(0)
		for _, k := range keys[:n] {
			e.uvarint(uint64(k.place.partition - last))
			e.uvarint(b.marks[k])
			last = k.place.partition
		}
		keys = keys[n:]
	}
}

func (k laneKey) row() rowKey { return rowKey{k.lane, k.place.topic} }

func compareLanes(a, b laneKey) int {
	return cmp.Or(cmp.Compare(a.lane, b.lane), compareTopics(a.place.topic, b.place.topic), cmp.Compare(a.place.partition, b.place.partition))
}
