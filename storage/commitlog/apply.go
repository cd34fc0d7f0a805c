package commitlog

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// state is what the durable log says: the same entries give the same state, in
// recovery, in running and in Check. All reads, and all answers, come from it.
// In a Log it is guarded by Log.mu; only apply changes it.
type state struct {
	topics      map[TopicID]*topic
	names       map[string]*topic
	gateways    map[string]*gateway
	producerIDs uint64            // all below may have been given out
	segments    map[segmentID]int // live pieces of each segment
	garbage     []segmentID       // without live pieces, not deleted yet
	cleaned     uint64            // what was left over of all epochs up to this one was deleted
	truncated   journal.Position  // all slots before it were deleted
	identity    *identity         // nil: the log says nothing of the objects beside it
	tail        *cache            // takes the runs as they come; nil in recovery and in Check

	// tolerate, if set, is told of each broken rule and the log is read on.
	// Without it the first one is the end: nobody may lead such a log.
	tolerate func(error)

	// adopted is not of the log, but of this owner: see Adopt. One for each
	// gateway, the newest.
	adopted map[string]BufferID

	repairing bool             // a part of the log is missing: see gap
	recreated map[TopicID]bool // of a repair; topics of which only records are known

	forgetful, ageless, firstRows bool // Mutations
}

// topic is a topic with its data.
type topic struct {
	Topic
	partitions []*partition
}

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

func newState() *state {
	return &state{
		topics:      make(map[TopicID]*topic),
		names:       make(map[string]*topic),
		gateways:    make(map[string]*gateway),
		adopted:     make(map[string]BufferID),
		segments:    make(map[segmentID]int),
		producerIDs: 1,
	}
}

// partition returns nil if there is no such partition.
func (s *state) partition(key placeKey) *partition {
	t := s.topics[key.topic]
	if t == nil || key.partition < 0 || int(key.partition) >= len(t.partitions) {
		return nil
	}
	return t.partitions[key.partition]
}

// broken reports a rule that the log at rest breaks.
func (s *state) broken(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	if s.tolerate != nil {
		s.tolerate(err)
		return nil
	}
	return err
}

// apply changes the state by one entry of ours.
func (s *state) apply(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case kindTopicCreated:
		t, err := decodeTopicCreated(e.Body)
		if err != nil {
			return err
		}
		return s.createTopic(t)
	case kindTopicDeleted:
		id, err := decodeTopicDeleted(e.Body)
		if err != nil {
			return err
		}
		return s.deleteTopic(id)
	case kindTopicGrown:
		id, partitions, err := decodeTopicGrown(e.Body)
		if err != nil {
			return err
		}
		return s.growTopic(id, partitions)
	case kindTopicAltered:
		id, configs, err := decodeTopicAltered(e.Body)
		if err != nil {
			return err
		}
		return s.alterTopic(id, configs)
	case kindRun:
		r, err := decodeRun(e.Body)
		if err != nil {
			return err
		}
		return s.appendRun(pos, e.At, r)
	case kindBufferRetired:
		gateway, buffer, err := decodeBufferRetired(e.Body)
		if err != nil {
			return err
		}
		s.retire(bufferKey{gateway, buffer})
		return nil
	case kindProducerIDs:
		next, err := decodeProducerIDs(e.Body)
		if err != nil {
			return err
		}
		return s.reserveProducerIDs(next)
	}
	return s.applyUpkeep(pos, e)
}

// applyUpkeep is apply for entries that the log makes by itself.
func (s *state) applyUpkeep(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case kindInstalled:
		all, err := decodeInstalled(e.Body)
		if err != nil {
			return err
		}
		return s.install(pos, all)
	case kindTrimmed:
		key, start, err := decodeTrimmed(e.Body)
		if err != nil {
			return err
		}
		return s.trim(key, start)
	case kindSwept:
		cleaned, truncated, ids, err := decodeSwept(e.Body)
		if err != nil {
			return err
		}
		return s.sweep(cleaned, truncated, ids)
	case kindIdentity:
		i, err := decodeIdentity(e.Body)
		if err != nil {
			return err
		}
		return s.identify(i)
	}
	return fmt.Errorf("%w: entry of kind %d", ErrFormat, e.Kind)
}

func (s *state) createTopic(t Topic) error {
	if s.names[t.Name] != nil || s.topics[t.ID] != nil {
		return s.broken("topic %q (%v) is created twice", t.Name, t.ID)
	}
	if t.Partitions < 1 || t.Partitions > MaxPartitions || checkTopicName(t.Name) != nil {
		return s.broken("topic %q is created with %d partitions", t.Name, t.Partitions)
	}
	added := &topic{Topic: t}
	added.grow(t.Partitions)
	s.topics[t.ID], s.names[t.Name] = added, added
	return nil
}

func (t *topic) grow(partitions int32) {
	for i := int32(len(t.partitions)); i < partitions; i++ {
		t.partitions = append(t.partitions, &partition{key: placeKey{t.ID, i}})
	}
	t.Partitions = partitions
}

func (s *state) deleteTopic(id TopicID) error {
	t := s.topics[id]
	if t == nil {
		return s.broken("topic %v is deleted and does not exist", id)
	}
	delete(s.topics, id)
	delete(s.names, t.Name)
	s.forgetTopic(id)
	for _, p := range t.partitions {
		for i := range p.pieces {
			s.release(p.pieces[i].segment)
		}
		p.wake()
	}
	return nil
}

func (s *state) growTopic(id TopicID, partitions int32) error {
	t := s.topics[id]
	switch {
	case t == nil:
		return s.broken("topic %v grows and does not exist", id)
	case partitions <= t.Partitions || partitions > MaxPartitions:
		return s.broken("topic %q grows from %d to %d partitions", t.Name, t.Partitions, partitions)
	}
	t.grow(partitions)
	return nil
}

func (s *state) alterTopic(id TopicID, configs map[string]string) error {
	t := s.topics[id]
	if t == nil {
		return s.broken("settings of topic %v are changed, which does not exist", id)
	}
	t.Configs = configs // the old ones may be in many hands: they are not touched
	return nil
}

func (s *state) reserveProducerIDs(next uint64) error {
	if next <= s.producerIDs {
		if err := s.broken("producer ids below %d are reserved twice", s.producerIDs); err != nil {
			return err
		}
	}
	s.producerIDs = max(next, s.producerIDs)
	return nil
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
	if s.tail != nil {
		s.tail.add(cacheKey{key, r.base}, r.data)
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

// wake tells those who watch the partition to look again.
func (p *partition) wake() {
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}
