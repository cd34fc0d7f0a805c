package amqp

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// operation is a step of a random sequence.
type operation struct {
	where string // connection and channel
	text  string // the step; %d stands for the tag of a delivery that is not settled
	pick  int    // which of them; the step is left out if there is none
	many  bool   // all up to it
}

// operations returns a random sequence. It has few names, so that they meet: a queue is
// often declared as it was before, and there is often something to settle.
func operations(seed uint64, length int) []operation {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 0)), arguments: make(map[string]string), exchanges: make(map[string]string)}
	for _, q := range queueNames {
		g.arguments[q] = g.one(queueArguments...)
		if g.in(3) {
			g.arguments[q] = ""
		}
	}
	for _, x := range exchangeNames {
		g.exchanges[x] = g.one("direct", "fanout", "topic", "headers") + g.one("", "", " auto-delete", " internal", " arguments={alternate-exchange=S:x2}")
	}
	var all []operation
	for _, q := range queueNames {
		all = append(all, operation{where: g.where(), text: g.declare(q)})
	}
	for len(all) < length {
		all = append(all, g.next())
	}
	return all
}

var (
	queueNames     = []string{"q1", "q2", "q3"}
	exchangeNames  = []string{"x1", "x2"}
	queueArguments = []string{
		"x-max-length=I:2", "x-max-length=I:2 x-overflow=S:reject-publish", "x-max-length-bytes=I:9", "x-max-length=I:0",
		"x-max-length=I:1 x-dead-letter-exchange=S:\"\" x-dead-letter-routing-key=S:q3",
		"x-max-length=I:2 x-overflow=S:reject-publish-dlx x-dead-letter-exchange=S:x1",
		"x-dead-letter-exchange=S:\"\" x-dead-letter-routing-key=S:q1", "x-dead-letter-exchange=S:\"\" x-dead-letter-routing-key=S:q2", "x-dead-letter-exchange=S:x1",
		"x-max-priority=I:3", "x-max-priority=I:3 x-max-length=I:3", "x-single-active-consumer=t:1",
		"x-message-ttl=I:20", "x-message-ttl=I:0", "x-message-ttl=I:20 x-dead-letter-exchange=S:\"\" x-dead-letter-routing-key=S:q3", "x-message-ttl=I:0 x-dead-letter-exchange=S:x2",
	}
)

// expires reports whether messages of the sequence may expire.
func expires(all []operation) bool {
	for _, o := range all {
		if strings.Contains(o.text, "x-message-ttl") || strings.Contains(o.text, "expiration=") {
			return true
		}
	}
	return false
}

type generator struct {
	rng       *rand.Rand
	arguments map[string]string // of the queues, as they are mostly declared
	exchanges map[string]string // types of the exchanges
	published int
}

// in reports true once in n times.
func (g *generator) in(n int) bool { return g.rng.IntN(n) == 0 }

func (g *generator) one(of ...string) string { return of[g.rng.IntN(len(of))] }

func (g *generator) where() string { return g.one("a/1", "a/1", "a/2", "b/1") }

// next returns one operation.
func (g *generator) next() operation {
	o := operation{where: g.where(), pick: g.rng.IntN(8)}
	switch n := g.rng.IntN(100); {
	case n < 6:
		o.text = g.declare(g.one(queueNames...))
	case n < 9:
		o.text = "queue.delete queue=" + g.one(queueNames...) + g.one("", " if-unused", " if-empty")
	case n < 15:
		o.text = g.bind(g.one("bind", "bind", "unbind"))
	case n < 18:
		o.text = g.exchange()
	case n < 20:
		o.text = "queue.purge queue=" + g.one(queueNames...)
	case n < 48:
		o.text = g.publish()
	case n < 56:
		o.text = "basic.get queue=" + g.one(queueNames...) + g.one("", "", " no-ack")
	case n < 66:
		o.text = "basic.consume queue=" + g.one(queueNames...) + " consumer-tag=" + g.one("c1", "c2") +
			g.one("", "", "", "", " no-ack", " no-ack", " exclusive", " arguments={x-priority=I:2}")
	case n < 69:
		o.text = "basic.cancel consumer-tag=" + g.one("c1", "c2")
	case n < 73:
		o.text = "basic.qos prefetch-count=" + g.one("0", "1", "2", "3") + g.one("", "", " global")
	case n < 90:
		o = g.settle(o)
	case n < 92:
		o.text = "basic.recover requeue"
	case n < 96:
		o.text = g.one("tx.select", "tx.commit", "tx.commit", "tx.rollback")
	case n < 98:
		o.text = "confirm.select"
	case n < 99:
		o.text = "channel.close reply-code=200"
	default:
		o.text = "drop"
	}
	return o
}

