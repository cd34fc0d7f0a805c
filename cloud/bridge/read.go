package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// readTime bounds one read of a partition. One that another node leads goes on in the
// background.
const readTime = 2 * time.Second

// read is one read of a partition.
type read struct {
	at         broker.Place
	shard      uint32 // that has the partition
	topic      string // name; "": this node does not know it
	next       int64  // the first record
	positioned bool   // next is what the vhost has not read yet; else it is found out: a partition that has no position is a new one

	f   broker.Fetched
	err error
}

// errBehind means that another node knew a topic which this one does not know yet.
var errBehind = errors.New("this node does not know the topic yet")

// readNext reads the partition whose turn it is. One that another node leads it reads in the
// background, one of each shard at a time: a node that is silent delays nothing that others
// have. The next ones of that shard wait.
func (r *reader) readNext(ctx context.Context) error {
	at := r.dirty[0]
	if r.dirty = r.dirty[1:]; len(r.dirty) == 0 {
		r.dirty = nil
	}
	x := &read{at: at, shard: r.shardOf(at)}
	if !r.elsewhere(x.shard) {
		delete(r.queued, at)
		if !r.prepare(x) {
			return nil
		}
		x.perform(ctx, r.bridge.o.Records)
		return r.finish(x)
	}
	r.waiting[x.shard] = append(r.waiting[x.shard], at)
	r.proceed(ctx, x.shard)
	return nil
}

func (r *reader) shardOf(at broker.Place) uint32 {
	return r.bridge.o.Broker.RouteOf(weir.SliceOf(at.Topic, at.Partition))
}

// elsewhere reports whether another node serves a shard, or this one in doubt.
func (r *reader) elsewhere(shard uint32) bool {
	return r.many && r.bridge.o.Broker.Serves(shard) != nil
}

// proceed begins to read the next partition that waits for its shard, unless one is being
// read.
func (r *reader) proceed(ctx context.Context, shard uint32) {
	for len(r.waiting[shard]) > 0 && !r.busy[shard] {
		at := r.waiting[shard][0]
		r.waiting[shard] = r.waiting[shard][1:]
		x := &read{at: at, shard: r.shardOf(at)}
		if x.shard != shard || !r.elsewhere(shard) { // it has moved
			r.dirty = append(r.dirty, at)
			continue
		}
		delete(r.queued, at)
		if r.prepare(x) {
			r.busy[shard] = true
			r.tasks.Go(func() { x.inBackground(ctx, r.bridge.o.Records, r.came) })
		}
	}
	if len(r.waiting[shard]) == 0 {
		delete(r.waiting, shard)
	}
}

// inBackground performs the read and passes it on.
func (x *read) inBackground(ctx context.Context, records *broker.Records, came chan<- *read) {
	x.perform(ctx, records)
	select {
	case came <- x:
	case <-ctx.Done():
		x.f.Lease.Release()
	}
}

// prepare finds out what is read of a partition. It reports false if nothing is, or not now.
// If the topic is gone, x has the error.
func (r *reader) prepare(x *read) bool {
	x.next, x.positioned = r.next.get(x.at)
	topic, known := r.topics[x.at.Topic]
	if known {
		x.topic = topic
		return topic != ""
	}
	t, err := r.bridge.o.Records.TopicByID(x.at.Topic)
	switch {
	case errors.Is(err, broker.ErrUnknownTopic) && r.many:
		return x.positioned // else it is read when the topic is known
	case errors.Is(err, broker.ErrUnknownTopic) && !x.positioned: // hidden, or deleted: never read
	case errors.Is(err, broker.ErrUnknownTopic):
		x.err = err
		return true
	case err != nil:
		r.later(x.at, err)
		return false
	case !own(t.Name):
		x.topic = t.Name
	}
	r.topics[x.at.Topic] = x.topic
	return x.topic != ""
}

// perform reads. It may be called beside the reader's goroutine. If this node does not know
// the topic of a partition that it has read before, which may have been by one that knew more
// of the catalogue, the node that leads it is asked whether the topic is gone.
func (x *read) perform(ctx context.Context, records *broker.Records) {
	if x.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	if x.topic == "" || !x.positioned {
		found, err := records.Range(ctx, x.at.Topic, x.at.Partition)
		switch {
		case err != nil:
			x.err = err
			return
		case x.topic == "":
			x.err = errBehind
			return
		}
		x.next = found.Start
	}
	x.f, x.err = records.FetchCommitted(ctx, x.at.Topic, x.at.Partition, x.next, fetchBytes)
}

// arrived acts on what was read in the background.
func (r *reader) arrived(ctx context.Context, x *read) error {
	delete(r.busy, x.shard)
	if next, positioned := r.next.get(x.at); positioned != x.positioned || positioned && next != x.next {
		x.f.Lease.Release()
		r.add(x.at) // its slice has moved, and it was read in the new shard, too
	} else if err := r.finish(x); err != nil {
		return err
	}
	r.proceed(ctx, x.shard)
	return nil
}

