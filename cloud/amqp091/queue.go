package amqp091

import (
	"errors"
	"math"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
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
		name = reservedPrefix + "gen-" + randomName()
	case strings.HasPrefix(name, reservedPrefix):
		return refused(wire.AccessRefused, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	if err := c.mayConfigure(aQueue, name); err != nil {
		return err
	}
	info, err := c.engine.Queue(c.vhost, name, c.id)
	switch {
	case err == nil:
		if err := c.sameQueue(&info, m); err != nil {
			return err
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
	s, err := c.settings(name, m)
	if err != nil {
		return err
	}
	if s.DeadLetter != nil {
		if err := c.mayRead(aQueue, name); err != nil {
			return err
		}
		if err := c.mayWrite(anExchange, s.DeadLetter.Exchange); err != nil {
			return err
		}
	}
	c.exclusive = c.exclusive || m.Exclusive
	info, err := c.engine.DeclareQueue(c.ctx, c.vhost, name, s)
	if err != nil {
		return c.failed(err, name)
	}
	if !info.Created {
		if err := c.sameQueue(&info, m); err != nil {
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

// sameQueue returns an error unless a declaration is equivalent to the one that made the
// queue.
func (c *conn) sameQueue(info *queue.Info, m *wire.QueueDeclare) error {
	s := &info.Settings
	if m.Exclusive != (s.Owner != "") {
		return c.failed(queue.ErrExclusive, info.Name)
	}
	differs := func(argument string, received, current bool) error {
		if received == current {
			return nil
		}
		return refused(wire.PreconditionFailed, "inequivalent arg '%s' for %s: received '%v' but current is '%v'", argument, c.of(aQueue, info.Name), received, current)
	}
	if err := differs("durable", m.Durable && !m.Exclusive, s.Durable); err != nil {
		return err
	}
	if err := differs("auto_delete", m.AutoDelete, s.AutoDelete); err != nil {
		return err
	}
	current, failed := wire.ParseTable(s.Arguments)
	if failed != nil {
		return failed
	}
	for _, a := range queueArguments {
		if text := wire.Inequivalence(a.name, current, m.Arguments); text != "" {
			return refused(wire.PreconditionFailed, "inequivalent arg '%s' for %s: %s", a.name, c.of(aQueue, info.Name), text)
		}
	}
	return nil
}

// settings reads a declaration.
func (c *conn) settings(name string, m *wire.QueueDeclare) (state.Settings, error) {
	s := state.Settings{Durable: m.Durable && !m.Exclusive, AutoDelete: m.AutoDelete, Arguments: m.Arguments.Raw(),
		TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	if m.Exclusive {
		s.Owner = c.id
	}
	if v := m.Arguments.Lookup("x-dead-letter-exchange"); v.Exists() && v.Kind() != wire.KindString {
		return s, refused(wire.PreconditionFailed, "invalid type '%v' for arg 'x-dead-letter-exchange' in %s", v.Kind(), c.of(aQueue, name))
	}
	for _, a := range queueArguments {
		v := m.Arguments.Lookup(a.name)
		if !v.Exists() || a.read == nil {
			continue
		}
		if reason := a.read(v, &s); reason != "" {
			return s, refused(wire.PreconditionFailed, "invalid arg '%s' for %s: %s", a.name, c.of(aQueue, name), reason)
		}
	}
	return s, nil
}

// queuePurge performs queue.purge.
func (ch *channel) queuePurge(m *wire.QueuePurge) error {
	c := ch.c
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	if err := c.mayRead(aQueue, name); err != nil {
		return err
	}
	n, err := c.engine.Purge(c.ctx, c.vhost, name, c.id)
	if err != nil {
		return c.failed(err, name)
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
	if err := c.mayConfigure(aQueue, name); err != nil {
		return err
	}
	n, err := c.engine.DeleteQueue(c.ctx, c.vhost, name, c.id, m.IfUnused, m.IfEmpty)
	if err != nil && !errors.Is(err, queue.ErrNoQueue) {
		return c.failed(err, name)
	}
	return ch.answer(m.NoWait, &wire.QueueDeleteOk{MessageCount: count32(n)})
}
