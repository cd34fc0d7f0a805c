package state

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// The least bytes that things take in an encoded state.
const (
	minTopic     = 1 + 1 + 16 + 4 + 8 + 2 + 1 + 2
	minPartition = 5
	minPiece     = 8
	minExtent    = 6
	minProducer  = 4
	minAborted   = 4
	minEpoch     = 1
	minGateway   = 1 + 1 + 1 + 1
	minBuffer    = 12 + 1
	minLane      = 1 + 1 + 1 + 1 + 1 + 2
	minMark      = 2
	minGarbage   = 2
)

// restorer decodes a state. Like decoder, it goes on with zeros after an error.
type restorer struct {
	decoder
	version byte
	s       *State
	order   []*TopicData // as they come: marks name them by their number
	near    near

	verifies bool  // the state is not wanted: no pieces are kept
	scratch  Piece // if verifies is set, the one at hand
}

// decodeState is the inverse of encode. It checks everything: the result keeps the
// rules that Apply keeps, and encodes to the same bytes.
//
// Errors: ErrCorrupt, ErrFormat.
func decodeState(body []byte) (*State, error) {
	return (&restorer{decoder: decoderOf(body), s: Empty()}).state()
}

func (d *restorer) state() (*State, error) {
	if d.version = d.Byte(); !d.Bad() && (d.version < 1 || d.version > movesVersion || d.version == 3) {
		return nil, fmt.Errorf("%w: state of version %d, this program knows 1, %d, %d, %d and %d", ErrFormat, d.version, stateVersion, closedVersion, openedVersion, movesVersion)
	}
	s := d.s
	s.ProducerIDs, s.Cleaned = d.Uvarint(), d.Uvarint()
	s.truncated = journal.Position{Epoch: d.Uvarint(), Slot: d.Uvarint()}
	if d.Bad() || s.ProducerIDs == 0 {
		return nil, fmt.Errorf("%w: state: its head is cut off, or has producer id 0", ErrCorrupt)
	}
	for range d.Count(minTopic) {
		if err := d.topic(); err != nil {
			return nil, err
		}
	}
	last := ""
	for i := range d.Count(minGateway) {
		name, g := d.gateway()
		if d.Bad() || i > 0 && name <= last {
			return nil, fmt.Errorf("%w: state: gateway %q after %q is cut off, or not in order", ErrCorrupt, name, last)
		}
		s.Gateways[name], last = g, name
	}
	d.garbage()
	if d.version == closedVersion || d.version >= openedVersion && d.flag() {
		s.Identity = d.identity()
		d.must(!s.Identity.Anew)
	}
	if d.version >= openedVersion {
		d.opened()
	}
	if d.version >= movesVersion {
		d.moves()
	}
	if d.err != nil {
		return nil, fmt.Errorf("state: %w", d.err)
	}
	if !d.Done() {
		return nil, fmt.Errorf("%w: state: it is cut off, or there are bytes after its end", ErrCorrupt)
	}
	return s, nil
}

// must notes that something is wrong unless ok.
func (d *restorer) must(ok bool) {
	if !ok {
		d.Fail()
	}
}

// pair is the inverse of the encoder's.
func (d *restorer) pair(major, minor uint64) (uint64, uint64) {
	up, n := d.Uvarint(), d.Uvarint()
	if up > 0 {
		d.must(up <= math.MaxUint64-major)
		return major + up, n
	}
	d.must(n <= math.MaxUint64-minor)
	return major, minor + n
}

// moment takes a time.
func (d *restorer) moment() int64 {
	d.near.time += d.Varint()
	return d.near.time
}

// behind takes the length of a range of offsets that begins at base, and returns
// what comes behind it.
func (d *restorer) behind(base int64) int64 {
	n := d.offset()
	d.must(n > 0 && n <= math.MaxInt64-base)
	return base + n
}

