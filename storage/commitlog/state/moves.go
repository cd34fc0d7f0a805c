package state

import (
	"fmt"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// Slices move from one shard to another without their records being copied: the log of
// the second shard refers to segments of the first. The order of the entries makes that
// safe at a crash between any two of them:
//
//  1. the first shard takes no appends to these slices any more, and all that it has of
//     them is in segments that nothing else lies in;
//  2. the second logs *imported*, all of that;
//  3. the first logs *moved out*, which decides: until then the slices are in the first,
//     from then on in the second;
//  4. the second logs *confirmed*, and serves the slices.
//
// A new owner of the second shard that finds an import of which it is not decided asks the
// owner of the first, whose log answers. If nothing is decided there, that owner logs
// *void* before it says so. Then the one who moves them cannot decide it any more, and the
// import is cancelled.

// Moves is what a log says of slices that came or went.
type Moves struct {
	Out    []weir.Move          // moved out and not settled, oldest first
	In     []*Arrival           // imported, neither confirmed nor cancelled, oldest first
	Ended  []EndedMove          // how the last ones ended, oldest first; at most maxEnded
	Away   weir.SliceSet        // slices that moved out and have not come back
	Lent   map[SegmentID]bool   // own segments that moved out, of epochs behind State.Cleaned
	Biases map[weir.Slice]int32 // of leader epochs, of the slices that have one above 0
}

// Arrival is an import of which it is not known yet whether its slices moved out of the
// other shard. Nothing of it is in effect.
type Arrival struct {
	weir.Move
	Body  []byte // what Machines.Export has made, as far as it is here
	Parts int    // of the body that are here
	Of    int    // all of them

	dropped map[weir.TopicID]bool // topics that were dropped since the first part
}

// Whole reports whether the import has all of its parts.
func (a *Arrival) Whole() bool { return a.Parts == a.Of }

// MoveEnd says how a move ended for one of its two shards.
type MoveEnd uint8

// The ends of moves. Their numbers are those at rest.
const (
	MoveVoid      MoveEnd = 1 // of the first shard: it is given up
	MoveSettled   MoveEnd = 2 // of the first shard: it moved out, and the second has confirmed it
	MoveConfirmed MoveEnd = 3 // of the second shard
	MoveCancelled MoveEnd = 4 // of the second shard
)

// EndedMove is a move that has ended.
type EndedMove struct {
	ID  weir.MoveID
	End MoveEnd
}

// maxEnded bounds what a log remembers of moves that have ended. It is for calls that are
// repeated, and safety does not depend on it.
const maxEnded = 256

// Layout is the map of slices that is in force. Only the log of shard 0 has one, and only
// if it is not the one at creation.
type Layout struct {
	Map    weir.Map
	Shards uint32 // their number
}

// Clone returns a copy.
func (l *Layout) Clone() *Layout {
	if l == nil {
		return nil
	}
	c := *l
	return &c
}

// SliceOf returns the slice of a partition.
func (k Place) SliceOf() weir.Slice { return weir.SliceOf(k.Topic, k.Partition) }

// IsAway reports whether the slice of a partition moved to another shard.
func (s *State) IsAway(key Place) bool { return s.Moves != nil && s.Moves.Away.Has(key.SliceOf()) }

// IsLent reports whether a segment of this log belongs to slices that moved out. Of epochs
// up to Cleaned it is not known.
func (s *State) IsLent(id SegmentID) bool { return s.Moves != nil && s.Moves.Lent[id] }

// moves returns s.Moves, which it makes if there is none.
func (s *State) moves() *Moves {
	if s.Moves == nil {
		s.Moves = &Moves{Lent: make(map[SegmentID]bool), Biases: make(map[weir.Slice]int32)}
	}
	return s.Moves
}

// MovedOut returns the move with that id if it moved out and is not settled.
func (s *State) MovedOut(id weir.MoveID) *weir.Move {
	if s.Moves == nil {
		return nil
	}
	if i := slices.IndexFunc(s.Moves.Out, func(m weir.Move) bool { return m.ID == id }); i >= 0 {
		return &s.Moves.Out[i]
	}
	return nil
}

// Arrival returns the import with that id, nil if there is none or it has ended.
func (s *State) Arrival(id weir.MoveID) *Arrival {
	if s.Moves == nil {
		return nil
	}
	if i := slices.IndexFunc(s.Moves.In, func(a *Arrival) bool { return a.ID == id }); i >= 0 {
		return s.Moves.In[i]
	}
	return nil
}

// Arriving reports whether a slice is in an import that is not confirmed.
func (s *State) Arriving(slice weir.Slice) bool {
	return s.Moves != nil && slices.ContainsFunc(s.Moves.In, func(a *Arrival) bool { return a.Slices.Has(slice) })
}

// MoveEnded returns how a move ended here, 0 if it did not, or so long ago that this is
// forgotten.
func (s *State) MoveEnded(id weir.MoveID) MoveEnd {
	if s.Moves == nil {
		return 0
	}
	if i := slices.IndexFunc(s.Moves.Ended, func(x EndedMove) bool { return x.ID == id }); i >= 0 {
		return s.Moves.Ended[i].End
	}
	return 0
}

// ForgetsMoves reports whether the log may have forgotten how a move ended.
func (s *State) ForgetsMoves() bool { return s.Moves != nil && len(s.Moves.Ended) >= maxEnded }

func (s *State) endMove(id weir.MoveID, end MoveEnd) {
	m := s.moves()
	m.Ended = append(slices.Clone(m.Ended), EndedMove{id, end})
	m.Ended = m.Ended[max(0, len(m.Ended)-maxEnded):]
}

// bias returns the bias of the leader epochs of a partition's slice.
func (s *State) bias(key Place) int32 {
	if s.Moves == nil || len(s.Moves.Biases) == 0 {
		return 0
	}
	return s.Moves.Biases[key.SliceOf()]
}

// MoveEffect is what an entry about a move means to Machines that have things in slices.
type MoveEffect struct {
	Remove  weir.SliceSet // these are gone
	Arrived bool          // slices have come
	Import  sections      // and with them this
}

// ApplyMove is Apply for an entry of kind KindMovedOut or KindImported, and tells what it
// means to the Machines.
func (s *State) ApplyMove(pos journal.Position, e journal.Entry) (effect MoveEffect, err error) {
	x, err := decodeMove(e.Kind, e.Body)
	if err != nil {
		return effect, err
	}
	switch {
	case e.Kind == KindMovedOut && x.op == opMovedOut:
		effect.Remove = x.move.Slices
		return effect, s.moveOut(x.move)
	case e.Kind == KindMovedOut && x.op == opVoid:
		return effect, s.void(x.move.ID)
	case e.Kind == KindMovedOut:
		return effect, s.settle(x.move.ID)
	case x.op == opPart:
		return effect, s.arrive(x)
	case x.op == opConfirmed:
		effect.Arrived = true
		effect.Import, err = s.confirm(pos, x.move.ID)
		return effect, err
	}
	return effect, s.cancel(x.move.ID)
}

// EndsMove reports whether an entry ends a move for the shard that has the slices: it is
// decided, or given up. It returns the id of the move.
func EndsMove(e journal.Entry) (weir.MoveID, bool) {
	if e.Kind != KindMovedOut {
		return weir.MoveID{}, false
	}
	x, err := decodeMove(e.Kind, e.Body)
	return x.move.ID, err == nil && x.op != opSettled
}

// moveOut applies that slices are in another shard now: the log forgets them.
func (s *State) moveOut(m weir.Move) error {
	if s.MovedOut(m.ID) != nil || s.MoveEnded(m.ID) != 0 {
		return s.broken("move %v of slices moved out, and was so before or was given up", m.ID)
	}
	if err := s.Separated(m.Slices); err != nil {
		if err := s.broken("move %v: %v", m.ID, err); err != nil {
			return err
		}
	}
	ms := s.moves()
	var hidden []weir.TopicID
	for id, t := range s.Topics {
		for i, p := range t.Parts {
			if !m.Slices.Has(p.Key.SliceOf()) {
				continue
			}
			for k := range p.Pieces {
				s.lend(p.Pieces[k].Segment)
			}
			t.Parts[i] = &Partition{Key: p.Key, Bias: p.Bias}
			s.changed(p)
			if weir.Hidden(t.Name) {
				hidden = append(hidden, id)
			}
		}
	}
	for _, id := range hidden {
		if err := s.deleteTopic(id); err != nil {
			return err
		}
	}
	s.forgetMarks(m.Slices)
	ms.Away = ms.Away.With(m.Slices)
	ms.Out = append(slices.Clone(ms.Out), m)
	return nil
}

// lend notes that a piece is in the log of another shard now.
func (s *State) lend(id SegmentID) {
	if s.Segments[id]--; s.Segments[id] > 0 {
		return
	}
	delete(s.Segments, id)
	if id.Other == 0 && id.Epoch > s.Cleaned {
		s.Moves.Lent[id] = true
	}
}

// Separated returns an error if something of the slices lies in an object together with
// something else, or in slots.
func (s *State) Separated(set weir.SliceSet) error {
	mine := make(map[SegmentID]int)
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			if !set.Has(p.Key.SliceOf()) {
				continue
			}
			if len(p.Index) > 0 {
				return fmt.Errorf("%v has records in slots", p.Key)
			}
			for i := range p.Pieces {
				id := p.Pieces[i].Segment
				if id.Slot {
					return fmt.Errorf("%v has records in slot %v", p.Key, id.Position())
				}
				mine[id]++
			}
		}
	}
	for id, n := range mine {
		if n != s.Segments[id] {
			return fmt.Errorf("segment %d/%d has %d pieces, and %d of them are in the slices", id.Epoch, id.Number, s.Segments[id], n)
		}
	}
	return nil
}

