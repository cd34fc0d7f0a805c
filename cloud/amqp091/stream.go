package amqp091

import (
	"time"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue"
)

// Stream queues (RabbitMQ): a consumer reads the topic of the queue's name from an offset
// on. It must have a prefetch and acknowledge; that lets it have more, and takes nothing
// away.

// consumeStream performs basic.consume of a stream queue.
func (ch *channel) consumeStream(m *wire.BasicConsume, info *queue.Info, tag string) error {
	c, name := ch.c, info.Name
	if err := c.mayUseTopic(auth.Read, name); err != nil {
		return err
	}
	if err := c.mayHave(m.Arguments, "x-priority", info); err != nil {
		return err
	}
	from, reason := declaration.StreamOffset(m.Arguments.Lookup("x-stream-offset"), c.s.o.Now())
	switch {
	case reason != "":
		return refused(wire.PreconditionFailed, "invalid arg 'x-stream-offset' for %s: %s", c.of(declaration.AQueue, name), reason)
	case ch.prefetch == 0:
		return refused(wire.PreconditionFailed, "consumer prefetch count is not set for '%s'", c.of(declaration.AQueue, name))
	case m.NoAck:
		return refused(wire.NotImplemented, "automatic acknowledgement not supported by stream queues %s", c.of(declaration.AQueue, name))
	case ch.limited:
		return refused(wire.NotImplemented, "%s does not support global qos", c.of(declaration.AQueue, name))
	}
	k := &consumer{ch: ch, tag: tag, queue: name, stream: true, prefetch: ch.prefetch}
	o := k.options(m)
	o.Exclusive = false // as in RabbitMQ
	reader, err := c.engine.ConsumeStream(c.ctx, o, from)
	if err != nil {
		return c.failed(err, name)
	}
	return k.begun(reader, m.NoWait)
}

// mayHave returns an error if a consumer has an argument that its queue's type does not
// support.
func (c *conn) mayHave(arguments wire.Table, name string, info *queue.Info) error {
	if !arguments.Lookup(name).Exists() {
		return nil
	}
	kind, err := declaration.ModuleOf(info)
	if err != nil {
		return err
	}
	return refused(wire.PreconditionFailed, "invalid arg '%s' for %s of queue type %s", name, c.of(declaration.AQueue, info.Name), kind)
}

// mayRead reports whether the client may still read the queue of the consumer. Only write
// calls it.
func (k *consumer) mayRead() bool {
	c := k.ch.c
	return c.reading.Read(k.queue) && (!k.stream || c.reading.Topic(auth.Read, c.host(), k.queue))
}

// throttle counts deliveries of a stream queue, and holds its consumer back for as long as
// the limits of its user say. Only write calls it.
func (k *consumer) throttle(all []queue.Delivery) {
	size := 0
	for i := range all {
		size += len(all[i].Body) + len(all[i].Properties)
	}
	c := k.ch.c
	if wait := c.reading.CountRead(c.client.name, size); wait > 0 {
		k.rests = time.Now().Add(wait)
		time.AfterFunc(wait, k.ready)
	}
}

// settleable returns an error if deliveries of a stream queue would be settled in another
// way than with an acknowledgement. All that were taken are then back: they are given back
// when the connection ends.
func (ch *channel) settleable(all []lease, method string) error {
	for i := range all {
		if k := all[i].from; k != nil && k.stream {
			ch.c.mu.Lock()
			ch.unsettled.restore(all)
			ch.c.mu.Unlock()
			return refused(wire.NotImplemented, "%s not supported by stream queues %s", method, ch.c.of(declaration.AQueue, k.queue))
		}
	}
	return nil
}
