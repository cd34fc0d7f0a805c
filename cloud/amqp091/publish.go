package amqp091

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
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

// maxExchanges is how many exchanges a connection remembers.
const maxExchanges = 256

// publishable returns an error unless the client may publish to the exchange, which is
// remembered. If it was deleted since, the engine says so.
func (c *conn) publishable(m *wire.BasicPublish) error {
	if err := c.mayWrite(anExchange, m.Exchange); err != nil {
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
		return c.routingFailed(&routing.Error{Err: routing.ErrInternal, Name: m.Exchange})
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
	if p.Flags&wire.HasUserID != 0 && p.UserID != ch.c.user {
		return nil, refused(wire.PreconditionFailed, "user_id property set to '%s' but authenticated user was '%s'", p.UserID, ch.c.user)
	}
	if p.Flags&wire.HasExpiration != 0 {
		if reason := checkExpiration(p.Expiration); reason != "" {
			return nil, refused(wire.PreconditionFailed, "invalid expiration '%s': %s", p.Expiration, reason)
		}
	}
	if p.Flags&wire.HasHeaders != 0 {
		for _, name := range []string{"CC", "BCC"} {
			if v := p.Headers.Lookup(name); v.Exists() && v.Kind() != wire.KindArray {
				return nil, refused(wire.PreconditionFailed, "invalid message: {unacceptable_type_in_header,\"%s\",%v}", name, v.Kind())
			}
		}
	}
	if p.Flags&wire.HasReplyTo != 0 && p.ReplyTo == replyQueue {
		return ch.withReplyTo(p)
	}
	return raw, nil
}

// checkExpiration returns what is wrong with the property expiration, in RabbitMQ's words.
func checkExpiration(text string) string {
	digits := strings.TrimLeft(text, "+-")
	sign := text[:len(text)-len(digits)]
	end := 0
	for end < len(digits) && digits[end] >= '0' && digits[end] <= '9' {
		end++
	}
	if end == 0 || len(sign) > 1 {
		return "no_integer"
	}
	if rest := digits[end:]; rest != "" {
		return fmt.Sprintf("{leftover_string,%q}", rest)
	}
	n := int64(0)
	for _, d := range digits {
		if n = 10*n + int64(d-'0'); n > maxMillis {
			n = math.MaxInt64/10 - 9 // too large, whatever follows
		}
	}
	switch {
	case sign == "-" && n > 0:
		return fmt.Sprintf("{value_negative,%s}", text)
	case n > maxMillis:
		return fmt.Sprintf("{value_too_big,%s}", digits)
	}
	return ""
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
	case errors.Is(err, queue.ErrOverflow):
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
