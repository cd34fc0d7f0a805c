package streamqueue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/record"
)

// Headers of a delivery.
const (
	headerOffset    = "x-stream-offset"
	headerPartition = "x-stream-partition" // if the topic has several
)

// Bounds of one read.
const (
	fetchBytes  = 256 << 10 // at rest
	readBytes   = 128 << 10 // of messages, from which on no further one is added
	maxInflated = 64 << 20  // that a batch is unpacked to: the log takes no more
)

// reader reads the partitions of a topic in turn. The records of a partition stay in
// order.
type reader struct {
	t         *Topics
	topic     broker.Topic
	positions []int64 // what is read next, by partition
	turn      int     // the partition that is read next
	due       []bool  // by partition: it has not been looked at since this call of read began
	away      *away
}

// open finds where to begin in each partition, before it returns.
func (t *Topics) open(ctx context.Context, name string, from queue.Offset) (func(context.Context, int) ([]queue.Delivery, error), error) {
	topic, err := t.topic(name)
	if err != nil {
		return nil, err
	}
	r := &reader{t: t, topic: topic, positions: make([]int64, topic.Partitions), away: newAway()}
	for p := range r.positions {
		if r.positions[p], err = r.seek(ctx, int32(p), from); err != nil {
			return nil, fmt.Errorf("find where to begin in partition %d: %w", p, translate(err))
		}
	}
	return r.read, nil
}

// seek returns where to begin in a partition. The end for readers of committed records is
// the last stable offset.
func (r *reader) seek(ctx context.Context, partition int32, from queue.Offset) (int64, error) {
	x, err := r.t.o.Records.Range(ctx, r.topic.ID, partition)
	if err != nil {
		return 0, err
	}
	start, stable := x.Start, x.Stable
	switch from.From {
	case queue.FromFirst:
		return start, nil
	case queue.FromLast:
		return r.last(ctx, partition, start, stable)
	case queue.FromOffset:
		return max(from.At, start), nil
	case queue.FromTime:
		offset, _, err := r.t.o.Records.OffsetByTime(ctx, r.topic.ID, partition, max(from.At, 0))
		if err != nil {
			return 0, err
		}
		if offset < 0 || offset > stable {
			return stable, nil // what is there is older
		}
		return offset, nil
	}
	return stable, nil
}

// last returns the offset of the last record before stable that is delivered, stable if there
// is none. What is directly before stable may be the marker of a transaction, or aborted.
func (r *reader) last(ctx context.Context, partition int32, start, stable int64) (int64, error) {
	for step := int64(1); ; step *= 2 {
		from := max(stable-step, start)
		found, err := r.lastBehind(ctx, partition, from, stable)
		if err != nil || found >= start { // a batch may have deleted records
			return found, err
		}
		if from <= start {
			return stable, nil
		}
	}
}

// lastBehind returns the offset of the last record before stable that is delivered, of the
// batches that have offsets from from on; -1 if there is none.
func (r *reader) lastBehind(ctx context.Context, partition int32, from, stable int64) (found int64, err error) {
	found = -1
	for from < stable {
		f, err := r.t.o.Records.FetchCommitted(ctx, r.topic.ID, partition, from, fetchBytes)
		switch {
		case errors.Is(err, broker.ErrOffsetOutOfRange) && from < f.Start:
			from = f.Start // retention deleted what is before
			continue
		case err != nil:
			return -1, err
		case len(f.Batches) == 0:
			return found, nil
		}
		from, err = lastOf(&f, stable, &found)
		f.Lease.Release()
		if err != nil {
			return -1, err
		}
	}
	return found, nil
}

// lastOf sets found to the last record before stable that is delivered, if there is one. It
// returns the offset behind what was fetched.
func lastOf(f *broker.Fetched, stable int64, found *int64) (next int64, err error) {
	for _, data := range f.Batches {
		b := record.Batch(data)
		next = b.NextOffset()
		if !f.Committed(b) {
			continue
		}
		if err := b.Each(maxInflated, func(r *record.Record) error {
			if r.Offset < stable {
				*found = r.Offset
			}
			return nil
		}); err != nil {
			return 0, fmt.Errorf("decode a batch: %w", err)
		}
	}
	return next, nil
}