func (d *restorer) topic() error {
	head, err := decodeTopicCreated(d.Bytes())
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if n := len(d.order); n > 0 && compareTopics(d.order[n-1].ID, head.ID) >= 0 {
		return fmt.Errorf("%w: state: topic %v after %v is not in order", ErrCorrupt, head.ID, d.order[n-1].ID)
	}
	if int64(head.Partitions)*minPartition > int64(d.Len()) {
		return fmt.Errorf("%w: state: topic %v with %d partitions in %d bytes", ErrCorrupt, head.ID, head.Partitions, d.Len())
	}
	if err := d.s.createTopic(head); err != nil {
		return err
	}
	t := d.s.Topics[head.ID]
	d.order = append(d.order, t)
	for _, p := range t.Parts {
		if d.partition(p); d.err != nil {
			return fmt.Errorf("state: partition %d of topic %v: %w", p.Key.Partition, head.ID, d.err)
		} else if d.Bad() {
			return fmt.Errorf("%w: state: partition %d of topic %v is malformed", ErrCorrupt, p.Key.Partition, head.ID)
		}
	}
	return nil
}

func (d *restorer) partition(p *Partition) {
	p.Start = d.offset()
	if d.version >= closedVersion {
		bias := d.Uvarint()
		d.must(bias <= math.MaxInt32)
		p.Bias = int32(bias)
	}
	pieces, extents := d.Count(minPiece), d.Count(minExtent)
	next := p.Start
	if pieces+extents > 0 {
		next -= d.offset()
		d.must(next >= 0)
	}
	if pieces > 0 && !d.verifies {
		p.Pieces = make([]Piece, pieces)
	}
	for i := range pieces {
		x := &d.scratch
		if !d.verifies {
			x = &p.Pieces[i]
		}
		x.Base, x.Next = next, d.behind(next)
		d.piece(p.Key, x)
		p.Bytes += x.Data()
		next = x.Next
		d.must(i > 0 || next > p.Start)
	}
	if extents > 0 {
		p.Index = make([]Extent, extents)
	}
	last := Extent{}
	for i := range p.Index {
		x := &p.Index[i]
		x.Base, next = next, d.behind(next)
		d.extent(x, last, i == 0)
		d.must(int64(x.epoch)+int64(p.Bias) <= math.MaxInt32)
		x.Leader = p.LeaderEpoch(x.epoch)
		p.Bytes += int64(x.Size)
		last = *x
		d.must(pieces > 0 || i > 0 || next > p.Start)
	}
	p.End = next
	ps := &p.Producers
	ps.Young = d.producers(p.End, producerLimit)
	ps.Old = d.producers(p.End, producerLimit)
	if d.version == 1 {
		p.Epochs = p.indexed()
	} else {
		ps.Open = d.open(p)
		p.Aborted = d.aborted(p)
		p.Epochs = d.epochs(p)
	}
	for id := range ps.Old {
		d.must(ps.Young[id] == nil)
	}
}

// indexed returns the epochs that follow from a partition's runs. Those of records in
// segments are not known and count as the oldest, as when there are too many.
func (p *Partition) indexed() Epochs {
	var es Epochs
	if p.End > 0 && (len(p.Index) == 0 || p.Index[0].Base > p.Start) {
		es = es.Begin(1, p.Start)
	}
	for i := range p.Index {
		es = es.Begin(p.Index[i].Leader, max(p.Start, p.Index[i].Base))
	}
	return es
}

func (d *restorer) piece(key Place, x *Piece) {
	x.Time = d.moment()
	d.near.segment = d.segment(d.near.segment)
	x.Segment = d.near.segment
	x.At, x.Size, x.Index, x.Records = d.uvarint32(), d.uvarint32(), d.uvarint32(), d.uvarint32()
	d.must(x.check() == nil)
	switch {
	case d.Bad():
	case d.verifies && x.Segment.Slot:
	case x.Segment.Slot:
		d.s.Slots.add(x)
	default:
		d.s.hold(x)
	}
}

// segment takes the id of a segment behind another one.
func (d *restorer) segment(before SegmentID) SegmentID {
	if d.version < closedVersion {
		return SegmentID{Epoch: before.Epoch + uint64(d.Varint()), Number: before.Number + uint64(d.Varint())}
	}
	id, clean := d.segmentFlags()
	id.Epoch = before.Epoch + uint64(d.Varint())
	d.number(&id, before.number()+uint64(d.Varint()), clean)
	return id
}

