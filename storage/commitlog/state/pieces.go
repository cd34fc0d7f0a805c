package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// Piece says where the records of a range of offsets lie in a segment. There may
// be a million: 64 bytes.
//
// If the segment is a slot the piece is the batches of one run, as they are in the slot,
// without an index.
type Piece struct {
	Base, Next int64
	Time       int64 // highest timestamp; segment.NoTime if it has no records
	Segment    SegmentID
	At, Size   uint32
	Index      uint32 // bytes of the index; of a slot, of all records that were in it when it was adopted
	Records    uint32
}

// Ref returns the piece in the form that the segment's reader takes. One in a slot has
// no index.
func (p *Piece) Ref(key Place) segment.Piece {
	x := segment.Piece{
		Topic: key.Topic, Partition: key.Partition, Base: p.Base, Next: p.Next, MaxTime: p.Time,
		At: p.At, Size: p.Size, Index: p.Index, Records: p.Records,
	}
	if p.Segment.Slot {
		x.Index = 0
	}
	return x
}

// Data is how many bytes of batches the piece has.
func (p *Piece) Data() int64 {
	if p.Segment.Slot {
		return int64(p.Size)
	}
	return int64(p.Size - p.Index)
}

// check returns an error for numbers that no piece has.
func (p *Piece) check() error {
	if !p.Segment.Slot {
		return p.Ref(Place{}).Check()
	}
	if p.Base < 0 || p.Next <= p.Base || p.Size < record.HeaderSize || p.Index < p.Size || int64(p.At)+int64(p.Size) > journal.MaxSlot || p.Records == 0 {
		return fmt.Errorf("%w: piece of offsets %d to %d with %d bytes at %d of a slot", ErrCorrupt, p.Base, p.Next, p.Size, p.At)
	}
	return nil
}

// Placed is a piece and the partition that it belongs to.
type Placed struct {
	Key Place
	Piece
}

// install puts pieces of new segments in the place of extents or older pieces. It
// ignores a piece whose partition, or whose records, no longer exist.
func (s *State) install(pos journal.Position, all []Placed) error {
	made := make(map[SegmentID]bool)
	for i := range all {
		if made[all[i].Segment] {
			continue
		}
		made[all[i].Segment] = true
		if all[i].Segment.Other != 0 {
			return s.broken("segment %d/%d of shard %d is installed in the log of another one", all[i].Segment.Epoch, all[i].Segment.Number, all[i].Segment.Other-1)
		}
		if all[i].Segment.Slot {
			if !all[i].Segment.Position().Before(pos) {
				return s.broken("slot %v is adopted in slot %v", all[i].Segment.Position(), pos)
			}
			continue
		}
		_, known := s.Segments[all[i].Segment]
		if known || slices.Contains(s.Garbage, all[i].Segment) || all[i].Segment.Epoch != pos.Epoch {
			return s.broken("segment %d/%d is installed in epoch %d, or twice", all[i].Segment.Epoch, all[i].Segment.Number, pos.Epoch)
		}
	}
	for i := range all {
		p := s.Partition(all[i].Key)
		if p == nil || all[i].Next <= p.Start {
			continue
		}
		if err := s.installOne(p, all[i].Piece); err != nil {
			return err
		}
	}
	s.reviveSlots(made)
	for id := range made {
		if !id.Slot && s.Segments[id] == 0 || id.Slot && !s.Slots.Has(id.Position()) && !slices.Contains(s.Garbage, id) {
			s.discard(id)
		}
	}
	return nil
}

// reviveSlots takes slots out of the garbage that have live pieces again: of two
// partitions in a slot, one may have been adopted and trimmed before the other was
// adopted. Such a slot still exists: it is not deleted before all runs in it, and in the
// slots before it, have found another place.
func (s *State) reviveSlots(made map[SegmentID]bool) {
	s.Garbage = slices.DeleteFunc(slices.Clone(s.Garbage), func(id SegmentID) bool {
		return id.Slot && made[id] && s.Slots.Has(id.Position())
	})
}

func (s *State) installOne(p *Partition, x Piece) error {
	if end := p.segmented(); x.Base >= end {
		n, err := p.covered(x)
		if err == nil && x.Segment.Slot && !x.is(&p.Index[0], n) {
			err = fmt.Errorf("%v: the run with offsets %d to %d is not where it was adopted, in slot %v", p.Key, x.Base, x.Next, x.Segment.Position())
		}
		if err == nil && len(p.Pieces) > 0 && x.Base != end {
			err = fmt.Errorf("%v: a piece begins at offset %d, the one before ends at %d", p.Key, x.Base, end)
		}
		if err != nil {
			return s.broken("%v", err)
		}
		for _, old := range p.Index[:n] {
			p.Bytes -= int64(old.Size)
		}
		p.Pieces = append(p.Pieces, x)
		p.Index = slices.Clone(p.Index[n:])
	} else {
		from, to := p.replaced(x)
		if from < 0 || x.Segment.Slot {
			return s.broken("%v: a piece with offsets %d to %d replaces parts of others", p.Key, x.Base, x.Next)
		}
		for _, old := range p.Pieces[from:to] {
			p.Bytes -= old.Data()
			s.release(&old)
		}
		p.Pieces = slices.Concat(p.Pieces[:from], []Piece{x}, p.Pieces[to:])
	}
	p.Bytes += x.Data()
	s.hold(&x)
	return nil
}

