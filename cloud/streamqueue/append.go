package streamqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/record"
)

// A message goes to the partition of its record's key, as with gateways and Kafka's
// producers. Messages without a key are all in one partition, and so in order.

// appendBytes is the size of a batch from which on another one is begun.
const appendBytes = 512 << 10

// appending is one call of append.
type appending struct {
	ctx     context.Context
	t       *Topics
	topics  map[string]target
	batches map[place]*batch
	order   []*batch // as they were begun
	errs    []error  // by message; each is set by one goroutine
	left    atomic.Int64
	done    func([]error)
}

// target is a topic that gets messages.
type target struct {
	broker.Topic
	limit int // bytes of a batch
	err   error
}

// place is where messages go.
type place struct {
	topic     string
	partition int32
}

// batch is messages for one partition.
type batch struct {
	target
	partition int32
	builder   record.Builder
	messages  []int // their indexes
}

// append appends messages to their topics. It calls done when all are durable or refused, or
// when ctx ends.
func (t *Topics) append(ctx context.Context, all []queue.StreamMessage, done func([]error)) {
	a := &appending{ctx: ctx, t: t, topics: make(map[string]target), batches: make(map[place]*batch), errs: make([]error, len(all)), done: done}
	a.left.Store(1) // for this loop, so that done is called once, at the end
	for i := range all {
		if err := a.add(i, &all[i]); err != nil {
			a.errs[i] = err
		}
	}
	for _, b := range a.order {
		a.send(b)
	}
	a.answered()
}

// answered calls done after the last answer.
func (a *appending) answered() {
	if a.left.Add(-1) == 0 {
		a.done(a.errs)
	}
}

func (a *appending) target(name string) target {
	found, known := a.topics[name]
	if known {
		return found
	}
	found.Topic, found.err = a.t.topic(name)
	if found.err == nil {
		found.limit, found.err = strconv.Atoi(a.t.o.Broker.TopicValue(found.Topic, "max.message.bytes"))
	}
	a.topics[name] = found
	return found
}

// add adds a message to the batch of its partition.
func (a *appending) add(i int, m *queue.StreamMessage) error {
	to := a.target(m.Topic)
	if to.err != nil {
		return refusal(to.err)
	}
	var p wire.Properties
	if len(m.Properties) > 0 {
		if err := p.Decode(m.Properties); err != nil {
			return fmt.Errorf("%w: %w", queue.ErrInvalid, err)
		}
	}
	r, lost := properties.ToRecord(m.Vhost, m.Exchange, m.Key, &p, m.Body)
	a.t.count(lost)
	r.Timestamp = m.Time
	at := place{m.Topic, record.Partition(r.Key, to.Partitions)}
	b := a.batches[at]
	if b != nil && b.builder.Size()+r.MostBytes() > min(to.limit, appendBytes) {
		b = nil
	}
	if b == nil {
		b = &batch{target: to, partition: at.partition}
		a.batches[at] = b
		a.order = append(a.order, b)
	}
	if err := b.builder.Append(&r); err != nil {
		return fmt.Errorf("%w: %w", queue.ErrTooLarge, err)
	}
	b.messages = append(b.messages, i)
	return nil
}

// send appends a batch. The log keeps the order of the batches of a partition.
func (a *appending) send(b *batch) {
	if len(b.messages) == 0 {
		return // its only message was refused
	}
	answer := func(err error) {
		for _, i := range b.messages {
			a.errs[i] = err
		}
	}
	data, err := b.builder.Build()
	if err != nil {
		answer(fmt.Errorf("%w: %w", queue.ErrTooLarge, err))
		return
	}
	a.left.Add(1)
	a.t.o.Records.Append(a.ctx, broker.Append{Topic: b.ID, Partition: b.partition, Batch: data, Verified: true}, func(_ int64, err error) {
		answer(refusal(err))
		a.answered()
	})
}

// refusal turns an error of the broker into one of queues.
func refusal(err error) error {
	switch {
	case errors.Is(err, broker.ErrTooLarge):
		return fmt.Errorf("%w: %w", queue.ErrTooLarge, err)
	case errors.Is(err, broker.ErrCorrupt), errors.Is(err, broker.ErrInvalidTimestamp):
		return fmt.Errorf("%w: %w", queue.ErrInvalid, err)
	case errors.Is(err, broker.ErrNotOwner), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", queue.ErrClosed, err)
	}
	return translate(err)
}