// extent takes all of an extent but its base. It lies behind the one before it,
// and in a slot that was not deleted.
func (d *restorer) extent(x *Extent, last Extent, first bool) {
	before := last.Position()
	if first {
		before = d.s.truncated
	}
	x.Time = d.moment()
	epoch, slot := d.pair(before.Epoch, before.Slot)
	d.must(epoch <= math.MaxInt32)
	x.epoch, x.slot = int32(epoch), slot
	x.At, x.Size = d.uvarint32(), d.uvarint32()
	d.must(x.Size >= record.HeaderSize && int64(x.At)+int64(x.Size) <= journal.MaxSlot)
	d.must(first || x.Position() != before || x.At >= last.At+last.Size)
}

// producers takes one generation.
func (d *restorer) producers(end int64, limit int) map[int64]*Producer {
	n := d.Count(minProducer)
	d.must(n <= limit)
	if n == 0 || d.Bad() {
		return nil
	}
	all := make(map[int64]*Producer, n)
	id := int64(0)
	for i := range n {
		up := d.offset()
		d.must((i == 0 || up > 0) && up <= math.MaxInt64-id)
		id += up
		all[id] = d.producer(end, limit == unlimited)
	}
	return all
}

// unlimited are the producers with an open transaction.
const unlimited = math.MaxInt

// open takes the producers with an open transaction. None of them is in a
// generation.
func (d *restorer) open(p *Partition) map[int64]*Producer {
	all := d.producers(p.End, unlimited)
	for id, x := range all {
		d.must(p.Producers.Young[id] == nil && p.Producers.Old[id] == nil && x.First >= p.Start)
	}
	return all
}

// before takes the distance of an offset from the end of a partition, and returns the
// offset.
func (d *restorer) before(end int64) int64 {
	back := d.offset()
	d.must(back >= 1 && back <= end)
	return end - back
}

func (d *restorer) producer(end int64, open bool) *Producer {
	x := &Producer{Known: true, time: -1, Open: open}
	epoch := d.Varint()
	if d.version > 1 {
		x.time = d.moment()
	}
	if open {
		x.First = d.before(end)
	}
	n := d.Uvarint()
	d.must(epoch == int64(int16(epoch)) && n <= remembered)
	x.Epoch, x.n = int16(epoch), int8(n)
	if d.version > 1 && n == 0 && !open {
		return x
	}
	first := d.Varint()
	d.must(n >= 1 && first == int64(int32(first)))
	base := d.before(end)
	if d.Bad() {
		return x
	}
	for i := range x.last[:x.n] {
		if i > 0 {
			base = d.behind(base)
			first = int64(nextSequence(x.last[i-1].last))
		}
		length := d.Varint()
		last := int64(int32(first + length))
		d.must(base < end && last-first == length)
		x.last[i] = sequences{int32(first), int32(last), base}
	}
	d.must(!open || base >= x.First)
	return x
}

// aborted takes aborted transactions: each ended behind the one before, their stable
// offsets do not fall, and no open transaction began before these.
func (d *restorer) aborted(p *Partition) []Abort {
	n := d.Count(minAborted)
	if n == 0 {
		return nil
	}
	all := make([]Abort, n)
	last, decided := p.Start, int64(0)
	for i := range all {
		x := &all[i]
		x.Producer = d.offset()
		up, length, open := d.offset(), d.offset(), d.offset()
		d.must((i == 0 || up > 0) && up < p.End-last)
		last += up
		d.must(length <= last && open <= last+1)
		x.Last, x.First, x.Stable = last, last-length, last+1-open
		d.must(x.Stable >= decided)
		if decided = x.Stable; d.Bad() {
			return nil
		}
	}
	d.must(decided <= p.Stable(p.End))
	return all
}

