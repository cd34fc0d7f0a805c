package broker

import (
	"fmt"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// OffsetsTopic is Kafka's internal topic of committed offsets. It is not in the log:
// its records are computed on reading, from what the coordinator of the groups knows,
// and it is read-only. See group.Coordinator.History.
const OffsetsTopic = group.OffsetsTopic

// OffsetsTopicID is the id of the offsets topic.
func OffsetsTopicID() weir.TopicID { return group.OffsetsTopicID() }

// InternalTopic returns the offsets topic, if it exists: buckets of format level 1
// have none, nor have clusters of several shards, where the groups of one of its
// partitions are in many shards. Topics does not list it.
func (b *Broker) InternalTopic() (Topic, bool) {
	c, err := b.catalogue()
	if err != nil || b.Several() || !c.Groups.HasHistory() {
		return Topic{}, false
	}
	return offsetsTopic(), true
}

// KnownInternalTopic is InternalTopic, or on a standby that of its copy.
func (b *Broker) KnownInternalTopic() (Topic, bool) {
	if c := b.Copy(); c != nil {
		return offsetsTopic(), c.Offsets
	}
	return b.InternalTopic()
}

func offsetsTopic() Topic {
	return Topic{
		ID: OffsetsTopicID(), Name: OffsetsTopic, Partitions: group.OffsetsPartitions,
		Configs: map[string]string{"cleanup.policy": "compact"},
	}
}

// offsetsOf returns the coordinator for a partition of the offsets topic.
func (b *Broker) offsetsOf(partition int32) (*group.Coordinator, error) {
	s, err := b.at(weir.SliceOf(OffsetsTopicID(), partition))
	if err != nil {
		return nil, err
	}
	if partition < 0 || partition >= group.OffsetsPartitions || b.Several() || !s.Groups.HasHistory() {
		return nil, fmt.Errorf("%w: partition %d of topic %q", ErrUnknownTopic, partition, OffsetsTopic)
	}
	return s.Groups, nil
}

// offsetsBounds returns the bounds of a partition of the offsets topic. It begins at
// 0, like any compacted topic of Kafka: records that are no longer current are
// missing.
func (b *Broker) offsetsBounds(partition int32) (start, end int64, err error) {
	groups, err := b.offsetsOf(partition)
	if err != nil {
		return 0, 0, err
	}
	end, err = groups.HistoryEnd(partition)
	return 0, end, err
}

// fetchOffsets reads the offsets topic.
func (b *Broker) fetchOffsets(partition int32, offset int64, maxBytes int) (Fetched, error) {
	groups, err := b.offsetsOf(partition)
	if err != nil {
		return Fetched{}, err
	}
	records, end, err := groups.History(partition, max(offset, 0), maxBytes)
	if err != nil {
		return Fetched{}, err
	}
	f := Fetched{End: end, Stable: end}
	if offset < 0 || offset > end {
		return f, fmt.Errorf("%w: %d is not between 0 and %d", ErrOffsetOutOfRange, offset, end)
	}
	f.Batches, err = historyBatches(records, b.Epoch(OffsetsTopicID(), partition))
	return f, err
}

// historyBatches packs records: one batch for each run of consecutive offsets.
func historyBatches(records []group.Record, epoch int32) ([][]byte, error) {
	var batches [][]byte
	builder := record.NewBuilder(record.None)
	for i, r := range records {
		if err := builder.Append(&record.Record{Timestamp: r.Time, Key: r.Key, Value: r.Value}); err != nil {
			return nil, fmt.Errorf("build a batch of the offsets topic: %w", err)
		}
		if i+1 < len(records) && records[i+1].At == r.At+1 {
			continue
		}
		batch, err := builder.Build()
		if err != nil {
			return nil, fmt.Errorf("build a batch of the offsets topic: %w", err)
		}
		batch.SetBaseOffset(r.At - int64(batch.LastOffsetDelta()))
		batch.SetLeaderEpoch(epoch)
		batches = append(batches, batch)
		builder.Reset()
	}
	return batches, nil
}

// searchBytes is how many bytes of the offsets topic one step of a search reads.
const searchBytes = 1 << 20

// searchOffsets returns the best record of a partition of the offsets topic, -1 and
// -1 if there is none. better reports whether a record is better than the best one so
// far.
func (b *Broker) searchOffsets(partition int32, better func(time, best int64) bool) (offset, timestamp int64, err error) {
	groups, err := b.offsetsOf(partition)
	if err != nil {
		return -1, -1, err
	}
	offset, timestamp = -1, -1
	for from := int64(0); ; {
		records, _, err := groups.History(partition, from, searchBytes)
		if err != nil {
			return -1, -1, err
		}
		if len(records) == 0 {
			return offset, timestamp, nil
		}
		for _, r := range records {
			if better(r.Time, timestamp) {
				offset, timestamp = r.At, r.Time
			}
		}
		from = records[len(records)-1].At + 1
	}
}
