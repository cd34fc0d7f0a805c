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

// readNext reads the partition whose turn it is.
func (r *reader) readNext(ctx context.Context) error {
	at := r.dirty[0]
	if r.dirty = r.dirty[1:]; len(r.dirty) == 0 {
		r.dirty = nil
	}
	delete(r.queued, at)
	topic, next, err := r.place(ctx, at)
	if err == nil && topic == "" {
		return nil
	}
	var f broker.Fetched
	if err == nil {
		f, err = r.fetch(ctx, at, next)
	}
	defer f.Lease.Release()
	switch {
	case errors.Is(err, broker.ErrUnknownTopic):
		delete(r.topics, at.Topic)
		delete(r.reach, at.Topic)
		return r.note(at, -1)
	case errors.Is(err, broker.ErrOffsetOutOfRange):
		return r.skip(at, topic, next, f)
	case errors.Is(err, broker.ErrNoLeader):
		r.awayLater(at, err)
		return nil
	case err != nil:
		r.later(at, err)
		return nil
	}
	r.warned = r.warned && len(r.failed) > 0
	r.forget()
	from := next
	next, err = r.scan(topic, at, next, f)
	if err != nil {
		r.later(at, err)
	} else if len(f.Batches) == 0 {
		next = max(next, f.Stable) // what was there was compacted away
	}
	if err == nil && next < f.Stable {
		r.add(at)
	}
	if next == from {
		return nil
	}
	return r.note(at, next)
}

// readTime bounds how long a partition at another node may hold up the others.
const readTime = 2 * time.Second

func (r *reader) fetch(ctx context.Context, at broker.Place, next int64) (broker.Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	return r.bridge.o.Records.FetchCommitted(ctx, at.Topic, at.Partition, next, fetchBytes)
}

// errBehind means that another node knew a topic which this one does not know yet.
var errBehind = errors.New("this node does not know the topic yet")

// place returns the name of the partition's topic, and what is read there next. The name is
// empty if the topic is not read. A partition that has no position is a new one.
func (r *reader) place(ctx context.Context, at broker.Place) (topic string, next int64, err error) {
	next, positioned := r.next.get(at)
	topic, known := r.topics[at.Topic]
	if !known {
		t, err := r.bridge.o.Records.TopicByID(at.Topic)
		switch {
		case errors.Is(err, broker.ErrUnknownTopic) && r.many:
			return "", 0, r.unknown(ctx, at, positioned)
		case errors.Is(err, broker.ErrUnknownTopic) && !positioned:
			r.topics[at.Topic] = "" // hidden, or deleted: never read
			return "", 0, nil
		case err != nil:
			return "", 0, err
		case !own(t.Name):
			topic = t.Name
		}
		r.topics[at.Topic] = topic
	}
	if topic == "" || positioned {
		return topic, next, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	x, err := r.bridge.o.Records.Range(ctx, at.Topic, at.Partition)
	return topic, x.Start, err
}

// unknown returns what to do with a partition whose topic this node does not know: nil, it
// is read when the topic is known; ErrUnknownTopic, it is gone; or what else was found out.
// Who has read it before may have known more of the catalogue.
func (r *reader) unknown(ctx context.Context, at broker.Place, positioned bool) error {
	if !positioned {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	if _, err := r.bridge.o.Records.Range(ctx, at.Topic, at.Partition); err != nil {
		return err
	}
	return errBehind
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
