package amqp091

import (
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// publish performs basic.publish: it adds the message to the burst, or to the transaction.
func (ch *channel) publish(m *wire.BasicPublish) error {
	c := ch.c
	if m.Immediate {
		return refused(wire.NotImplemented, "immediate=true")
	}
	if err := c.publishable(m); err != nil {
		return err
	}
	raw, err := ch.readProperties()
	if err != nil {
		return err
	}
	p := queue.Publication{Exchange: m.Exchange, Key: m.RoutingKey, Properties: raw, Body: ch.in.Body()}
	s := sent{ch: ch, mandatory: m.Mandatory}
	reply := m.Exchange == "" && strings.HasPrefix(m.RoutingKey, replyPrefix)
	if ch.tx != nil && !reply {
		return ch.tx.publish(c, p, s)
	}
	if err := c.addTopic(&p); err != nil {
		return err
	}
	c.mu.Lock()
	if ch.confirms != nil {
		s.number = ch.confirms.next()
	}
	c.mu.Unlock()
	if reply {
		return ch.publishReply(p, s)
	}
	return c.add(p, s)
}

// addTopic adds the topic that gets a message for amq.topic, if one does and the client may
// write to it.
func (c *conn) addTopic(p *queue.Publication) (err error) {
	if p.Exchange != properties.TopicExchange {
		return nil
	}
	p.Topic, err = c.s.o.TopicOf(c.ctx, p.Key, func(op auth.Operation, topic string) bool { return c.rights.Topic(op, c.host(), topic) })
	if err != nil {
		return c.failed(err, "")
	}
	return nil
}

// maxExchanges is how many exchanges a connection remembers.
const maxExchanges = 256

// publishable returns an error unless the client may publish to the exchange, which is
// remembered. If it was deleted since, the engine says so.
func (c *conn) publishable(m *wire.BasicPublish) error {
	if err := c.mayWrite(declaration.AnExchange, m.Exchange); err != nil {
		return err // whether there is such an exchange or not
	}
	x, ok := c.exchanges[m.Exchange]
	if !ok {
		var err error
		if x, err = c.engine.Exchange(c.vhost, m.Exchange); err != nil {
			return c.failed(err, "")
		}
		if len(c.exchanges) >= maxExchanges {
			clear(c.exchanges)
		}
		x.Name = strings.Clone(x.Name)
		c.exchanges[x.Name] = x
	}
	if x.Internal {
		return c.failed(&routing.Error{Err: routing.ErrInternal, Name: m.Exchange}, "")
	}
	if x.Type == routing.Topic {
		return c.mayWriteTopic(m.Exchange, m.RoutingKey)
	}
	return nil
}

// readProperties checks the properties of the message at hand, and returns those that are
// stored.
func (ch *channel) readProperties() ([]byte, error) {
	p, raw := &ch.properties, ch.in.Properties()
	if err := p.Decode(raw); err != nil {
		return nil, err
	}
	if err := declaration.Properties(p, ch.c.user); err != nil {
		return nil, err
	}
	if p.Flags&wire.HasReplyTo != 0 && p.ReplyTo == replyQueue {
		return ch.withReplyTo(p)
	}
	return raw, nil
}

// outcome acts on the outcome of a publish. It reports whether the message is used
// further, because it is returned. The caller holds conn.mu.
func (s *sent) outcome(p *queue.Publication, err error) (kept bool) {
	ch := s.ch
	if ch.over || ch.failed != nil {
		return false
	}
	ok := true
	switch {
	case err == nil:
		ch.c.s.count.published.Inc()
	case errors.Is(err, queue.ErrUnroutable):
		if s.mandatory {
			kept = ch.giveBack(p)
		}
	case errors.Is(err, queue.ErrOverflow), errors.Is(err, queue.ErrRefused) && s.number > 0:
		ok = false
	default:
		ch.failLater(err)
		return false
	}
	if s.number > 0 {
		ch.confirms.settle(s.number, ok)
		if !ch.confirming {
			ch.confirming = true
			ch.c.confirming = append(ch.c.confirming, ch)
		}
	}
	return kept
}

// giveBack sends basic.return, which precedes the confirm. It reports whether the message
// is used further. The caller holds conn.mu.
func (ch *channel) giveBack(p *queue.Publication) bool {
	c := ch.c
	m := wire.BasicReturn{ReplyCode: uint16(wire.NoRoute), ReplyText: "NO_ROUTE", Exchange: p.Exchange, RoutingKey: p.Key}
	if err := c.out.Content(ch.id, &m, p.Properties, p.Body); err != nil {
		c.cancel(err)
	}
	return true
}

// failLater closes the channel because of an outcome: an exchange was deleted. What
// belongs to the channel ends when the client answers. The caller holds conn.mu.
func (ch *channel) failLater(err error) {
	c := ch.c
	e, ok := errors.AsType[*wire.Error](c.failed(err, ""))
	if !ok {
		c.cancel(err)
		return
	}
	e.Method = wire.IDBasicPublish
	ch.failed = e
	c.s.count.errors.Inc()
	c.listener.Traffic.Errors.Add(1)
	_, m := e.Close(ch.id)
	if err := c.out.Method(ch.id, m); err != nil {
		c.cancel(err)
	}
}
