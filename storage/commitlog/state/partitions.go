package state

import (
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// Partition is the durable part of a partition.
type Partition struct {
	Key       Place
	Bias      int32    // added to the journal's epochs to get leader epochs; 0 in all logs so far
	Start     int64    // the first offset; records below it are no longer readable
	End       int64    // offset of the next record: the high watermark
	Pieces    []Piece  // in segments, in order of offsets, without a hole; never changed in place
	Index     []Extent // one for each run in slots behind the pieces; never changed in place
	Bytes     int64    // of the batches in both
	Producers producers
	Aborted   []Abort       // transactions, in the order in which they ended; never changed in place
	Epochs    Epochs        // none if the partition never had a record
	Grown     chan struct{} // closed at the next append; nil until Watch is called
}

// Extent says where the data of a run lies. There may be millions: 40 bytes.
type Extent struct {
	Base   int64  // offset of the first record
	Time   int64  // highest timestamp
	slot   uint64 // with epoch the position of the slot
	epoch  int32
	Leader int32  // leader epoch of its batches
	At     uint32 // where the data begins in the slot's object
	Size   uint32 // of the data
}

// LeaderEpoch returns the leader epoch of records that the owner of a journal epoch
// appends to the partition.
func (p *Partition) LeaderEpoch(owner int32) int32 { return owner + p.Bias }

// Position returns the position of the slot.
func (x Extent) Position() journal.Position {
	return journal.Position{Epoch: uint64(x.epoch), Slot: x.slot}
}

// Partition returns nil if there is no such partition.
func (s *State) Partition(key Place) *Partition {
	t := s.Topics[key.Topic]
	if t == nil || key.Partition < 0 || int(key.Partition) >= len(t.Parts) {
		return nil
	}
	return t.Parts[key.Partition]
}

// Size is how many bytes the batches of a partition take.
func (p *Partition) Size() int64 {
	total := int64(0)
	for i := range p.Pieces {
		total += p.Pieces[i].Data()
	}
	for i := range p.Index {
		total += int64(p.Index[i].Size)
	}
	return total
}

// Wake wakes the readers that watch the partition.
func (p *Partition) Wake() {
	if p.Grown != nil {
		close(p.Grown)
		p.Grown = nil
	}
}

// appendRun adds a run to its partition, and moves the marks and the producers
// that are part of it.
func (s *State) appendRun(pos journal.Position, at int64, r *Run) error {
	key := Place{r.Topic, r.Partition}
	p := s.Partition(key)
	if p == nil && s.Repairing {
		p = s.recreate(key, r.Base)
	}
	if p == nil {
		return s.broken("append to partition %d of topic %v, which does not exist", r.Partition, r.Topic)
	}
	if s.Repairing && r.Base > p.End {
		p.gap(pos, r.Base)
	} else if s.Repairing && r.Base < p.End {
		return s.broken("partition %d of topic %v: append at offset %d, but its end is %d", r.Partition, r.Topic, r.Base, p.End)
	}
	if r.Base != p.End {
		if err := s.broken("partition %d of topic %v: append at offset %d, but its end is %d", r.Partition, r.Topic, r.Base, p.End); err != nil {
			return err
		}
	}
	if int64(r.Epoch) != int64(pos.Epoch)+int64(p.Bias) {
		if err := s.broken("partition %d of topic %v: leader epoch %d in epoch %d", r.Partition, r.Topic, r.Epoch, pos.Epoch); err != nil {
			return err
		}
	}
	for _, src := range r.Sources {
		if err := s.advance(key, src); err != nil {
			return err
		}
	}
	batches, next, err := CutRun(r.Data, r.Base, r.Epoch)
	if err != nil {
		return err
	}
	latest := int64(math.MinInt64)
	for _, b := range batches {
		if !b.Control() { // a search by time ignores markers
			latest = max(latest, b.MaxTimestamp())
		}
		if err := s.produced(p, b); err != nil {
			return err
		}
	}
	p.Index = append(p.Index, Extent{
		Base: r.Base, Time: latest, slot: pos.Slot, epoch: int32(pos.Epoch), Leader: r.Epoch,
		At: uint32(at) + uint32(r.dataAt), Size: uint32(len(r.Data)),
	})
	p.Bytes += int64(len(r.Data))
	p.Epochs = p.Epochs.Begin(r.Epoch, r.Base)
	p.End = next
	if s.Appended != nil {
		s.Appended(key, r.Base, r.Data)
	}
	s.changed(p)
	return nil
}

// changed tells those who watch a partition that it has changed.
func (s *State) changed(p *Partition) {
	p.Wake()
	if s.Changed != nil {
		s.Changed(p.Key)
	}
}

// produced notes a batch in the history of its producer, if it has one.
func (s *State) produced(p *Partition, b record.Batch) error {
	switch {
	case b.Control():
		return s.ended(p, b)
	case b.ProducerID() >= 0:
	case b.Transactional():
		return s.broken("%v: transactional batch at offset %d has no producer", p.Key, b.BaseOffset())
	default:
		return nil
	}
	if known := p.Producers.Get(b.ProducerID()); known != nil && !known.follows(b) {
		if err := s.broken("partition %d of topic %v: producer %d goes on with epoch %d sequence %d at offset %d", p.Key.Partition, p.Key.Topic, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.BaseOffset()); err != nil {
			return err
		}
	}
	p.Producers.change(b.ProducerID(), func(x *Producer) { x.Take(b, b.BaseOffset()) })
	return nil
}