// void applies that a move is given up, which was not decided.
func (s *State) void(id weir.MoveID) error {
	if s.MovedOut(id) != nil || s.MoveEnded(id) != 0 {
		return s.broken("move %v of slices is given up, and has ended before", id)
	}
	s.endMove(id, MoveVoid)
	return nil
}

// settle applies that the other shard has confirmed a move.
func (s *State) settle(id weir.MoveID) error {
	if s.MovedOut(id) == nil {
		return s.broken("move %v of slices is settled, and did not move out", id)
	}
	s.Moves.Out = slices.DeleteFunc(slices.Clone(s.Moves.Out), func(m weir.Move) bool { return m.ID == id })
	s.endMove(id, MoveSettled)
	return nil
}

// arrive applies a part of an import.
func (s *State) arrive(x moveEntry) error {
	a := s.Arrival(x.move.ID)
	switch {
	case s.MoveEnded(x.move.ID) != 0:
		return s.broken("move %v of slices is imported, and has ended before", x.move.ID)
	case a == nil && x.part > 0 || a != nil && (a.Move != x.move || x.part != a.Parts || x.of != a.Of):
		return s.broken("part %d of %d of move %v of slices follows another one", x.part, x.of, x.move.ID)
	case a == nil:
		a = &Arrival{Move: x.move, Of: x.of, dropped: make(map[weir.TopicID]bool)}
		ms := s.moves()
		ms.In = append(slices.Clone(ms.In), a)
	}
	a.Body = append(slices.Clip(a.Body), x.body...)
	a.Parts++
	return nil
}

