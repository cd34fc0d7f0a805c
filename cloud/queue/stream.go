package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
)

// A stream queue is a name for a topic. It has no messages of its own: its consumers read
// the topic, each from an offset on, and nothing is taken away. A consumer's verdicts only
// make room in its windows.

// Topics is how an Engine reaches the topics of its stream queues. They may be in other
// shards, so none of these is called with Engine.mu held. A topic that is not there is
// ErrNoTopic.
type Topics struct {
	// Create makes the topic of a new stream queue, unless it is there. What cannot be the
	// name of one is ErrInvalid.
	Create func(ctx context.Context, topic string, s *state.Settings) error
	// Stat returns how many records a topic has, and their bytes at rest.
	Stat func(topic string) (messages, bytes int64, err error)
	// Open begins to read a topic. read returns the next messages, at most most and not
	// many bytes more than streamBytes, none at the end. They are not shared. It is called
	// by one goroutine at a time. ErrAgain means that there is nothing yet.
	Open func(ctx context.Context, topic string, from Offset) (read func(ctx context.Context, most int) ([]Delivery, error), err error)
	// Watch begins to watch a topic. wait returns when it has grown since, or is gone.
	Watch func(topic string) (wait func(ctx context.Context), err error)
	// Append makes messages durable in their topics, those of a partition in their order.
	// done is called once, with an error for each message; it must not block. When ctx ends
	// it is called: nobody wants to know any more what becomes of the messages. ErrNoTopic,
	// ErrTooLarge and ErrInvalid are for good; ErrClosed means that ctx has ended, or that this
	// node does not serve the topic any more.
	Append func(ctx context.Context, all []StreamMessage, done func(errs []error))
}

// ErrAgain means that part of a topic could not be read, and that read waited for that: it is
// to be called once more.
var ErrAgain = errors.New("part of the topic could not be read yet")

// StreamMessage is a message on its way to a topic.
type StreamMessage struct {
	Topic, Vhost  string
	Exchange, Key string
	Properties    []byte // as wire.Properties.Decode takes them
	Body          []byte
	Time          int64 // when it was published: milliseconds since 1970
}

// Offset is where a consumer of a stream queue begins.
type Offset struct {
	From From
	At   int64 // FromOffset: in each partition; FromTime: ms since 1970
}

// From is a way to say where to begin.
type From uint8

// The ways.
const (
	FromNext   From = iota // what comes after the consumer has begun
	FromFirst              // all there is
	FromLast               // the last record that is there
	FromOffset             // an offset
	FromTime               // the first record that is not older
)

// streamBytes is how much a consumer of a stream queue holds that its client has not
// taken, and as much again that was read.
const streamBytes = 128 << 10

// ConsumeStream is Consume for a stream queue. What is durable in the topic when it returns
// and at or behind from is delivered, and all that follows. Errors besides those of
// Consume: ErrNoTopic, and those of the bucket. A work queue is ErrInvalid.
func (e *Engine) ConsumeStream(ctx context.Context, o ConsumerOptions, from Offset) (*Consumer, error) {
	e.mu.Lock()
	q, err := e.queue(o.Vhost, o.Queue, o.Session)
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !q.Settings.Stream {
		return nil, fmt.Errorf("%w: %s in vhost %s is no stream queue", ErrInvalid, o.Queue, o.Vhost)
	}
	read, err := e.o.Topics.Open(ctx, q.Name, from)
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", q.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if now, err := e.queue(o.Vhost, o.Queue, o.Session); err != nil || now != q {
		return nil, errors.Join(err, fmt.Errorf("%w: %s in vhost %s", ErrNoQueue, o.Queue, o.Vhost))
	}
	l := e.host(q.Vhost).live(q)
	c := &Consumer{o: o, l: l, most: streamBytes}
	f := &follower{c: c, read: read}
	f.engine, f.look, f.of = e, f.follow, l.of
	c.from = &f.pump
	if err := c.begin(); err != nil {
		return nil, err
	}
	if l.unwatch == nil {
		var watching context.Context
		watching, l.unwatch = context.WithCancel(e.ctx)
		e.tasks.run(func() { l.watch(watching) })
	}
	return c, nil
}

