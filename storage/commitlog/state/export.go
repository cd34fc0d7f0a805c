package state

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// An export is what a log and its Machines have of some slices. It has the form of a
// checkpoint: a state that has nothing but that, and a section for each Machine.

// Slicer is a Machine that has things in slices.
type Slicer interface {
	Machine

	// Export returns what the Machine has of the slices, nil if that is nothing. Equal
	// states give equal bytes. It is called like Snapshot.
	Export(weir.SliceSet) []byte

	// Import adds what Export of the Machine of another log has returned. Nothing of
	// these slices is there. It is called like Apply, and as Apply must depend on nothing
	// else than what was applied. It may keep body.
	Import(body []byte) error

	// Remove forgets what the Machine has of the slices: they are in another shard now.
	// It is called like Apply.
	Remove(weir.SliceSet)
}

// Sliced is a Slicer that can tell what its entries are about. While slices of its log are
// being moved, it goes on with the others; entries for other Slicers are refused.
type Sliced interface {
	Slicer

	// SliceOf returns the slice that an entry is about; false: of none, or of several. It
	// is called before the entry is admitted, concurrently with everything else.
	SliceOf(kind uint16, body []byte) (weir.Slice, bool)
}

// Departing returns a state with what the log of shard m.From has of the slices of a move,
// as the log of shard m.To will refer to it. epoch is the leader epoch of the owner, without
// bias, and at the end of the log, which is the position of the catalogue if this is its
// shard. The result shares memory with s, and is only good for Append.
//
// Errors: those of Separated, and topics that are being deleted.
func (s *State) Departing(m weir.Move, epoch int32, at journal.Position) (*State, error) {
	if err := s.Separated(m.Slices); err != nil {
		return nil, err
	}
	x := Empty()
	x.Catalogue = s.Catalogue
	if m.From == 0 {
		x.Catalogue = at
	}
	ms := x.moves()
	ms.Out = []weir.Move{m}
	for slice := range m.Slices.All() {
		leader := int64(epoch)
		if s.Moves != nil {
			leader += int64(s.Moves.Biases[slice])
		}
		if leader >= math.MaxInt32 {
			return nil, fmt.Errorf("leader epoch %d cannot grow", leader)
		}
		ms.Biases[slice] = int32(leader)
	}
	for id, t := range s.Topics {
		if moved := t.departing(m); moved != nil {
			if !t.Deleting.IsZero() {
				return nil, fmt.Errorf("topic %q is being deleted", t.Name)
			}
			if m.From == 0 && !weir.Hidden(t.Name) {
				moved.Opened = at
			}
			for _, p := range moved.Parts {
				p.Bias = x.bias(p.Key)
			}
			x.Topics[id] = moved
		}
	}
	for name, g := range s.Gateways {
		if moved := g.departing(x, m.Slices); moved != nil {
			x.Gateways[name] = moved
		}
	}
	return x, nil
}

// departing returns the topic with what it has in the slices of a move, nil if that is
// nothing.
func (t *TopicData) departing(m weir.Move) *TopicData {
	moved := &TopicData{Topic: t.Topic, Opened: t.Opened}
	some := false
	for _, p := range t.Parts {
		q := &Partition{Key: p.Key}
		if m.Slices.Has(p.Key.SliceOf()) && (p.End > 0 || weir.Hidden(t.Name)) {
			some = true
			*q = Partition{Key: p.Key, Start: p.Start, End: p.End, Producers: p.Producers, Aborted: p.Aborted, Epochs: p.Epochs}
			q.Pieces = make([]Piece, len(p.Pieces))
			for i, x := range p.Pieces {
				switch x.Segment.Other {
				case 0:
					x.Segment.Other = 1 + m.From
				case 1 + m.To:
					x.Segment.Other = 0
				}
				q.Pieces[i] = x
			}
		}
		moved.Parts = append(moved.Parts, q)
	}
	if !some {
		return nil
	}
	return moved
}

// departing returns what is known of the gateway that is needed where some slices are:
// its marks there, and all of its tombstones. It returns nil if that is nothing.
func (g *gateway) departing(x *State, set weir.SliceSet) *gateway {
	moved := &gateway{Buffers: make(map[weir.BufferID]*progress), retired: g.retired, forgotten: g.forgotten}
	for id, b := range g.Buffers {
		some := newProgress()
		for key, last := range b.Marks {
			if set.Has(key.Place.SliceOf()) && x.Topics[key.Place.Topic] != nil {
				some.Marks[key] = last
				if row, found := b.Rows[key.row()]; found {
					some.Rows[key.row()] = row
				}
			}
		}
		if len(some.Marks) > 0 {
			some.Reached = b.Reached
			moved.Buffers[id] = some
		}
	}
	if len(moved.Buffers)+len(moved.retired) == 0 {
		return nil
	}
	return moved
}

// slicers lists the Machines that have things in slices, by their lowest kind.
func (ms Machines) slicers() map[uint16]Slicer {
	all := make(map[uint16]Slicer)
	for _, kind := range ms.lowest() {
		if m, ok := ms[kind].(Slicer); ok {
			all[kind] = m
		}
	}
	return all
}

// Export encodes an export: the encoded state that Departing has returned, and what each
// Machine has of the slices.
func (ms Machines) Export(departing []byte, set weir.SliceSet) []byte {
	p := binary.BigEndian.AppendUint32([]byte{bodyVersion}, uint32(len(departing)))
	p = append(p, departing...)
	slicers := ms.slicers()
	for _, kind := range ms.lowest() {
		if slicers[kind] == nil {
			continue
		}
		body := slicers[kind].Export(set)
		if len(body) == 0 {
			continue
		}
		p = binary.BigEndian.AppendUint16(p, kind)
		p = binary.BigEndian.AppendUint32(p, uint32(len(body)))
		p = append(p, body...)
	}
	return p
}

// DecodeExport is the inverse of Machines.Export. The sections are undecoded, and alias
// body.
func DecodeExport(m weir.Move, body []byte) (*State, sections, error) {
	s, all, err := DecodeCheckpoint(body)
	if err != nil {
		return nil, nil, err
	}
	if s.Moves == nil || len(s.Moves.Out) != 1 || s.Moves.Out[0] != m {
		return nil, nil, fmt.Errorf("%w: it is not an export for move %v", ErrCorrupt, m.ID)
	}
	return s, all, nil
}

// CheckImport returns ErrFormat if there is a section that no Slicer wants.
func (ms Machines) CheckImport(all sections) error {
	slicers := ms.slicers()
	for _, x := range all {
		if slicers[x.kind] == nil {
			return errKind("part of an import for a machine", x.kind)
		}
	}
	return nil
}

// Take lets the Machines apply what an entry about a move means to them.
func (ms Machines) Take(effect MoveEffect) error {
	slicers := ms.slicers()
	if effect.Remove.Len() > 0 {
		for _, kind := range ms.lowest() {
			if m := slicers[kind]; m != nil {
				m.Remove(effect.Remove)
			}
		}
	}
	if err := ms.CheckImport(effect.Import); err != nil {
		return err
	}
	for _, x := range effect.Import {
		if err := slicers[x.kind].Import(x.body); err != nil {
			return fmt.Errorf("machine of kind %d: %w", x.kind, err)
		}
	}
	return nil
}