// cancel applies that the slices of an import did not move out of the other shard.
func (s *State) cancel(id weir.MoveID) error {
	if s.Arrival(id) == nil {
		return s.broken("import %v of slices is cancelled, and there is none", id)
	}
	s.forgetArrival(id)
	s.endMove(id, MoveCancelled)
	return nil
}

func (s *State) forgetArrival(id weir.MoveID) {
	s.Moves.In = slices.DeleteFunc(slices.Clone(s.Moves.In), func(a *Arrival) bool { return a.ID == id })
}

// confirm applies that the slices of an import are in this shard now.
func (s *State) confirm(pos journal.Position, id weir.MoveID) (sections, error) {
	a := s.Arrival(id)
	if a == nil || !a.Whole() {
		return nil, s.broken("import %v of slices is confirmed, and is not here", id)
	}
	other, all, err := DecodeExport(a.Move, a.Body)
	if err != nil {
		return nil, s.broken("import %v of slices: %v", id, err)
	}
	s.forgetArrival(id)
	s.endMove(id, MoveConfirmed)
	s.Moves.Away = s.Moves.Away.Without(a.Slices)
	s.raise(a.Slices, other.Moves.Biases, pos)
	s.Catalogue = later(s.Catalogue, other.Catalogue)
	var unused []SegmentID
	for _, topic := range sortedTopics(other.Topics) {
		dead, err := s.take(a, other.Topics[topic])
		if err != nil {
			return nil, err
		}
		unused = append(unused, dead...)
	}
	for _, id := range unused {
		if s.Segments[id] == 0 && !slices.Contains(s.Garbage, id) {
			s.discard(id)
		}
	}
	s.takeGateways(other)
	return all, nil
}