// follower reads the topic of a stream queue for a consumer.
type follower struct {
	pump
	c    *Consumer
	read func(ctx context.Context, most int) ([]Delivery, error)
	next []Delivery // were read, and wait for room; owned by follow
}

// follow gives the consumer what it has room for, and reads more. At the end of the topic
// there is nothing to do: live.watch wakes it.
func (f *follower) follow(ctx context.Context) (more bool, err error) {
	if f.c.room(1) == 0 {
		return false, nil
	}
	if len(f.next) == 0 {
		f.next, err = f.read(ctx, burst)
		if errors.Is(err, ErrNoTopic) {
			f.c.cancel()
			return false, nil
		}
		if errors.Is(err, ErrAgain) {
			return true, nil
		}
		if err != nil || len(f.next) == 0 {
			return false, err
		}
	}
	notify, before := false, len(f.next)
	for len(f.next) > 0 && f.c.room(1) > 0 {
		d := f.next[0]
		d.Queue = f.c.l.q.ID
		first, ok := f.c.give(d)
		if !ok {
			break
		}
		notify = notify || first
		f.next = f.next[1:]
	}
	l := f.c.l
	l.engine.mu.Lock()
	l.delivered(f.c, &Delivery{}, int64(before-len(f.next)))
	l.engine.mu.Unlock()
	if notify {
		f.c.o.Ready()
	}
	return true, nil
}

// cancel ends a consumer whose topic is gone.
func (c *Consumer) cancel() {
	e, l := c.l.engine, c.l
	e.mu.Lock()
	i := slices.Index(l.consumers, c)
	if i >= 0 {
		l.consumers = slices.Delete(l.consumers, i, i+1)
		if len(l.consumers) == 0 {
			l.endWatch()
		}
		c.end()
	}
	e.mu.Unlock()
	if i >= 0 {
		c.o.Cancelled()
	}
}

// watch wakes the consumers of a stream queue whenever its topic has grown. It begins to
// watch before they look, so that they miss nothing.
func (l *live) watch(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := l.engine.o.Topics.Watch(l.q.Name)
		l.engine.mu.Lock()
		all := slices.Clone(l.consumers)
		l.engine.mu.Unlock()
		for _, c := range all {
			c.from.wake()
		}
		if err == nil {
			wait(ctx)
			continue
		}
		select {
		case <-time.After(maxPause):
		case <-ctx.Done():
		}
	}
}

// endWatch ends the watch of a stream queue without consumers. The caller holds Engine.mu.
func (l *live) endWatch() {
	if l.unwatch != nil {
		l.unwatch()
		l.unwatch = nil
	}
}

// ensureTopic makes the topic of a stream queue, unless it is there.
func (e *Engine) ensureTopic(ctx context.Context, name string, s *state.Settings) error {
	if !s.Stream {
		return nil
	}
	if err := e.o.Topics.Create(ctx, name, s); err != nil {
		return fmt.Errorf("make the topic of stream queue %s: %w", name, err)
	}
	return nil
}

// HasTopic reports whether there is a topic of that name for a stream queue to read.
func (e *Engine) HasTopic(name string) (bool, error) {
	_, _, err := e.o.Topics.Stat(name)
	if errors.Is(err, ErrNoTopic) {
		return false, nil
	}
	return err == nil, err
}

// addTopic adds what is in the topic of a stream queue; nothing if that cannot be told.
func (e *Engine) addTopic(i *Info) {
	if !i.Settings.Stream {
		return
	}
	messages, bytes, err := e.o.Topics.Stat(i.Name)
	if err == nil {
		i.Ready, i.Bytes = messages, bytes
	}
}