// finish acts on what was read.
func (r *reader) finish(x *read) error {
	defer x.f.Lease.Release()
	at, err := x.at, x.err
	if r.many && errors.Is(err, broker.ErrNoLeader) { // the next read waits in the background until a node answers
		r.silent[x.shard] = true
		r.add(at)
		r.warn(at, err)
		return nil
	}
	delete(r.silent, x.shard)
	switch {
	case errors.Is(err, broker.ErrUnknownTopic):
		delete(r.topics, at.Topic)
		delete(r.reach, at.Topic)
		return r.note(at, -1)
	case errors.Is(err, broker.ErrOffsetOutOfRange):
		return r.skip(at, x.topic, x.next, x.f)
	case err != nil:
		r.later(at, err)
		return nil
	}
	r.warned = r.warned && len(r.failed)+len(r.silent) > 0
	r.forget()
	next, err := r.scan(x.topic, at, x.next, x.f)
	if err != nil {
		r.later(at, err)
	} else if len(x.f.Batches) == 0 {
		next = max(next, x.f.Stable) // what was there was compacted away
	}
	if err == nil && next < x.f.Stable {
		r.add(at)
	}
	if next == x.next {
		return nil
	}
	return r.note(at, next)
}

// skip goes on where the partition is, which does not have the records that are next.
func (r *reader) skip(at broker.Place, topic string, next int64, f broker.Fetched) error {
	r.add(at)
	if next < f.Start { // its retention does not wait for the queues
		r.bridge.counters.missed.AddInt64(f.Start - next)
		r.bridge.o.Log.Warn("records were deleted before they reached the queues of a vhost", "vhost", r.name, "topic", topic, "partition", at.Partition, "records", f.Start-next)
		return r.note(at, f.Start)
	}
	r.bridge.o.Log.Warn("a partition ends before what the queues of a vhost have of it: they go on at its end", "vhost", r.name, "topic", topic, "partition", at.Partition, "next", next, "end", f.End)
	return r.note(at, f.End)
}

// errFull ends the walk through a batch.
var errFull = errors.New("no room for further records")

// scan adds the records from next on to the Work as long as there is room, and returns
// where to go on.
func (r *reader) scan(topic string, at broker.Place, next int64, f broker.Fetched) (int64, error) {
	for _, raw := range f.Batches {
		b := record.Batch(raw)
		if b.NextOffset() <= next {
			continue
		}
		if r.size >= workBytes {
			return next, nil
		}
		r.scanned += len(b)
		if f.Committed(b) {
			err := b.Each(logstate.MaxInflated, func(rec *record.Record) error {
				if rec.Offset < next {
					return nil
				}
				if r.size >= mostWork {
					return errFull
				}
				if err := r.take(topic, at, rec); err != nil {
					return err
				}
				next = rec.Offset + 1
				return nil
			})
			if errors.Is(err, errFull) {
				return next, nil
			}
			if err != nil {
				return next, err
			}
		}
		next = b.NextOffset()
	}
	return next, nil
}

// take adds a record to the Work if it may reach a queue.
func (r *reader) take(topic string, at broker.Place, rec *record.Record) error {
	c := r.bridge.counters
	c.read.Inc()
	if !r.wanted(topic, at.Topic, rec) {
		return nil
	}
	m, lost := properties.FromRecord(topic, rec)
	if m.Vhost == r.name {
		return nil // it was published in this vhost
	}
	for _, l := range lost {
		c.lost[l].Inc()
	}
	m.Elapse(r.bridge.o.Now().UnixMilli())
	begin := len(r.memory)
	memory, err := m.Properties.Append(r.memory)
	if err != nil {
		return fmt.Errorf("encode the properties of record %d: %w", rec.Offset, err)
	}
	end := len(memory)
	r.memory = append(memory, m.Body...)
	if len(r.work.Publications) == 0 {
		r.since = time.Now()
	}
	r.inWork[at] = true
	r.work.Publications = append(r.work.Publications, queue.Publication{Exchange: exchange, Key: m.Key, Properties: r.memory[begin:end:end], Body: r.memory[end:len(r.memory):len(r.memory)], Delayed: true})
	r.work.Positions = append(r.work.Positions, position(at, rec.Offset+1, len(r.work.Publications)))
	r.size += len(r.memory) - begin + recordSize
	return nil
}

// recordSize is what a record costs besides its bytes, about.
const recordSize = 256

// What is remembered of which records may reach a queue is bounded: so many answers, for
// origins of so many bytes each.
const (
	mostReach  = 10_000
	mostOrigin = 1 << 10
)

// forget forgets which records may reach a queue if bindings have changed since. It is
// called between the read of records and the look at them: when a record became durable
// after a binding was answered, its change has been counted.
func (r *reader) forget() {
	if now := r.changes.Load(); now != r.asked {
		r.asked, r.known = now, 0
		clear(r.reach)
	}
}

// wanted reports whether a record may reach a queue. Devices publish to the same MQTT
// topics again and again, so the answer is remembered by what a routing key is made of.
func (r *reader) wanted(topic string, id weir.TopicID, rec *record.Record) bool {
	var copies bool
	if r.origin, copies = properties.AppendOrigin(r.origin[:0], topic, rec); copies {
		return true
	}
	if len(r.origin) > mostOrigin {
		return r.mayReach(topic, rec)
	}
	of := r.reach[id]
	if reaches, known := of[string(r.origin)]; known {
		return reaches
	}
	if r.known++; of == nil || r.known > mostReach {
		if r.known > mostReach {
			clear(r.reach)
			r.known = 1
		}
		of = make(map[string]bool)
		r.reach[id] = of
	}
	reaches := r.mayReach(topic, rec)
	of[string(r.origin)] = reaches
	return reaches
}

// mayReach asks whether a record may reach a queue.
func (r *reader) mayReach(topic string, rec *record.Record) bool {
	m, _ := properties.FromRecord(topic, rec)
	return r.bridge.o.Queues.MayReach(r.name, exchange, m.Key)
}
