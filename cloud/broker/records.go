package broker

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Append appends one record batch to a partition. The log calls done exactly once,
// from one of its goroutines; done must not block. On success, when the batch is
// durable in the bucket, it gets nil and the offset of the first record, or -1 for a
// batch whose stream has delivered it before. On failure it gets an error, and the
// batch is not durable and will not be. Until then the batch belongs to the log.
// Successive calls keep their order.
//
// A batch from a gateway carries its Source; done gets *Refused if it does not
// continue its stream.
func (b *Broker) Append(a Append, done func(base int64, err error)) {
	b.append(context.Background(), a, nil, done)
}

// Produce is Append for the request of ctx. ctx does not bound it. While the log has
// no room, the request is stopwatch.Waiting.
func (b *Broker) Produce(ctx context.Context, a Append, done func(base int64, err error)) {
	b.append(ctx, a, nil, done)
}

// append does what all appends need. It passes the batch to by with its topic (zero
// if there is none), or to the log if by is nil.
func (b *Broker) append(ctx context.Context, a Append, by func(Topic, Append, func(int64, error)), done func(base int64, err error)) {
	s, err := b.shardAt(a.Topic, a.Partition)
	if err != nil {
		done(-1, err)
		return
	}
	topic, ok, behind := b.opened(s, a.Topic, a.Partition)
	began := time.Now()
	if ok {
		if err := admit(b.withDefaults(topic), &a, began); err != nil {
			done(-1, err)
			return
		}
	}
	records, size := int32(0), len(a.Batch)
	if size >= record.HeaderSize {
		records = max(a.Batch.Count(), 0)
	}
	landed := func(base int64, err error) {
		if err == nil {
			b.acks.UpdateDuration(began)
			if base >= 0 {
				s.Load.Records.Add(uint64(records))
				s.Load.Bytes.Add(uint64(size))
			}
		} else if behind != nil && behind.Load() {
			base, err = -1, fmt.Errorf("%w: partition %d of topic %v must be opened again: %w", ErrBehind, a.Partition, a.Topic, ErrUnknownTopic)
		}
		done(base, translate(err))
	}
	defer stopwatch.Waiting(ctx)()
	switch {
	case by != nil:
		by(topic, a, landed)
	case len(a.Batch) >= record.HeaderSize && a.Batch.Transactional():
		done(-1, txn.ErrNotInTransaction)
	default:
		s.Log.Append(a, landed)
	}
}

// Fetch returns stored batches of a partition, beginning with the one that
// holds offset: about maxBytes of them, and at least one if there is any.
// Offsets at the end give no batches and no error.
func (b *Broker) Fetch(ctx context.Context, id weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return Fetched{}, err
	}
	if id == OffsetsTopicID() {
		return b.fetchOffsets(partition, offset, maxBytes)
	}
	f, err := s.Log.Fetch(ctx, id, partition, offset, maxBytes)
	if b.unopened(s, id, partition, err) {
		return fetchEmpty(offset)
	}
	return f, translate(err)
}

// fetchEmpty reads a partition that is not opened yet.
func fetchEmpty(offset int64) (Fetched, error) {
	if offset != 0 {
		return Fetched{}, fmt.Errorf("%w: %d, and the partition is empty", ErrOffsetOutOfRange, offset)
	}
	return Fetched{}, nil
}

// Bounds returns the first offset of a partition and the one that its next
// record will get. Only durable records count.
func (b *Broker) Bounds(id weir.TopicID, partition int32) (start, end int64, err error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return 0, 0, err
	}
	if id == OffsetsTopicID() {
		return b.offsetsBounds(partition)
	}
	start, end, err = s.Log.Bounds(id, partition)
	if b.unopened(s, id, partition, err) {
		return 0, 0, nil
	}
	return start, end, translate(err)
}

// OffsetByTime returns the first record whose timestamp (ms) is at least ts,
// -1 and -1 if there is none.
func (b *Broker) OffsetByTime(ctx context.Context, id weir.TopicID, partition int32, ts int64) (offset, timestamp int64, err error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return -1, -1, err
	}
	if id == OffsetsTopicID() {
		return b.searchOffsets(partition, func(time, best int64) bool { return best == -1 && time >= ts })
	}
	offset, timestamp, err = s.Log.OffsetByTime(ctx, id, partition, ts)
	if b.unopened(s, id, partition, err) {
		return -1, -1, nil
	}
	return offset, timestamp, translate(err)
}

// MaxTimestamp returns the record with the highest timestamp of a partition,
// -1 and -1 if it is empty.
func (b *Broker) MaxTimestamp(ctx context.Context, id weir.TopicID, partition int32) (offset, timestamp int64, err error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return -1, -1, err
	}
	if id == OffsetsTopicID() {
		return b.searchOffsets(partition, func(time, best int64) bool { return time > best })
	}
	offset, timestamp, err = s.Log.MaxTimestamp(ctx, id, partition)
	if b.unopened(s, id, partition, err) {
		return -1, -1, nil
	}
	return offset, timestamp, translate(err)
}

// Watch returns a channel that is closed when records are added to the partition
// after the call, or when there is another reason to ask again: the topic was
// deleted, or this node is no longer the owner.
func (b *Broker) Watch(id weir.TopicID, partition int32) <-chan struct{} {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return closed()
	}
	if id != OffsetsTopicID() {
		if open, is := b.watchUnopened(context.Background(), s, id, partition); is {
			return open
		}
		return s.Log.Watch(id, partition)
	}
	groups, err := b.offsetsOf(partition)
	if err != nil {
		return closed()
	}
	return groups.WatchHistory(partition)
}

// Notify is Watch for a reader of all topics: it lets g know of all partitions of the
// shards that this node serves now, until stop is called. Hidden topics are among them.
func (b *Broker) Notify(g *Growth) (stop func(), err error) {
	shards, err := b.owned()
	if err != nil {
		return nil, err
	}
	var all []func()
	for _, s := range shards {
		all = append(all, s.Log.Notify(g))
	}
	return func() {
		for _, stop := range all {
			stop()
		}
	}, nil
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// WaitAny waits for one of the channels that Watch has returned. It returns true if over
// came first.
func WaitAny(ctx context.Context, over <-chan time.Time, any []<-chan struct{}) bool {
	defer stopwatch.Waiting(ctx)()
	if len(any) == 1 {
		select {
		case <-any[0]:
		case <-ctx.Done():
		case <-over:
			return true
		}
		return false
	}
	cases := make([]reflect.SelectCase, 0, len(any)+2)
	cases = append(cases,
		reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(over)},
		reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())})
	for _, c := range any {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	i, _, _ := reflect.Select(cases)
	return i == 0
}