// is reports whether a piece in a slot is the run of an extent, the only one that it
// takes the place of.
func (p *Piece) is(x *Extent, extents int) bool {
	return extents == 1 && p.Segment == SlotID(x.Position()) && p.Base == x.Base && p.At == x.At && p.Size == x.Size && p.Time == x.Time &&
		int64(p.Records) == p.Next-p.Base
}

// segmented is the offset before which a partition lies in segments.
func (p *Partition) segmented() int64 {
	if n := len(p.Pieces); n > 0 {
		return p.Pieces[n-1].Next
	}
	return 0
}

// covered returns how many extents a piece replaces: whole ones, from the first on.
// Some of them may have been trimmed away while the piece was made.
func (p *Partition) covered(x Piece) (int, error) {
	n := 0
	for n < len(p.Index) && p.Index[n].Base < x.Next {
		n++
	}
	begins := n > 0 && (p.Index[0].Base == x.Base || p.Index[0].Base > x.Base && x.Base < p.Start)
	if !begins || p.NextOf(n-1) != x.Next {
		return 0, fmt.Errorf("%v: a piece with offsets %d to %d is not a sequence of runs", p.Key, x.Base, x.Next)
	}
	return n, nil
}

// NextOf is the offset behind the run of the i-th extent.
func (p *Partition) NextOf(i int) int64 {
	if i+1 < len(p.Index) {
		return p.Index[i+1].Base
	}
	return p.End
}

// replaced finds the pieces that x replaces; from is -1 if x would replace only a part
// of one. The first of them may have been trimmed away while x was made.
func (p *Partition) replaced(x Piece) (from, to int) {
	from, _ = slices.BinarySearchFunc(p.Pieces, x.Base, func(q Piece, base int64) int { return cmp.Compare(q.Base, base) })
	to = from
	for to < len(p.Pieces) && p.Pieces[to].Next <= x.Next {
		to++
	}
	trimmed := from == 0 && x.Base < p.Start
	if to == from || p.Pieces[from].Base != x.Base && !trimmed || p.Pieces[to-1].Next != x.Next {
		return -1, -1
	}
	return from, to
}

// CountPieces returns how many pieces the log has.
func (s *State) CountPieces() (n int) {
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			n += len(p.Pieces)
		}
	}
	return n
}

// hold notes that a segment has one live piece more.
func (s *State) hold(x *Piece) {
	if x.Segment.Slot {
		s.Slots.hold(x)
	} else {
		s.Segments[x.Segment]++
	}
}

// release notes that a segment has one live piece less.
func (s *State) release(x *Piece) {
	if x.Segment.Slot {
		if s.Slots.release(x) {
			s.discard(x.Segment)
		}
		return
	}
	if s.Segments[x.Segment]--; s.Segments[x.Segment] <= 0 {
		s.discard(x.Segment)
	}
}

// discard adds a segment without live pieces to the garbage.
func (s *State) discard(id SegmentID) {
	delete(s.Segments, id)
	s.Garbage = append(s.Garbage, id)
}

// trim moves the first offset of a partition, and drops what lies below.
func (s *State) trim(key Place, start int64) error {
	p := s.Partition(key)
	if p == nil {
		return nil // its topic was deleted first
	}
	if stable := p.Stable(p.End); start > stable {
		return s.broken("%v begins at offset %d, beyond its last stable one %d", key, start, stable)
	}
	if start <= p.Start {
		return nil
	}
	p.Start = start
	p.Aborted = behind(p.Aborted, start)
	p.Epochs = p.Epochs.trim(start)
	n := 0
	for n < len(p.Pieces) && p.Pieces[n].Next <= start {
		p.Bytes -= p.Pieces[n].Data()
		s.release(&p.Pieces[n])
		n++
	}
	if n > 0 {
		p.Pieces = slices.Clone(p.Pieces[n:])
	}
	n = 0
	for n < len(p.Index) && p.NextOf(n) <= start {
		p.Bytes -= int64(p.Index[n].Size)
		n++
	}
	if n > 0 {
		p.Index = slices.Clone(p.Index[n:])
	}
	p.Wake()
	return nil
}

