package amqp091

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// consumer is a consumer of a channel.
type consumer struct {
	ch       *channel
	tag      string
	queue    string
	noAck    bool
	stream   bool          // its deliveries are not settled with the engine
	prefetch int           // 0: no limit
	window   *queue.Window // of its own prefetch; nil if it does not acknowledge
	from     *queue.Consumer
	rests    time.Time // until then it gets nothing: its user has a limit; owned by write

	// Guarded by conn.mu.
	live   bool // the client has its tag, and gets deliveries
	queued bool // it is in conn.ready
	ended  bool // by the client, or because the queue is gone
}

// qos performs basic.qos. RabbitMQ gives global another meaning than the specification:
// true is for the channel, false for each consumer that begins after it; false ends the
// limit of the channel.
func (ch *channel) qos(m *wire.BasicQos) error {
	if m.PrefetchSize != 0 {
		return refused(wire.NotImplemented, "prefetch_size!=0 (%d)", m.PrefetchSize)
	}
	if n := int(m.PrefetchCount); !m.Global {
		ch.prefetch, ch.limited = n, false
		ch.window.Resize(maxUnsettled)
	} else if ch.limited = n > 0; n == 0 {
		ch.window.Resize(maxUnsettled)
	} else {
		ch.window.Resize(n)
	}
	return ch.c.send(ch.id, &wire.BasicQosOk{})
}

// consume performs basic.consume.
func (ch *channel) consume(m *wire.BasicConsume) error {
	c := ch.c
	tag := m.ConsumerTag
	if ch.knows(tag) {
		return refused(wire.NotAllowed, "attempt to reuse consumer tag '%s'", tag)
	}
	if tag == "" {
		tag = declaration.Reserved + "ctag-" + randomName()
	}
	if m.Queue == replyQueue {
		return ch.consumeReplies(m, tag)
	}
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	if err := c.mayRead(declaration.AQueue, name); err != nil {
		return err
	}
	info, err := c.engine.Queue(c.vhost, name, c.id)
	if err != nil {
		return c.failed(err, name)
	}
	if info.Settings.SingleActive && m.Exclusive {
		return c.failed(queue.ErrConsumed, name)
	}
	if err := c.hasRoom(info.Settings.Stream); err != nil {
		return err
	}
	if info.Settings.Stream {
		return ch.consumeStream(m, &info, tag)
	}
	if err := c.mayHave(m.Arguments, "x-stream-offset", &info); err != nil {
		return err
	}
	priority := int64(0)
	if v := m.Arguments.Lookup("x-priority"); v.Exists() {
		if reason := declaration.Integer(v, &priority); reason != "" {
			return refused(wire.PreconditionFailed, "invalid arg 'x-priority' for %s: %s", c.of(declaration.AQueue, name), reason)
		}
	}
	return ch.begin(m, name, tag, int32(min(max(priority, math.MinInt32), math.MaxInt32)))
}

// knows reports whether a consumer has the tag.
func (ch *channel) knows(tag string) bool {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	return ch.consumers[tag] != nil || ch.reply != nil && ch.reply.tag == tag
}

// How many consumers a connection can have, and how many of them of stream queues: each of
// these holds messages of its own.
const (
	maxConsumers       = 10_000
	maxStreamConsumers = 100
)

// hasRoom returns an error if the connection can have no further consumer.
func (c *conn) hasRoom(stream bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, streams := 0, 0
	for _, ch := range c.channels {
		all += len(ch.consumers)
		if !stream {
			continue
		}
		for _, k := range ch.consumers {
			if k.stream {
				streams++
			}
		}
	}
	switch {
	case all >= maxConsumers:
		return refused(wire.NotAllowed, "reached maximum (%d) of consumers per connection", maxConsumers)
	case streams >= maxStreamConsumers:
		return refused(wire.NotAllowed, "reached maximum (%d) of consumers of stream queues per connection", maxStreamConsumers)
	}
	return nil
}

// begin begins a consumer of a work queue. Its deliveries follow the answer.
func (ch *channel) begin(m *wire.BasicConsume, name, tag string, priority int32) error {
	k := &consumer{ch: ch, tag: tag, queue: name, noAck: m.NoAck, prefetch: ch.prefetch}
	o := k.options(m)
	o.Priority = priority
	from, err := ch.c.engine.Consume(o)
	if err != nil {
		return ch.c.failed(err, name)
	}
	return k.begun(from, m.NoWait)
}

// options returns what the engine needs to know of the consumer, and makes its window.
func (k *consumer) options(m *wire.BasicConsume) queue.ConsumerOptions {
	ch := k.ch
	o := queue.ConsumerOptions{Vhost: ch.c.vhost, Queue: k.queue, Session: ch.c.id, Tag: k.tag, NoAck: m.NoAck, Exclusive: m.Exclusive,
		Arguments: m.Arguments.Raw(), Ready: k.ready, Cancelled: k.cancelled}
	if !m.NoAck {
		k.window = queue.NewWindow(ch.prefetch)
		o.Windows = []*queue.Window{k.window, ch.window}
	}
	return o
}