// raise gives slices a bias, so that their leader epochs from pos on are above those that
// they had in the other shard.
func (s *State) raise(set weir.SliceSet, leaders map[weir.Slice]int32, pos journal.Position) {
	for slice := range set.All() {
		bias := int64(leaders[slice]) + 1 - int64(pos.Epoch)
		if delete(s.Moves.Biases, slice); bias > 0 {
			s.Moves.Biases[slice] = int32(min(bias, math.MaxInt32))
		}
	}
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			p.Bias = s.bias(p.Key)
		}
	}
}

// take takes over the partitions of a topic that are in the slices of an import. If the
// topic was dropped meanwhile, it returns their segments, which nothing refers to.
func (s *State) take(a *Arrival, t *TopicData) (unused []SegmentID, err error) {
	_, dropped := s.Dropped[t.ID]
	if dropped = dropped || a.dropped[t.ID]; !dropped {
		if err := s.openTaken(t); err != nil {
			return nil, err
		}
	}
	for _, p := range t.Parts {
		switch mine := s.Partition(p.Key); {
		case p.End == 0 || !a.Slices.Has(p.Key.SliceOf()):
		case dropped:
			for i := range p.Pieces {
				unused = append(unused, p.Pieces[i].Segment)
			}
		case mine == nil || mine.End > 0:
			if err := s.broken("%v is imported, and is not there or has records", p.Key); err != nil {
				return nil, err
			}
		default:
			s.takePartition(mine, p)
		}
	}
	return unused, nil
}

func (s *State) takePartition(mine, p *Partition) {
	mine.Start, mine.End, mine.Bytes = p.Start, p.End, p.Bytes
	mine.Pieces, mine.Producers, mine.Aborted, mine.Epochs = p.Pieces, p.Producers, p.Aborted, p.Epochs
	for i := range p.Pieces {
		s.hold(&p.Pieces[i])
		delete(s.Moves.Lent, p.Pieces[i].Segment) // it has come back
	}
	s.changed(mine)
}

// openTaken makes a topic of an import exist. The topic of a vhost is in no catalogue, and
// neither is one that a repair has found.
func (s *State) openTaken(t *TopicData) error {
	switch {
	case !t.Opened.IsZero():
		return s.openTopic(t.Topic, t.Opened)
	case s.Topics[t.ID] != nil:
		return nil
	}
	return s.createTopic(t.Topic)
}

// takeGateways takes over the marks and tombstones of an import. What is retired in one
// of the two shards is retired.
func (s *State) takeGateways(other *State) {
	for name, g := range other.Gateways {
		mine := s.gateway(name)
		for _, id := range g.retired {
			delete(mine.Buffers, id)
			if at, found := slices.BinarySearchFunc(mine.retired, id, weir.BufferID.Compare); !found {
				mine.retired = slices.Insert(mine.retired, at, id)
			}
		}
		mine.forgotten = mine.forgotten || g.forgotten || len(mine.retired) > tombstones
		mine.retired = slices.Delete(mine.retired, 0, max(0, len(mine.retired)-tombstones))
		for id, b := range g.Buffers {
			if mine.state(id) != weir.BufferRetired {
				mine.take(s, id, b)
			}
		}
	}
}

// take takes over the marks of a buffer, but for those in topics that were dropped.
func (g *gateway) take(s *State, id weir.BufferID, b *progress) {
	mine := g.Buffers[id]
	if mine == nil {
		mine = newProgress()
		g.Buffers[id] = mine
	}
	for lane, reached := range b.Reached {
		mine.Reached[lane] = max(mine.Reached[lane], reached)
	}
	for key, last := range b.Marks {
		if s.Partition(key.Place) != nil {
			mine.Marks[key] = last
		}
	}
	for key, row := range b.Rows {
		if old, found := mine.Rows[key]; s.Topics[key.Topic] != nil && (!found || old.Before(row)) {
			mine.Rows[key] = row
		}
	}
}

// forgetMarks drops the marks in slices, and the rows of topics without a mark.
func (s *State) forgetMarks(set weir.SliceSet) {
	for _, g := range s.Gateways {
		for _, b := range g.Buffers {
			used := make(map[rowKey]bool, len(b.Rows))
			for k := range b.Marks {
				if set.Has(k.Place.SliceOf()) {
					delete(b.Marks, k)
				} else {
					used[k.row()] = true
				}
			}
			for k := range b.Rows {
				if !used[k] {
					delete(b.Rows, k)
				}
			}
		}
	}
}

// setLayout applies the map of slices, or the number of shards.
func (s *State) setLayout(e journal.Entry) error {
	l, err := s.Layout.With(e)
	if err == nil {
		s.Layout = l
	}
	return err
}