func (g *generator) declare(queue string) string {
	arguments := g.arguments[queue]
	if g.in(8) {
		arguments = g.one(queueArguments...)
	}
	text := "queue.declare queue=" + queue
	switch g.rng.IntN(12) {
	case 0:
		return text + " passive"
	case 1:
		text += " exclusive"
	case 2:
		text += " auto-delete"
	case 3:
		text += " durable"
	}
	if arguments != "" {
		text += " arguments={" + arguments + "}"
	}
	return text
}

// bind returns a step that binds a queue or an exchange, or ends that.
func (g *generator) bind(verb string) string {
	source := g.one("x1", "x2", "amq.direct", "amq.topic", "amq.fanout", "amq.headers")
	text := fmt.Sprintf("queue.%s queue=%s exchange=%s", verb, g.one(queueNames...), source)
	if g.in(5) {
		text = fmt.Sprintf("exchange.%s destination=%s source=%s", verb, g.one(exchangeNames...), source)
	}
	return text + " routing-key=" + g.one("k.a", "k.a", "k.*", `"#"`, "q1") + g.one("", "", " arguments={h=I:1}", " arguments={x-match=S:any h=I:1 g=S:x}")
}

func (g *generator) exchange() string {
	x := g.one(exchangeNames...)
	if g.in(4) {
		return "exchange.delete exchange=" + x + g.one("", " if-unused")
	}
	kind := g.exchanges[x]
	if g.in(6) {
		kind = g.one("direct", "fanout passive", "topic durable")
	}
	return "exchange.declare exchange=" + x + " type=" + kind
}

func (g *generator) publish() string {
	g.published++
	var b strings.Builder
	if g.in(2) {
		fmt.Fprintf(&b, "basic.publish routing-key=%s", g.one(queueNames...))
	} else {
		fmt.Fprintf(&b, "basic.publish exchange=%s routing-key=%s", g.one("x1", "x1", "x2", "amq.direct", "amq.topic", "amq.fanout", "amq.headers"), g.one("k.a", "k.b", "q1"))
	}
	if g.in(4) {
		b.WriteString(" mandatory")
	}
	b.WriteString(g.one("", "", "", "", "", " priority=1", " priority=2", " priority=9", " headers={h=I:1}", " headers={CC=A:[S:q2 S:k.a]}", " expiration=20", " expiration=0"))
	fmt.Fprintf(&b, " body=%d", g.published)
	if g.in(4) {
		b.WriteString("-long")
	}
	return b.String()
}

// settle returns a verdict on a delivery, or now and then on one that nobody has.
func (g *generator) settle(o operation) operation {
	o.text = g.one("basic.ack", "basic.ack", "basic.ack", "basic.nack", "basic.nack requeue", "basic.reject", "basic.reject requeue")
	tag := " delivery-tag=%d"
	if g.in(25) {
		tag = " delivery-tag=999"
	}
	o.text += tag
	if !strings.HasPrefix(o.text, "basic.reject") && g.in(4) {
		o.text += " multiple"
		o.many = true
	}
	return o
}
