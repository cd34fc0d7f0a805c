package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// The body of a checkpoint: the state, then the snapshot of each Machine. FORMAT.md has
// the byte tables. It is canonical: equal states are equal bytes, so that a checkpoint
// can be compared with a replay.

// stateVersion is the first byte of a state of format level 1, closedVersion that of
// one of level 2, which has the identity of the objects beside the log. openedVersion is
// that of a state which also has topics opened from the catalogue of another shard, or
// being deleted, movesVersion that of one which also says that slices moved, or has a map
// of them. Version 1, the oldest, had no transactions and no epochs; 3 was in no
// release.
const (
	stateVersion  = 2
	closedVersion = 4
	openedVersion = 5
	movesVersion  = 6
)

// Become replaces what the log says by what other holds. other must not be used
// afterwards. Fields that are not part of the log, such as callbacks, stay.
func (s *State) Become(other *State) {
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			p.Wake()
		}
	}
	s.Topics, s.Names, s.Gateways, s.ProducerIDs = other.Topics, other.Names, other.Gateways, other.ProducerIDs
	s.Segments, s.Slots, s.Garbage, s.Cleaned, s.truncated = other.Segments, other.Slots, other.Garbage, other.Cleaned, other.truncated
	s.Identity, s.Dropped, s.Catalogue = other.Identity, other.Dropped, other.Catalogue
	s.Moves, s.Layout = other.Moves, other.Layout
}

// Before reports whether everything that the state refers to was made before pos.
func (s *State) Before(pos journal.Position) bool {
	for _, t := range s.Topics {
		if !t.Deleting.IsZero() && !t.Deleting.Before(pos) {
			return false
		}
		for _, p := range t.Parts {
			if n := len(p.Index); n > 0 && !p.Index[n-1].Position().Before(pos) {
				return false
			}
			if n := len(p.Epochs); n > 0 && uint64(p.Epochs[n-1].Epoch) > pos.Epoch+uint64(p.Bias) {
				return false
			}
		}
	}
	for id := range s.Segments {
		if id.Other == 0 && id.Epoch > pos.Epoch {
			return false
		}
	}
	return !pos.Before(s.truncated) && (s.Slots.Len() == 0 || s.Slots.Last().Before(pos))
}

// Append appends the part of a checkpoint that is the state's own: all that the log
// determines.
func (s *State) Append(p []byte) []byte {
	version := byte(stateVersion)
	switch {
	case s.Moves != nil || s.Layout != nil:
		version = movesVersion
	case s.hasOpened():
		version = openedVersion
	case s.Identity != nil:
		version = closedVersion
	}
	e := &encoder{p: append(p, version), version: version, truncated: s.truncated}
	e.uvarint(s.ProducerIDs)
	e.uvarint(s.Cleaned)
	e.uvarint(s.truncated.Epoch)
	e.uvarint(s.truncated.Slot)

	e.number(len(s.Topics))
	e.topics = make(map[weir.TopicID]int, len(s.Topics))
	order := sortedTopics(s.Topics)
	for i, id := range order {
		e.topics[id] = i
		e.topic(s.Topics[id])
	}
	e.number(len(s.Gateways))
	for _, name := range slices.Sorted(maps.Keys(s.Gateways)) {
		e.gateway(name, s.Gateways[name])
	}
	e.number(len(s.Garbage))
	var last SegmentID
	for _, id := range slices.SortedFunc(slices.Values(s.Garbage), SegmentID.compare) {
		if e.version < closedVersion {
			e.pair(last.Epoch, last.Number, id.Epoch, id.Number)
		} else {
			e.segment(last, id)
		}
		last = id
	}
	if e.version < openedVersion {
		if s.Identity != nil {
			e.p = s.Identity.append(e.p)
		}
		return e.p
	}
	if s.Identity == nil {
		e.p = append(e.p, 0)
	} else {
		e.p = s.Identity.append(append(e.p, 1))
	}
	e.opened(s, order)
	if e.version >= movesVersion {
		e.moves(s)
	}
	return e.p
}

func compareTopics(a, b weir.TopicID) int { return bytes.Compare(a[:], b[:]) }

// near holds the values that were encoded last. The next ones are likely to be similar,
// so only the differences are written.
type near struct {
	time    int64
	segment SegmentID
}

// encoder writes a state. For a state that breaks the rules, as in a check, its result
// is not valid but always the same.
type encoder struct {
	p         []byte
	version   byte
	truncated journal.Position
	topics    map[weir.TopicID]int // the position of each in their order
	near      near
}

func (e *encoder) uvarint(v uint64) { e.p = binary.AppendUvarint(e.p, v) }
func (e *encoder) varint(v int64)   { e.p = binary.AppendVarint(e.p, v) }
func (e *encoder) number(n int)     { e.uvarint(uint64(n)) }

// pair writes two numbers that do not fall, the first being the more significant: the
// difference of the first, and then the second, or its difference if the first is the
// same.
func (e *encoder) pair(wasMajor, wasMinor, major, minor uint64) {
	e.uvarint(major - wasMajor)
	if major == wasMajor {
		minor -= wasMinor
	}
	e.uvarint(minor)
}

