package amqp091

import (
	"slices"
	"strings"
	"sync"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// Direct reply-to (RabbitMQ): a client that consumes from the pseudo-queue replyQueue gets
// the answers to what it publishes with that name in the property reply-to. The property
// becomes a name of the channel, and a message that is published to that name goes to the
// channel, without a queue. It is lost if the client does not read.
const (
	replyQueue  = "amq.rabbitmq.reply-to"
	replyPrefix = replyQueue + "."
)

// replyConsumer is the consumer of direct replies of a channel.
type replyConsumer struct {
	tag, token string
}

// replies are the channels that wait for direct replies, by token.
type replies struct {
	mu  sync.Mutex
	all map[string]*channel // guarded by mu
}

func (r *replies) add(token string, ch *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[string]*channel)
	}
	r.all[token] = ch
}

func (r *replies) remove(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, token)
}

func (r *replies) find(name string) *channel {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[strings.TrimPrefix(name, replyPrefix)]
}

// declared reports whether a name is one for direct replies, and if so whether there is
// such a consumer.
func (r *replies) declared(name string) (ok, known bool) {
	if name == replyQueue {
		return true, true
	}
	if !strings.HasPrefix(name, replyPrefix) {
		return false, false
	}
	return r.find(name) != nil, true
}

// declareReply performs queue.declare of a name for direct replies: it tells whether the
// client still waits for them.
func (ch *channel) declareReply(m *wire.QueueDeclare, name string, ok bool) error {
	if !ok {
		return refused(wire.NotFound, "no %s", ch.c.of(declaration.AQueue, name))
	}
	return ch.declared(m.NoWait, &queue.Info{Name: name, Consumers: 1})
}

// consumeReplies performs basic.consume of replyQueue.
func (ch *channel) consumeReplies(m *wire.BasicConsume, tag string) error {
	c := ch.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !m.NoAck:
		return refused(wire.PreconditionFailed, "reply consumer cannot acknowledge")
	case ch.reply != nil:
		return refused(wire.PreconditionFailed, "reply consumer already set")
	}
	ch.reply = &replyConsumer{tag: tag, token: randomName()}
	c.s.replies.add(ch.reply.token, ch)
	if m.NoWait {
		return nil
	}
	defer c.signal()
	return c.out.Method(ch.id, &wire.BasicConsumeOk{ConsumerTag: tag})
}

// endReply ends the consumer of direct replies, if there is one. The caller holds conn.mu.
func (ch *channel) endReply() {
	if ch.reply != nil {
		ch.c.s.replies.remove(ch.reply.token)
		ch.reply = nil
	}
}

// withReplyTo returns properties whose reply-to names this channel.
func (ch *channel) withReplyTo(p *wire.Properties) ([]byte, error) {
	ch.c.mu.Lock()
	reply := ch.reply
	ch.c.mu.Unlock()
	if reply == nil {
		return nil, refused(wire.PreconditionFailed, "fast reply consumer does not exist")
	}
	p.ReplyTo = replyPrefix + reply.token
	return p.Append(nil)
}

// publishReply delivers a direct reply.
func (ch *channel) publishReply(p queue.Publication, s sent) error {
	c := ch.c
	p.Properties, p.Body = slices.Clone(p.Properties), slices.Clone(p.Body)
	var err error
	if to := c.s.replies.find(p.Key); to == nil || !to.deliverReply(&p) {
		err = queue.ErrUnroutable
	}
	c.mu.Lock()
	s.outcome(&p, err)
	c.mu.Unlock()
	c.signal()
	return nil
}

// deliverReply sends a direct reply to the client of the channel. It reports whether that
// is there and reads.
func (ch *channel) deliverReply(p *queue.Publication) bool {
	c := ch.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.reply == nil || ch.failed != nil || c.closing || c.out.Len() > maxUnwritten {
		return false
	}
	ch.tag++
	m := wire.BasicDeliver{ConsumerTag: ch.reply.tag, DeliveryTag: ch.tag, Exchange: p.Exchange, RoutingKey: p.Key}
	if err := c.out.Content(ch.id, &m, p.Properties, p.Body); err != nil {
		return false
	}
	c.signal()
	return true
}
