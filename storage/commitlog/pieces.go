package commitlog

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/weir"
)

// segmentID names a segment object: the epoch of the owner that made it, and its
// number in that epoch.
type segmentID struct {
	epoch  uint64
	number uint64
}

func (id segmentID) compare(other segmentID) int {
	return cmp.Or(cmp.Compare(id.epoch, other.epoch), cmp.Compare(id.number, other.number))
}

// piece says where the records of a range of offsets lie in a segment. There may
// be a million: 64 bytes.
type piece struct {
	base, next int64
	time       int64 // highest timestamp; segment.NoTime if it has no records
	segment    segmentID
	at, size   uint32
	index      uint32
	records    uint32
}

// ref is the piece as the segment's reader wants it.
func (p *piece) ref(key placeKey) segment.Piece {
	return segment.Piece{
		Topic: key.topic, Partition: key.partition, Base: p.base, Next: p.next, MaxTime: p.time,
		At: p.at, Size: p.size, Index: p.index, Records: p.records,
	}
}

// data is how many bytes of batches the piece has.
func (p *piece) data() int64 { return int64(p.size - p.index) }

// placed is a piece and the partition that it belongs to.
type placed struct {
	key placeKey
	piece
}

// install puts pieces of new segments where extents or older pieces were. A
// piece whose partition is gone, or whose records are, is dead on arrival.
func (s *state) install(pos journal.Position, all []placed) error {
	made := make(map[segmentID]bool)
	for i := range all {
		if made[all[i].segment] {
			continue
		}
		made[all[i].segment] = true
		_, known := s.segments[all[i].segment]
		if known || slices.Contains(s.garbage, all[i].segment) || all[i].segment.epoch != pos.Epoch {
			return s.broken("segment %d/%d is installed in epoch %d, or twice", all[i].segment.epoch, all[i].segment.number, pos.Epoch)
		}
	}
	for i := range all {
		p := s.partition(all[i].key)
		if p == nil || all[i].next <= p.start {
			continue
		}
		if err := s.installOne(p, all[i].piece); err != nil {
			return err
		}
	}
	for id := range made {
		if s.segments[id] == 0 {
			s.discard(id)
		}
	}
	return nil
}

func (s *state) installOne(p *partition, x piece) error {
	if end := p.segmented(); x.base >= end {
		n, err := p.covered(x)
		if err == nil && len(p.pieces) > 0 && x.base != end {
			err = fmt.Errorf("%v: a piece begins at offset %d, the one before ends at %d", p.key, x.base, end)
		}
		if err != nil {
			return s.broken("%v", err)
		}
		for _, old := range p.index[:n] {
			p.bytes -= int64(old.size)
		}
		p.pieces = append(p.pieces, x)
		p.index = slices.Clone(p.index[n:])
	} else {
		from, to := p.replaced(x)
		if from < 0 {
			return s.broken("%v: a piece with offsets %d to %d replaces parts of others", p.key, x.base, x.next)
		}
		for _, old := range p.pieces[from:to] {
			p.bytes -= old.data()
			s.release(old.segment)
		}
		p.pieces = slices.Concat(p.pieces[:from], []piece{x}, p.pieces[to:])
	}
	p.bytes += x.data()
	s.segments[x.segment]++
	return nil
}

// segmented is the offset before which a partition lies in segments.
func (p *partition) segmented() int64 {
	if n := len(p.pieces); n > 0 {
		return p.pieces[n-1].next
	}
	return 0
}

// covered counts the extents that a piece takes the place of: whole ones, from
// the first on. Some of them may have been trimmed away while it was made.
func (p *partition) covered(x piece) (int, error) {
	n := 0
	for n < len(p.index) && p.index[n].base < x.next {
		n++
	}
	begins := n > 0 && (p.index[0].base == x.base || p.index[0].base > x.base && x.base < p.start)
	if !begins || p.nextOf(n-1) != x.next {
		return 0, fmt.Errorf("%v: a piece with offsets %d to %d is no row of runs", p.key, x.base, x.next)
	}
	return n, nil
}

// nextOf is the offset behind the run of the i-th extent.
func (p *partition) nextOf(i int) int64 {
	if i+1 < len(p.index) {
		return p.index[i+1].base
	}
	return p.end
}

// replaced finds the pieces that x takes the place of; from is -1 if it takes
// the place of parts. The first of them may have been trimmed away while x was
// made.
func (p *partition) replaced(x piece) (from, to int) {
	from, _ = slices.BinarySearchFunc(p.pieces, x.base, func(q piece, base int64) int { return cmp.Compare(q.base, base) })
	to = from
	for to < len(p.pieces) && p.pieces[to].next <= x.next {
		to++
	}
	trimmed := from == 0 && x.base < p.start
	if to == from || p.pieces[from].base != x.base && !trimmed || p.pieces[to-1].next != x.next {
		return -1, -1
	}
	return from, to
}

// release notes that a segment has one live piece less.
func (s *state) release(id segmentID) {
	if s.segments[id]--; s.segments[id] <= 0 {
		s.discard(id)
	}
}

// discard puts a segment without live pieces among the garbage.
func (s *state) discard(id segmentID) {
	delete(s.segments, id)
	s.garbage = append(s.garbage, id)
}