// epochs takes the epochs of a partition. One without a record ever has none, every
// other one the epoch of its last run.
func (d *restorer) epochs(p *Partition) Epochs {
	n := d.Count(minEpoch)
	d.must(n <= maxEpochs && (n > 0) == (p.End > 0))
	if n == 0 || d.Bad() {
		return nil
	}
	es := make(Epochs, n)
	epoch, start := d.Uvarint(), p.Start
	for i := range es {
		if i > 0 {
			up := d.Uvarint()
			d.must(up > 0 && up <= math.MaxInt32)
			epoch, start = epoch+up, d.behind(start)
			d.must(start < p.End)
		}
		d.must(epoch <= math.MaxInt32)
		if d.Bad() {
			return nil
		}
		es[i] = epochStart{int32(epoch), start}
	}
	last := len(p.Index) - 1
	d.must(last < 0 || p.Index[last].Leader == es[n-1].Epoch)
	return es
}

func (d *restorer) gateway() (string, *gateway) {
	name := string(d.Bytes())
	forgotten := d.Byte()
	g := &gateway{Buffers: make(map[weir.BufferID]*progress), forgotten: forgotten == 1}
	d.must(len(name) <= MaxName && forgotten <= 1)
	for i := range d.Count(len(weir.BufferID{})) {
		id := d.bufferID()
		d.must(i == 0 || g.retired[i-1].Compare(id) < 0)
		g.retired = append(g.retired, id)
	}
	// Tombstones are dropped only when there are too many.
	d.must(len(g.retired) <= tombstones && (!g.forgotten || len(g.retired) == tombstones))
	last := weir.BufferID{}
	for i := range d.Count(minBuffer) {
		id := d.bufferID()
		d.must((i == 0 || last.Compare(id) < 0) && g.state(id) != weir.BufferRetired)
		g.Buffers[id] = d.progress()
		if last = id; d.Bad() {
			break
		}
	}
	return name, g
}

func (d *restorer) progress() *progress {
	b := newProgress()
	before := weir.Lane(0)
	for i := range d.Count(1 + 1) {
		lane, reached := weir.Lane(d.Byte()), d.Uvarint()
		d.must(reached > 0 && (i == 0 || lane > before))
		b.Reached[lane], before = reached, lane
	}
	lastLane, lastTopic := weir.Lane(0), uint32(0)
	for i := range d.Count(minLane) {
		lane, number := weir.Lane(d.Byte()), d.uvarint32()
		d.must(i == 0 || lane > lastLane || lane == lastLane && number > lastTopic)
		d.must(int64(number) < int64(len(d.order)))
		if d.Bad() {
			break
		}
		d.marks(b, lane, d.order[number])
		lastLane, lastTopic = lane, number
	}
	return b
}

// marks takes those of one lane in one topic, and their row. There is at least
// one.
func (d *restorer) marks(b *progress, lane weir.Lane, t *TopicData) {
	partitions := d.Uvarint()
	row := weir.Row{Partitions: int32(partitions), From: d.Uvarint()}
	d.must(partitions <= MaxPartitions && (partitions == 0) == (row.From == 0))
	n := d.Count(minMark)
	d.must(n > 0)
	at := uint64(0)
	for i := range n {
		up := d.Uvarint()
		d.must((i == 0 || up > 0) && up < uint64(t.Partitions))
		at += up
		last := d.Uvarint()
		d.must(at < uint64(t.Partitions) && last > 0 && last <= b.Reached[lane])
		if d.Bad() {
			return
		}
		b.Marks[laneKey{lane, Place{t.ID, int32(at)}}] = last
	}
	if row != (weir.Row{}) {
		b.Rows[rowKey{lane, t.ID}] = row
	}
}

// garbage takes the garbage segments: none of them has live pieces.
func (d *restorer) garbage() {
	d.s.Slots.sort()
	var last SegmentID
	for i := range d.Count(minGarbage) {
		var id SegmentID
		if d.version < closedVersion {
			id.Epoch, id.Number = d.pair(last.Epoch, last.Number)
			d.must(i == 0 || id != last)
		} else {
			id = d.segment(last)
			d.must(i == 0 || last.compare(id) < 0)
		}
		d.must(d.s.Segments[id] == 0 && (!id.Slot || !d.s.Slots.Has(id.Position())))
		d.s.Garbage = append(d.s.Garbage, id)
		last = id
	}
}