// begun answers basic.consume.
func (k *consumer) begun(from *queue.Consumer, noWait bool) (err error) {
	ch, c := k.ch, k.ch.c
	c.mu.Lock()
	k.from, k.live = from, true
	ch.consumers[k.tag] = k
	if !noWait {
		err = c.out.Method(ch.id, &wire.BasicConsumeOk{ConsumerTag: k.tag})
	}
	k.enqueue() // Ready may have been called before
	if k.ended {
		c.ended = append(c.ended, k)
	}
	c.mu.Unlock()
	c.signal()
	return err
}

// ready notes that deliveries wait. The engine calls it.
func (k *consumer) ready() {
	c := k.ch.c
	c.mu.Lock()
	k.enqueue()
	c.mu.Unlock()
	c.signal()
}

// enqueue adds the consumer to those that write asks for deliveries. The caller holds
// conn.mu.
func (k *consumer) enqueue() {
	if k.live && !k.queued && !k.ended {
		k.queued = true
		k.ch.c.ready = append(k.ch.c.ready, k)
	}
}

// cancelled notes that the queue is gone. The engine calls it.
func (k *consumer) cancelled() {
	c := k.ch.c
	c.mu.Lock()
	if !k.ended {
		k.ended = true
		if k.live {
			c.ended = append(c.ended, k)
		}
	}
	c.mu.Unlock()
	c.signal()
}

// tellCancelled tells the client that the queue of a consumer is gone, or closes the
// connection if the vhost is, or if this node does not serve it any more. Only write calls
// it.
func (c *conn) tellCancelled(k *consumer) {
	there, err := c.engine.HasVhost(c.ctx, c.vhost)
	if err == nil && !there {
		err = queue.ErrNoVhost
	}
	if err != nil {
		c.lost(err)
		return
	}
	ch := k.ch
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.consumers[k.tag] != k {
		return // the client has ended it
	}
	delete(ch.consumers, k.tag)
	if !c.client.cancelNotify || ch.failed != nil {
		return
	}
	if err := c.out.Method(ch.id, &wire.BasicCancel{ConsumerTag: k.tag, NoWait: true}); err != nil {
		c.cancel(err)
	}
}

// revoke ends a consumer whose client may not read the queue any more, and tells the
// client. Only write calls it.
func (c *conn) revoke(k *consumer) {
	c.tellCancelled(k)
	if err := c.end(c.ctx, k); err != nil {
		c.cancel(err)
	}
}

// cancel performs basic.cancel.
func (ch *channel) cancel(m *wire.BasicCancel) error {
	c := ch.c
	c.mu.Lock()
	k := ch.consumers[m.ConsumerTag]
	delete(ch.consumers, m.ConsumerTag)
	if ch.reply != nil && ch.reply.tag == m.ConsumerTag {
		ch.endReply()
	}
	c.mu.Unlock()
	if k != nil {
		if err := c.end(c.ctx, k); err != nil {
			return err
		}
	}
	return ch.answer(m.NoWait, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
}

// end ends a consumer. What it has delivered stays unsettled.
func (c *conn) end(ctx context.Context, k *consumer) error {
	c.mu.Lock()
	k.ended = true
	c.mu.Unlock()
	err := k.from.Close(ctx)
	if err == nil || errors.Is(err, queue.ErrClosed) {
		return nil
	}
	c.s.o.Log.Error("an AMQP consumer did not end well", "vhost", c.vhost, "tag", k.tag, "err", err)
	return c.failed(fmt.Errorf("end consumer: %w", err), "")
}

// get performs basic.get.
func (ch *channel) get(m *wire.BasicGet) error {
	c := ch.c
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	if err := c.mayRead(declaration.AQueue, name); err != nil {
		return err
	}
	if !m.NoAck && ch.open() >= maxUnsettled {
		return refused(wire.PreconditionFailed, "channel has %d unacknowledged deliveries", maxUnsettled)
	}
	d, left, ok, err := c.engine.Get(c.ctx, c.vhost, name, c.id)
	if err != nil {
		return c.unsupported("basic.get", err, name)
	}
	if !ok {
		return c.send(ch.id, &wire.BasicGetEmpty{})
	}
	if m.NoAck {
		c.settle(queue.Accept, []lease{{queue: d.Queue, id: d.ID}})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.signal()
	c.s.count.delivered.Inc()
	ch.tag++
	if !m.NoAck {
		ch.unsettled.add(lease{tag: ch.tag, queue: d.Queue, id: d.ID})
	}
	return c.out.Content(ch.id, &wire.BasicGetOk{DeliveryTag: ch.tag, Redelivered: d.Redelivered(), Exchange: d.Exchange, RoutingKey: d.Key, MessageCount: count32(left)}, visible(d.Properties), d.Body)
}

// open returns how many deliveries are not settled.
func (ch *channel) open() int {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	return ch.unsettled.len()
}