// trim moves the first offset of a partition, and drops what lies below.
func (s *state) trim(key placeKey, start int64) error {
	p := s.partition(key)
	if p == nil {
		return nil // its topic was deleted first
	}
	if stable := p.stable(p.end); start > stable {
		return s.broken("%v begins at offset %d, beyond its last stable one %d", key, start, stable)
	}
	if start <= p.start {
		return nil
	}
	p.start = start
	p.aborted = behind(p.aborted, start)
	p.epochs = p.epochs.trim(start)
	n := 0
	for n < len(p.pieces) && p.pieces[n].next <= start {
		p.bytes -= p.pieces[n].data()
		s.release(p.pieces[n].segment)
		n++
	}
	if n > 0 {
		p.pieces = slices.Clone(p.pieces[n:])
	}
	n = 0
	for n < len(p.index) && p.nextOf(n) <= start {
		p.bytes -= int64(p.index[n].size)
		n++
	}
	if n > 0 {
		p.index = slices.Clone(p.index[n:])
	}
	p.wake()
	return nil
}

// sweep forgets garbage that was deleted. Of all epochs up to cleaned no segment
// is left that was never installed, and no slot before truncated.
func (s *state) sweep(cleaned uint64, truncated journal.Position, ids []segmentID) error {
	s.cleaned = max(s.cleaned, cleaned)
	if s.truncated.Before(truncated) {
		s.truncated = truncated
	}
	for _, t := range s.topics {
		for _, p := range t.partitions {
			if len(p.index) > 0 && p.index[0].position().Before(s.truncated) {
				return s.broken("%v has records in slot %v, and all before %v are deleted", p.key, p.index[0].position(), s.truncated)
			}
		}
	}
	gone := make(map[segmentID]bool, len(ids))
	for _, id := range ids {
		gone[id] = true
	}
	s.garbage = slices.DeleteFunc(slices.Clone(s.garbage), func(id segmentID) bool { return gone[id] })
	return nil
}

// minPlaced is the bytes that a piece takes at least in an entry.
const minPlaced = 16 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1

// maxSwept is the bytes that a segment takes at most in an entry of swept ones.
const maxSwept = 2 * 10

func appendPiece(p []byte, x *piece) []byte {
	p = binary.AppendUvarint(p, uint64(x.base))
	p = binary.AppendUvarint(p, uint64(x.next-x.base))
	p = binary.AppendVarint(p, x.time)
	p = binary.AppendUvarint(p, x.segment.epoch)
	p = binary.AppendUvarint(p, x.segment.number)
	p = binary.AppendUvarint(p, uint64(x.at))
	p = binary.AppendUvarint(p, uint64(x.size))
	p = binary.AppendUvarint(p, uint64(x.index))
	return binary.AppendUvarint(p, uint64(x.records))
}

func (d *decoder) piece() piece {
	x := piece{base: d.offset()}
	x.next = x.base + d.offset()
	x.time = d.varint()
	x.segment = segmentID{d.uvarint(), d.uvarint()}
	x.at, x.size, x.index, x.records = d.uvarint32(), d.uvarint32(), d.uvarint32(), d.uvarint32()
	if err := x.ref(placeKey{}).Check(); err != nil {
		d.bad = true
	}
	return x
}

func encodeInstalled(all []placed) []byte {
	p := binary.BigEndian.AppendUint32([]byte{bodyVersion}, uint32(len(all)))
	for i := range all {
		p = append(p, all[i].key.topic[:]...)
		p = binary.AppendUvarint(p, uint64(all[i].key.partition))
		p = appendPiece(p, &all[i].piece)
	}
	return p
}

func decodeInstalled(body []byte) ([]placed, error) {
	d, err := newDecoder("segments-installed", body)
	if err != nil {
		return nil, err
	}
	all := make([]placed, d.count(d.u32(), minPlaced))
	for i := range all {
		all[i].key = placeKey{weir.TopicID(d.take(16)), int32(d.uvarint32())}
		all[i].piece = d.piece()
		if all[i].key.partition < 0 {
			d.bad = true
		}
	}
	return all, d.end()
}

func encodeTrimmed(key placeKey, start int64) []byte {
	p := append([]byte{bodyVersion}, key.topic[:]...)
	p = binary.BigEndian.AppendUint32(p, uint32(key.partition))
	return binary.BigEndian.AppendUint64(p, uint64(start))
}

func decodeTrimmed(body []byte) (key placeKey, start int64, err error) {
	d, err := newDecoder("partition-trimmed", body)
	if err != nil {
		return key, 0, err
	}
	key, start = placeKey{weir.TopicID(d.take(16)), int32(d.u32())}, int64(d.u64())
	if key.partition < 0 || start < 0 {
		d.bad = true
	}
	return key, start, d.end()
}

func encodeSwept(cleaned uint64, truncated journal.Position, ids []segmentID) []byte {
	p := binary.BigEndian.AppendUint64([]byte{bodyVersion}, cleaned)
	p = binary.BigEndian.AppendUint64(p, truncated.Epoch)
	p = binary.BigEndian.AppendUint64(p, truncated.Slot)
	p = binary.BigEndian.AppendUint32(p, uint32(len(ids)))
	for _, id := range ids {
		p = binary.AppendUvarint(p, id.epoch)
		p = binary.AppendUvarint(p, id.number)
	}
	return p
}

func decodeSwept(body []byte) (cleaned uint64, truncated journal.Position, ids []segmentID, err error) {
	d, err := newDecoder("segments-swept", body)
	if err != nil {
		return 0, truncated, nil, err
	}
	cleaned = d.u64()
	truncated = journal.Position{Epoch: d.u64(), Slot: d.u64()}
	ids = make([]segmentID, d.count(d.u32(), 2))
	for i := range ids {
		ids[i] = segmentID{d.uvarint(), d.uvarint()}
	}
	return cleaned, truncated, ids, d.end()
}
