package amqp091

import (
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// exchangeDeclare performs exchange.declare.
func (ch *channel) exchangeDeclare(m *wire.ExchangeDeclare) error {
	c := ch.c
	name := withoutBreaks(m.Exchange)
	if name == "" {
		return c.failed(&routing.Error{Err: routing.ErrDefault}, "")
	}
	if m.Passive {
		if _, err := c.engine.Exchange(c.vhost, name); err != nil {
			return c.failed(err, "")
		}
		return ch.answer(m.NoWait, &wire.ExchangeDeclareOk{})
	}
	if err := c.mayConfigure(declaration.AnExchange, name); err != nil {
		return err
	}
	x, err := declaration.Exchange(c.vhost, routing.Exchange{Name: name, Type: m.Type, Durable: m.Durable, AutoDelete: m.AutoDelete, Internal: m.Internal}, m.Arguments)
	if err != nil {
		return err
	}
	if x.Alternate != "" {
		if err := c.mayRead(declaration.AnExchange, name); err != nil {
			return err
		}
		if err := c.mayWrite(declaration.AnExchange, x.Alternate); err != nil {
			return err
		}
	}
	if err := c.engine.DeclareExchange(c.ctx, c.vhost, x); err != nil {
		return c.failed(err, "")
	}
	return ch.answer(m.NoWait, &wire.ExchangeDeclareOk{})
}

// exchangeDelete performs exchange.delete.
func (ch *channel) exchangeDelete(m *wire.ExchangeDelete) error {
	c := ch.c
	name := withoutBreaks(m.Exchange)
	if name == "" {
		return c.failed(&routing.Error{Err: routing.ErrDefault}, "")
	}
	if strings.HasPrefix(name, declaration.Reserved) {
		return refused(wire.AccessRefused, "deletion of system %s not allowed", c.of(declaration.AnExchange, name))
	}
	if err := c.mayConfigure(declaration.AnExchange, name); err != nil {
		return err
	}
	delete(c.exchanges, name)
	if err := c.engine.DeleteExchange(c.ctx, c.vhost, name, m.IfUnused); err != nil {
		return c.failed(err, "")
	}
	return ch.answer(m.NoWait, &wire.ExchangeDeleteOk{})
}

// exchangeBind performs exchange.bind.
func (ch *channel) exchangeBind(m *wire.ExchangeBind) error {
	b := routing.Binding{Source: m.Source, Destination: m.Destination, ToExchange: true, Key: m.RoutingKey}
	if err := ch.bind(b, m.Arguments); err != nil {
		return err
	}
	return ch.answer(m.NoWait, &wire.ExchangeBindOk{})
}

// exchangeUnbind performs exchange.unbind.
func (ch *channel) exchangeUnbind(m *wire.ExchangeUnbind) error {
	b := routing.Binding{Source: m.Source, Destination: m.Destination, ToExchange: true, Key: m.RoutingKey}
	if err := ch.unbind(b, m.Arguments); err != nil {
		return err
	}
	return ch.answer(m.NoWait, &wire.ExchangeUnbindOk{})
}

// queueBind performs queue.bind.
func (ch *channel) queueBind(m *wire.QueueBind) error {
	name, key, err := ch.boundQueue(m.Queue, m.RoutingKey)
	if err != nil {
		return err
	}
	if err := ch.bind(routing.Binding{Source: m.Exchange, Destination: name, Key: key}, m.Arguments); err != nil {
		return err
	}
	return ch.answer(m.NoWait, &wire.QueueBindOk{})
}

// queueUnbind performs queue.unbind.
func (ch *channel) queueUnbind(m *wire.QueueUnbind) error {
	name, key, err := ch.boundQueue(m.Queue, m.RoutingKey)
	if err != nil {
		return err
	}
	if err := ch.unbind(routing.Binding{Source: m.Exchange, Destination: name, Key: key}, m.Arguments); err != nil {
		return err
	}
	return ch.c.send(ch.id, &wire.QueueUnbindOk{})
}

// boundQueue returns the queue and the routing key of a binding. Without a queue it is the
// one that was declared last, and without a key as well, its name is the key.
func (ch *channel) boundQueue(name, key string) (string, string, error) {
	if name != "" {
		return name, key, nil
	}
	name, err := ch.queueName("")
	if err == nil && key == "" {
		key = name
	}
	return name, key, err
}

// bind adds a binding.
func (ch *channel) bind(b routing.Binding, arguments wire.Table) error {
	c := ch.c
	if err := ch.mayBind(&b); err != nil {
		return err
	}
	x, err := c.engine.Exchange(c.vhost, b.Source)
	if err != nil {
		return c.failed(err, "")
	}
	if !b.ToExchange {
		if _, err := c.engine.Queue(c.vhost, b.Destination, c.id); err != nil {
			return c.failed(err, b.Destination)
		}
	}
	if err := c.readBinding(&b, x, arguments); err != nil {
		return err
	}
	if b.Source == properties.TopicExchange && !c.rights.ReadTopics(c.host()) {
		return c.failed(c.engine.BindOnly(c.ctx, c.vhost, b), b.Destination)
	}
	return c.failed(c.engine.Bind(c.ctx, c.vhost, b), b.Destination)
}

// unbind removes a binding.
func (ch *channel) unbind(b routing.Binding, arguments wire.Table) error {
	c := ch.c
	if err := ch.mayBind(&b); err != nil {
		return err
	}
	x, err := c.engine.Exchange(c.vhost, b.Source)
	if errors.Is(err, routing.ErrNotFound) {
		return nil // as in RabbitMQ
	}
	if err != nil {
		return c.failed(err, "")
	}
	if !b.ToExchange {
		if _, err := c.engine.Queue(c.vhost, b.Destination, c.id); errors.Is(err, queue.ErrExclusive) {
			return c.failed(err, b.Destination)
		}
	}
	if err := c.readBinding(&b, x, arguments); err != nil {
		return err
	}
	delete(c.exchanges, b.Source) // it may be deleted with its last binding
	return c.failed(c.engine.Unbind(c.ctx, c.vhost, b), b.Destination)
}

// mayBind checks the names of a binding, and whether the client may change it.
func (ch *channel) mayBind(b *routing.Binding) error {
	c := ch.c
	if b.Source == "" || b.ToExchange && b.Destination == "" {
		return c.failed(&routing.Error{Err: routing.ErrDefault}, "")
	}
	what := declaration.AQueue
	if b.ToExchange {
		what = declaration.AnExchange
	}
	if err := c.mayWrite(what, b.Destination); err != nil {
		return err
	}
	return c.mayRead(declaration.AnExchange, b.Source)
}

// withoutBreaks removes line breaks from a name, as RabbitMQ does.
func withoutBreaks(name string) string {
	if !strings.ContainsAny(name, "\r\n") {
		return name
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(name)
}
