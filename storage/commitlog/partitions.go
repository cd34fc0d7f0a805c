package commitlog

import (
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// partition is the durable part of a partition.
type partition struct {
	key       placeKey
	start     int64    // the first offset; what lies below is not given out any more
	end       int64    // offset of the next record: the high watermark
	pieces    []piece  // in segments, in order of offsets, without a hole; never changed in place
	index     []extent // one for each run in slots behind the pieces; never changed in place
	bytes     int64    // of the batches in both
	producers producers
	aborted   []aborted     // transactions, in the order in which they ended; never changed in place
	epochs    epochs        // nothing but start and end are needed of an empty partition
	grown     chan struct{} // closed at the next append; nil until somebody watches
}

// extent says where the data of a run lies. There may be millions: 40 bytes.
type extent struct {
	base  int64  // offset of the first record
	time  int64  // highest timestamp
	slot  uint64 // with epoch the position of the slot
	epoch int32
	at    uint32 // where the data begins in the slot's object
	size  uint32 // of the data
}

func (x extent) position() journal.Position {
	return journal.Position{Epoch: uint64(x.epoch), Slot: x.slot}
}

// partition returns nil if there is no such partition.
func (s *state) partition(key placeKey) *partition {
	t := s.topics[key.topic]
	if t == nil || key.partition < 0 || int(key.partition) >= len(t.partitions) {
		return nil
	}
	return t.partitions[key.partition]
}

func (p *partition) size() int64 {
	total := int64(0)
	for i := range p.pieces {
		total += p.pieces[i].data()
	}
	for i := range p.index {
		total += int64(p.index[i].size)
	}
	return total
}

// wake tells those who watch the partition to look again.
func (p *partition) wake() {
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// appendRun adds a run to its partition, and moves the marks and the producers
// that are part of it.
func (s *state) appendRun(pos journal.Position, at int64, r *run) error {
	key := placeKey{r.topic, r.partition}
	p := s.partition(key)
	if p == nil && s.repairing {
		p = s.recreate(key, r.base)
	}
	if p == nil {
		return s.broken("append to partition %d of topic %v, which does not exist", r.partition, r.topic)
	}
	if s.repairing && r.base > p.end {
		p.gap(pos, r.base)
	} else if s.repairing && r.base < p.end {
		return s.broken("partition %d of topic %v: append at offset %d, but its end is %d", r.partition, r.topic, r.base, p.end)
	}
	if r.base != p.end {
		if err := s.broken("partition %d of topic %v: append at offset %d, but its end is %d", r.partition, r.topic, r.base, p.end); err != nil {
			return err
		}
	}
	if uint64(r.epoch) != pos.Epoch {
		if err := s.broken("partition %d of topic %v: leader epoch %d in epoch %d", r.partition, r.topic, r.epoch, pos.Epoch); err != nil {
			return err
		}
	}
	for _, src := range r.sources {
		if err := s.advance(key, src); err != nil {
			return err
		}
	}
	batches, next, err := cutRun(r.data, r.base, r.epoch)
	if err != nil {
		return err
	}
	latest := int64(math.MinInt64)
	for _, b := range batches {
		if !b.Control() { // who looks for a time looks for records
			latest = max(latest, b.MaxTimestamp())
		}
		if err := s.produced(p, b); err != nil {
			return err
		}
	}
	p.index = append(p.index, extent{
		base: r.base, time: latest, slot: pos.Slot, epoch: r.epoch,
		at: uint32(at) + uint32(r.dataAt), size: uint32(len(r.data)),
	})
	p.bytes += int64(len(r.data))
	p.epochs = p.epochs.begin(r.epoch, r.base)
	p.end = next
	if s.appended != nil {
		s.appended(key, r.base, r.data)
	}
	p.wake()
	return nil
}

// produced notes a batch in the history of its producer, if it has one.
func (s *state) produced(p *partition, b record.Batch) error {
	switch {
	case b.Control():
		return s.ended(p, b)
	case b.ProducerID() >= 0:
	case b.Transactional():
		return s.broken("%v: transactional batch at offset %d has no producer", p.key, b.BaseOffset())
	default:
		return nil
	}
	if known := p.producers.get(b.ProducerID()); known != nil && !known.follows(b) {
		if err := s.broken("partition %d of topic %v: producer %d goes on with epoch %d sequence %d at offset %d", p.key.partition, p.key.topic, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.BaseOffset()); err != nil {
			return err
		}
	}
	p.producers.change(b.ProducerID(), func(x *producer) { x.take(b, b.BaseOffset()) })
	return nil
}