// read returns messages of the first partition from turn on that has some. While a node does
// not answer it waits for that, and for others to grow; then it may return queue.ErrAgain.
func (r *reader) read(ctx context.Context, most int) ([]queue.Delivery, error) {
	if err := r.grow(); err != nil {
		return nil, err
	}
	r.lookAtAll()
	if all, err := r.look(ctx, most); err != nil || len(all) > 0 || len(r.away.busy) == 0 {
		return all, err
	}
	late := time.NewTimer(readTime)
	defer late.Stop()
	for {
		grown := r.watch()
		r.lookAtAll() // again: they may have grown before watch
		for {
			all, err := r.look(ctx, most)
			if err != nil || len(all) > 0 || len(r.away.busy) == 0 {
				return all, err
			}
			if broker.WaitAny(ctx, late.C, append(grown, r.away.came)) {
				return nil, queue.ErrAgain
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if !r.away.arrived() {
				break // a partition has grown
			}
		}
	}
}

// lookAtAll makes all partitions due.
func (r *reader) lookAtAll() {
	r.due = r.due[:0]
	for range r.positions {
		r.due = append(r.due, true)
	}
}

// look reads the partitions that are due, until one has messages. Those that other nodes lead
// it begins to read.
func (r *reader) look(ctx context.Context, most int) ([]queue.Delivery, error) {
	for {
		x := r.away.take()
		if x == nil {
			break
		}
		all, err := r.finish(x, most)
		if err != nil || len(all) > 0 {
			return all, err
		}
	}
	for range r.positions {
		partition := int32(r.turn)
		r.turn = (r.turn + 1) % len(r.positions)
		if !r.due[partition] || r.begin(ctx, partition) {
			continue
		}
		r.due[partition] = false
		all, err := r.readPartition(ctx, partition, most)
		if err != nil {
			return nil, r.failed(partition, err)
		}
		if len(all) > 0 {
			return all, nil
		}
	}
	return nil, nil
}

func (r *reader) failed(partition int32, err error) error {
	return fmt.Errorf("read partition %d of topic %s at offset %d: %w", partition, r.topic.Name, r.positions[partition], translate(err))
}

// grow adds the partitions that the topic has got since: all that is in them came later.
func (r *reader) grow() error {
	now, err := r.t.o.Records.TopicByID(r.topic.ID)
	if err != nil {
		return translate(err)
	}
	if more := int(now.Partitions) - len(r.positions); more > 0 {
		r.topic = now
		r.positions = append(r.positions, make([]int64, more)...)
	}
	return nil
}

// readPartition returns messages of a partition, none at its end.
func (r *reader) readPartition(ctx context.Context, partition int32, most int) ([]queue.Delivery, error) {
	for {
		f, err := r.t.o.Records.FetchCommitted(ctx, r.topic.ID, partition, r.positions[partition], fetchBytes)
		all, more, err := r.take(partition, &f, err, most)
		if !more {
			return all, err
		}
	}
}

// take returns messages of what was fetched at the position of a partition, and reports
// whether to fetch once more for some.
func (r *reader) take(partition int32, f *broker.Fetched, err error, most int) (all []queue.Delivery, more bool, _ error) {
	defer f.Lease.Release()
	at := r.positions[partition]
	switch {
	case errors.Is(err, broker.ErrOffsetOutOfRange) && at < f.Start:
		r.positions[partition] = f.Start // retention deleted what is before
		return nil, true, nil
	case errors.Is(err, broker.ErrOffsetOutOfRange):
		return nil, false, nil // an offset that does not exist yet
	case err != nil || len(f.Batches) == 0:
		return nil, false, err
	}
	c := chunk{r: r, partition: partition, most: most}
	err = c.add(f)
	r.positions[partition] = max(c.next, at)
	if len(c.messages) > 0 {
		return c.messages, false, nil // what cannot be read is behind them, and comes up again
	}
	return nil, err == nil, err
}

// chunk collects messages of a partition.
type chunk struct {
	r         *reader
	partition int32
	most      int
	messages  []queue.Delivery
	bytes     int
	next      int64 // the offset behind what is done
}

// errFull ends the walk through a batch.
var errFull = errors.New("enough messages")

// add adds the records of what was fetched, but not the markers of transactions and the
// records of aborted ones.
func (c *chunk) add(f *broker.Fetched) error {
	at := c.r.positions[c.partition]
	for _, data := range f.Batches {
		b := record.Batch(data)
		if f.Committed(b) {
			err := b.Each(maxInflated, func(r *record.Record) error {
				if r.Offset < at {
					return nil
				}
				if len(c.messages) >= c.most || c.bytes >= readBytes {
					return errFull
				}
				if err := c.append(r); err != nil {
					return err
				}
				c.next = r.Offset + 1
				return nil
			})
			if errors.Is(err, errFull) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("decode a batch: %w", err)
			}
		}
		c.next = b.NextOffset()
	}
	return nil
}

// append adds a record as a message.
func (c *chunk) append(r *record.Record) error {
	m, lost := properties.FromRecord(c.r.topic.Name, r)
	c.r.t.count(lost)
	var headers wire.Builder
	for name, v := range m.Properties.Headers.All() {
		if name != headerOffset && name != headerPartition {
			headers.Add(name, v)
		}
	}
	headers.Add(headerOffset, wire.Int64(r.Offset))
	if len(c.r.positions) > 1 {
		headers.Add(headerPartition, wire.Int32(c.partition))
	}
	table, err := headers.Table()
	if err != nil {
		return fmt.Errorf("headers of offset %d: %w", r.Offset, err)
	}
	m.Properties.Headers = table
	m.Properties.Flags |= wire.HasHeaders
	encoded, err := m.Properties.Append(nil)
	if err != nil {
		return fmt.Errorf("properties of offset %d: %w", r.Offset, err)
	}
	d := queue.Delivery{ID: r.Offset, Exchange: m.Exchange, Key: m.Key, Properties: encoded, Body: bytes.Clone(m.Body), Time: m.Time}
	c.messages = append(c.messages, d)
	c.bytes += len(d.Body) + len(encoded) + len(d.Key)
	return nil
}