// segment writes an id with its flags, and the differences of its numbers from those of
// the one before.
func (e *encoder) segment(before, id SegmentID) {
	e.p = id.appendFlags(e.p)
	e.varint(int64(id.Epoch - before.Epoch))
	e.varint(int64(id.number() - before.number()))
}

// moment writes a time as the difference from the one before.
func (e *encoder) moment(t int64) {
	e.varint(t - e.near.time)
	e.near.time = t
}

func (e *encoder) topic(t *TopicData) {
	head := EncodeTopicCreated(t.Topic)
	e.number(len(head))
	e.p = append(e.p, head...)
	for _, p := range t.Parts {
		e.partition(p)
	}
}

// partition writes no offsets but the first: everything lies without a hole.
func (e *encoder) partition(p *Partition) {
	e.uvarint(uint64(p.Start))
	if e.version >= closedVersion {
		e.uvarint(uint64(p.Bias))
	}
	e.number(len(p.Pieces))
	e.number(len(p.Index))
	switch {
	case len(p.Pieces) > 0:
		e.uvarint(uint64(p.Start - p.Pieces[0].Base))
	case len(p.Index) > 0:
		e.uvarint(uint64(p.Start - p.Index[0].Base))
	}
	for i := range p.Pieces {
		e.piece(&p.Pieces[i])
	}
	last := e.truncated
	for i := range p.Index {
		x := &p.Index[i]
		e.uvarint(uint64(p.NextOf(i) - x.Base))
		e.moment(x.Time)
		e.pair(last.Epoch, last.Slot, uint64(x.epoch), x.slot)
		e.uvarint(uint64(x.At))
		e.uvarint(uint64(x.Size))
		last = x.Position()
	}
	e.producers(p.Producers.Young, p.End)
	e.producers(p.Producers.Old, p.End)
	e.producers(p.Producers.Open, p.End)
	e.aborted(p.Aborted, p.Start)
	e.epochs(p.Epochs)
}

// aborted writes the transactions in the order in which they ended, the first of
// them at or behind start.
func (e *encoder) aborted(all []Abort, start int64) {
	e.number(len(all))
	for i := range all {
		x := &all[i]
		e.uvarint(uint64(x.Producer))
		e.uvarint(uint64(x.Last - start))
		e.uvarint(uint64(x.Last - x.First))
		e.uvarint(uint64(x.Last + 1 - x.Stable))
		start = x.Last
	}
}

// epochs writes no start of the first one: that is where the partition begins.
func (e *encoder) epochs(all Epochs) {
	e.number(len(all))
	for i, x := range all {
		if i == 0 {
			e.uvarint(uint64(x.Epoch))
			continue
		}
		e.uvarint(uint64(x.Epoch - all[i-1].Epoch))
		e.uvarint(uint64(x.Start - all[i-1].Start))
	}
}

func (e *encoder) piece(x *Piece) {
	e.uvarint(uint64(x.Next - x.Base))
	e.moment(x.Time)
	if e.version < closedVersion {
		e.varint(int64(x.Segment.Epoch - e.near.segment.Epoch))
		e.varint(int64(x.Segment.Number - e.near.segment.Number))
	} else {
		e.segment(e.near.segment, x.Segment)
	}
	e.near.segment = x.Segment
	e.uvarint(uint64(x.At))
	e.uvarint(uint64(x.Size))
	e.uvarint(uint64(x.Index))
	e.uvarint(uint64(x.Records))
}

// producers writes one generation, or those with an open transaction. The sequences of
// a producer follow each other, so only the first is written.
func (e *encoder) producers(all map[int64]*Producer, end int64) {
	e.number(len(all))
	if len(all) == 0 {
		return // as nearly everywhere
	}
	last := int64(0)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		x := all[id]
		e.uvarint(uint64(id - last))
		last = id
		e.varint(int64(x.Epoch))
		e.moment(x.time)
		if x.Open {
			e.uvarint(uint64(end - x.First))
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
	e.number(len(g.Buffers))
	for _, id := range slices.SortedFunc(maps.Keys(g.Buffers), weir.BufferID.Compare) {
		e.p = append(e.p, id[:]...)
		e.progress(g.Buffers[id])
	}
}

// progress writes the marks of a buffer, those of a lane and topic together:
// they have one row.
func (e *encoder) progress(b *progress) {
	e.number(len(b.Reached))
	for _, lane := range slices.Sorted(maps.Keys(b.Reached)) {
		e.p = append(e.p, byte(lane))
		e.uvarint(b.Reached[lane])
	}
	keys := slices.SortedFunc(maps.Keys(b.Marks), compareLanes)
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
		row := b.Rows[group]
		e.p = append(e.p, byte(group.Lane))
		e.number(e.topics[group.Topic])
		e.uvarint(uint64(row.Partitions))
		e.uvarint(row.From)
		e.number(n)
		last := int32(0)
		for _, k := range keys[:n] {
			e.uvarint(uint64(k.Place.Partition - last))
			e.uvarint(b.Marks[k])
			last = k.Place.Partition
		}
		keys = keys[n:]
	}
}

func (k laneKey) row() rowKey { return rowKey{k.Lane, k.Place.Topic} }

func compareLanes(a, b laneKey) int {
	return cmp.Or(cmp.Compare(a.Lane, b.Lane), compareTopics(a.Place.Topic, b.Place.Topic), cmp.Compare(a.Place.Partition, b.Place.Partition))
}
