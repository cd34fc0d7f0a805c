package amqp091

import (
	"errors"
	"math"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// queueName returns the queue that a method names; without a name it is the one that the
// channel declared last.
func (ch *channel) queueName(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	if ch.lastQueue == "" {
		return "", refused(wire.NotFound, "no previously declared queue")
	}
	return ch.lastQueue, nil
}

// queueDeclare performs queue.declare.
func (ch *channel) queueDeclare(m *wire.QueueDeclare) error {
	c := ch.c
	name := withoutBreaks(m.Queue)
	if ok, known := c.s.replies.declared(name); known {
		return ch.declareReply(m, name, ok)
	}
	if m.Passive {
		info, err := c.engine.Queue(c.vhost, name, c.id)
		if err != nil {
			return c.failed(err, name)
		}
		return ch.declared(m.NoWait, &info)
	}
	switch {
	case name == "":
		if err := c.declaration("", m).Unnamed(); err != nil {
			return err
		}
		name = declaration.Reserved + "gen-" + randomName()
	case strings.HasPrefix(name, declaration.Reserved):
		return refused(wire.AccessRefused, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	if err := c.mayConfigure(declaration.AQueue, name); err != nil {
		return err
	}
	info, err := c.engine.Queue(c.vhost, name, c.id)
	switch {
	case err == nil:
		if err := c.declaration(name, m).Same(&info); err != nil {
			return err
		}
		if info.Settings.Stream {
			return ch.createQueue(name, m) // its topic may have been deleted
		}
		return ch.declared(m.NoWait, &info)
	case !errors.Is(err, queue.ErrNoQueue):
		return c.failed(err, name)
	}
	return ch.createQueue(name, m)
}

// createQueue declares a queue that was not there a moment ago.
func (ch *channel) createQueue(name string, m *wire.QueueDeclare) error {
	c := ch.c
	s, err := c.declaration(name, m).Settings()
	if err != nil {
		return err
	}
	if s.DeadLetter != nil {
		if err := c.mayRead(declaration.AQueue, name); err != nil {
			return err
		}
		if err := c.mayWrite(declaration.AnExchange, s.DeadLetter.Exchange); err != nil {
			return err
		}
	}
	if s.Stream {
		if err := c.mayGiveTopic(name); err != nil {
			return err
		}
	}
	c.exclusive = c.exclusive || m.Exclusive
	info, err := c.engine.DeclareQueue(c.ctx, c.vhost, name, s)
	if err != nil {
		return c.failed(err, name)
	}
	if !info.Created {
		if err := c.declaration(name, m).Same(&info); err != nil {
			return err
		}
	}
	return ch.declared(m.NoWait, &info)
}

// declared answers queue.declare.
func (ch *channel) declared(noWait bool, info *queue.Info) error {
	ch.lastQueue = info.Name
	return ch.answer(noWait, &wire.QueueDeclareOk{Queue: info.Name, MessageCount: count32(info.Ready), ConsumerCount: count32(int64(info.Consumers))})
}

func count32(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

// declaration returns what a method declares under a name.
func (c *conn) declaration(name string, m *wire.QueueDeclare) *declaration.Queue {
	q := &declaration.Queue{Vhost: c.vhost, Name: name, Durable: m.Durable, AutoDelete: m.AutoDelete, Arguments: m.Arguments}
	if m.Exclusive {
		q.Owner = c.id
	}
	return q
}

// queuePurge performs queue.purge.
func (ch *channel) queuePurge(m *wire.QueuePurge) error {
	c := ch.c
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	if err := c.mayRead(declaration.AQueue, name); err != nil {
		return err
	}
	n, err := c.engine.Purge(c.ctx, c.vhost, name, c.id)
	if err != nil {
		return c.unsupported("queue.purge", err, name)
	}
	return ch.answer(m.NoWait, &wire.QueuePurgeOk{MessageCount: count32(n)})
}

// queueDelete performs queue.delete. As in RabbitMQ it is no error if there is no such
// queue.
func (ch *channel) queueDelete(m *wire.QueueDelete) error {
	c := ch.c
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	if err := c.mayConfigure(declaration.AQueue, name); err != nil {
		return err
	}
	n, err := c.engine.DeleteQueue(c.ctx, c.vhost, name, c.id, m.IfUnused, m.IfEmpty)
	if err != nil && !errors.Is(err, queue.ErrNoQueue) {
		return c.failed(err, name)
	}
	return ch.answer(m.NoWait, &wire.QueueDeleteOk{MessageCount: count32(n)})
}