// sweep forgets garbage that was deleted. In all epochs up to cleaned, no segment is
// left that was never installed; before truncated only slots are left that serve as
// segments.
func (s *State) sweep(cleaned uint64, truncated journal.Position, ids []SegmentID) error {
	s.Cleaned = max(s.Cleaned, cleaned)
	if s.Moves != nil {
		maps.DeleteFunc(s.Moves.Lent, func(id SegmentID, _ bool) bool { return id.Epoch <= s.Cleaned })
	}
	if s.truncated.Before(truncated) {
		s.truncated = truncated
	}
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			if len(p.Index) > 0 && p.Index[0].Position().Before(s.truncated) {
				return s.broken("%v has records in slot %v, and all before %v are deleted", p.Key, p.Index[0].Position(), s.truncated)
			}
		}
	}
	gone := make(map[SegmentID]bool, len(ids))
	for _, id := range ids {
		gone[id] = true
	}
	s.Garbage = slices.DeleteFunc(slices.Clone(s.Garbage), func(id SegmentID) bool { return gone[id] })
	return nil
}

// minPlaced is the bytes that a piece takes at least in an entry.
const minPlaced = 16 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1

// MaxSwept is the bytes that a segment takes at most in an entry of swept ones.
const MaxSwept = 1 + 5 + 2*10

func appendPiece(p []byte, x *Piece, version byte) []byte {
	p = binary.AppendUvarint(p, uint64(x.Base))
	p = binary.AppendUvarint(p, uint64(x.Next-x.Base))
	p = binary.AppendVarint(p, x.Time)
	p = x.Segment.append(p, version)
	p = binary.AppendUvarint(p, uint64(x.At))
	p = binary.AppendUvarint(p, uint64(x.Size))
	p = binary.AppendUvarint(p, uint64(x.Index))
	return binary.AppendUvarint(p, uint64(x.Records))
}

func (d *decoder) piece(version byte) Piece {
	x := Piece{Base: d.offset()}
	x.Next = x.Base + d.offset()
	x.Time = d.Varint()
	x.Segment = d.segmentID(version)
	x.At, x.Size, x.Index, x.Records = d.uvarint32(), d.uvarint32(), d.uvarint32(), d.uvarint32()
	if x.check() != nil {
		d.Fail()
	}
	return x
}

// EncodeInstalled says which pieces take the place of runs or of older pieces.
//
// level is that of the bucket.
func EncodeInstalled(all []Placed, level int) []byte {
	version := idVersion(level)
	p := binary.BigEndian.AppendUint32([]byte{version}, uint32(len(all)))
	for i := range all {
		p = append(p, all[i].Key.Topic[:]...)
		p = binary.AppendUvarint(p, uint64(all[i].Key.Partition))
		p = appendPiece(p, &all[i].Piece, version)
	}
	return p
}

func decodeInstalled(body []byte) ([]Placed, error) {
	d, version, err := newVersionDecoder("segments-installed", body, flaggedIDs)
	if err != nil {
		return nil, err
	}
	all := make([]Placed, d.count(d.Uint32(), minPlaced))
	for i := range all {
		all[i].Key = Place{d.ID(), int32(d.uvarint32())}
		all[i].Piece = d.piece(version)
		if all[i].Key.Partition < 0 {
			d.Fail()
		}
	}
	return all, d.end()
}

// EncodeTrimmed says where a partition begins from now on.
func EncodeTrimmed(key Place, start int64) []byte {
	p := append([]byte{bodyVersion}, key.Topic[:]...)
	p = binary.BigEndian.AppendUint32(p, uint32(key.Partition))
	return binary.BigEndian.AppendUint64(p, uint64(start))
}

func decodeTrimmed(body []byte) (key Place, start int64, err error) {
	d, err := newDecoder("partition-trimmed", body)
	if err != nil {
		return key, 0, err
	}
	key, start = Place{d.ID(), int32(d.Uint32())}, int64(d.Uint64())
	if key.Partition < 0 || start < 0 {
		d.Fail()
	}
	return key, start, d.end()
}

// EncodeSwept says what was deleted.
// level is that of the bucket.
func EncodeSwept(cleaned uint64, truncated journal.Position, ids []SegmentID, level int) []byte {
	version := idVersion(level)
	p := binary.BigEndian.AppendUint64([]byte{version}, cleaned)
	p = binary.BigEndian.AppendUint64(p, truncated.Epoch)
	p = binary.BigEndian.AppendUint64(p, truncated.Slot)
	p = binary.BigEndian.AppendUint32(p, uint32(len(ids)))
	for _, id := range ids {
		p = id.append(p, version)
	}
	return p
}

func decodeSwept(body []byte) (cleaned uint64, truncated journal.Position, ids []SegmentID, err error) {
	d, version, err := newVersionDecoder("segments-swept", body, flaggedIDs)
	if err != nil {
		return 0, truncated, nil, err
	}
	cleaned = d.Uint64()
	truncated = journal.Position{Epoch: d.Uint64(), Slot: d.Uint64()}
	ids = make([]SegmentID, d.count(d.Uint32(), 2))
	for i := range ids {
		ids[i] = d.segmentID(version)
	}
	return cleaned, truncated, ids, d.end()
}
