package amqp091

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// burst is what a client publishes and settles while more of it can be read without
// waiting. It becomes one Work.
type burst struct {
	c       *conn
	work    queue.Work
	sent    []sent // of work.Publications
	memory  []byte // has the properties and bodies
	bytes   int    // of those
	settled int    // messages in work.Settlements
	ordered bool   // later methods must see its outcome
	claim   *budget.Claim

	// Guarded by conn.mu once it is submitted.
	known    bool // the outcome, which is in the next two
	outcomes []error
	err      error
	kept     bool // what is written to the client has its memory
}

// sent is what must be done when the outcome of a publish is known.
type sent struct {
	ch        *channel
	number    uint64 // of the confirm; 0: none
	mandatory bool
}

// A burst that is as large is submitted, whatever follows.
const (
	burstBytes    = 512 << 10
	burstMessages = 4096
	keepMemory    = 64 << 10 // bytes of a burst's memory that is used again
)

// bursts are bursts whose memory is used again.
type bursts struct{ pool sync.Pool }

func (s *bursts) get() *burst {
	if b, ok := s.pool.Get().(*burst); ok {
		return b
	}
	return new(burst)
}

// put takes a burst back whose outcome is known.
func (s *bursts) put(b *burst) {
	clear(b.work.Publications)
	clear(b.work.Settlements)
	clear(b.sent)
	*b = burst{work: queue.Work{Publications: b.work.Publications[:0], Settlements: b.work.Settlements[:0]}, sent: b.sent[:0], memory: b.memory[:0]}
	if cap(b.memory) > keepMemory {
		b.memory = nil
	}
	s.pool.Put(b)
}

// small reports whether more may be added to the burst.
func (b *burst) small() bool {
	return b == nil || b.bytes < burstBytes && len(b.sent)+b.settled < burstMessages
}

// current returns the burst to which read adds.
func (c *conn) current() *burst {
	if c.burst == nil {
		c.burst = c.s.bursts.get()
		c.burst.c = c
	}
	return c.burst
}

// add adds a message to the burst. It copies the message.
func (c *conn) add(p queue.Publication, s sent) error {
	b := c.current()
	b.copy(&p)
	b.work.Publications = append(b.work.Publications, p)
	b.sent = append(b.sent, s)
	b.ordered = true
	if c.partial == 0 && len(p.Body) <= smallMessage {
		return nil // paid for with the burst
	}
	return c.submit() // a large message goes alone: it is paid for at once
}

// copy moves the properties and the body of a message into the burst's memory.
func (b *burst) copy(p *queue.Publication) {
	n := len(p.Properties) + len(p.Body)
	if cap(b.memory)-len(b.memory) < n {
		b.memory = make([]byte, 0, max(n, 4<<10, min(2*cap(b.memory), keepMemory)))
	}
	from := len(b.memory)
	b.memory = append(b.memory, p.Properties...)
	middle := len(b.memory)
	b.memory = append(b.memory, p.Body...)
	p.Properties, p.Body = b.memory[from:middle:middle], b.memory[middle:len(b.memory):len(b.memory)]
	b.bytes += n + len(p.Exchange) + len(p.Key)
}

// settle adds verdicts on leases to the burst. Those on deliveries of stream queues are
// not for the engine.
func (c *conn) settle(v queue.Verdict, all []lease) {
	for i := range all {
		if all[i].from != nil && all[i].from.stream {
			continue
		}
		b := c.current()
		b.settlement(all[i].queue, v, all[i].id)
		b.ordered = b.ordered || v != queue.Accept
	}
}

func (b *burst) settlement(q state.QueueID, v queue.Verdict, id int64) {
	b.settled++
	all := b.work.Settlements
	for i := len(all) - 1; i >= 0 && i >= len(all)-8; i-- {
		if all[i].Queue == q && all[i].Verdict == v {
			all[i].IDs = append(all[i].IDs, id)
			return
		}
	}
	b.work.Settlements = append(all, queue.Settlement{Queue: q, Verdict: v, IDs: []int64{id}})
}

// flush submits the burst, if there is one. What stops it also ends the connection.
func (c *conn) flush() {
	if err := c.submit(); err != nil {
		c.cancel(err)
	}
}

// submit gives the burst to the engine. It waits while the log holds writers back, and
// tells the client if that takes long.
func (c *conn) submit() error {
	b := c.burst
	if b == nil {
		return nil
	}
	c.burst = nil
	defer c.held()()
	if b.bytes > 0 {
		claim, err := c.memory.Take(context.WithoutCancel(c.ctx), int64(b.bytes)+messageCost*int64(len(b.sent)))
		if err != nil {
			return fmt.Errorf("memory for %d bytes of messages: %w", b.bytes, err)
		}
		b.claim = claim
	}
	c.mu.Lock()
	c.works++
	if len(b.sent) > 0 {
		c.flying = append(c.flying, b)
	}
	if b.ordered {
		c.ordered++
	}
	c.mu.Unlock()
	c.engine.Submit(c.vhost, b.work, b.done)
	return nil
}

// messageCost is the memory of a message on its way, in addition to its bytes.
const messageCost = 128

// done notes the outcome of a burst. Clients learn what became of publishes in their order:
// a burst whose outcome comes before those of earlier ones waits for them.
func (b *burst) done(outcomes []error, err error) {
	c := b.c
	c.mu.Lock()
	b.outcomes, b.err, b.known = outcomes, err, true
	over := []*burst{b}
	if len(b.sent) > 0 {
		n := 0
		for n < len(c.flying) && c.flying[n].known {
			n++
		}
		over = slices.Clone(c.flying[:n])
		c.flying = slices.Delete(c.flying, 0, n)
	}
	for _, b := range over {
		b.act()
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, b := range over {
		b.end()
	}
	if len(over) > 0 {
		c.signal()
	}
}

// act tells the client of the outcome. The caller holds conn.mu.
func (b *burst) act() {
	c := b.c
	if c.works--; b.ordered {
		c.ordered--
	}
	if b.err == nil {
		for i := range b.sent {
			b.kept = b.sent[i].outcome(&b.work.Publications[i], b.outcomes[i]) || b.kept
		}
	}
	if errors.Is(b.err, queue.ErrTooLarge) {
		for i := range b.sent {
			if b.sent[i].ch.failed == nil {
				b.sent[i].ch.failLater(b.err)
			}
		}
		b.err = nil
	}
}

// end gives back what the burst held.
func (b *burst) end() {
	if b.err != nil {
		b.c.lost(b.err)
	}
	if b.claim != nil {
		b.claim.Release()
	}
	if !b.kept {
		b.c.s.bursts.put(b)
	}
}

// lost ends the connection: the engine does not serve it any more. What it did not
// confirm may have become durable.
func (c *conn) lost(err error) {
	if c.ctx.Err() != nil {
		return
	}
	e, ok := errors.AsType[*wire.Error](c.failed(err, ""))
	if !ok {
		c.cancel(err)
		return
	}
	if !e.Code.Hard() {
		e.Code = wire.InternalError
	}
	c.fail(e)
}

// blockedAfter is how long the log may hold a client back before the client is told.
const blockedAfter = time.Second

// held tells the client with connection.blocked that what it publishes is not taken, if
// that takes long, and with connection.unblocked that it is over.
func (c *conn) held() (over func()) {
	if !c.client.blocked {
		return func() {}
	}
	told := make(chan struct{})
	timer := time.AfterFunc(blockedAfter, func() {
		defer close(told)
		if err := c.send(0, &wire.ConnectionBlocked{Reason: "the log is slow"}); err != nil {
			c.cancel(err)
		}
	})
	return func() {
		if timer.Stop() {
			return
		}
		<-told
		if err := c.send(0, &wire.ConnectionUnblocked{}); err != nil {
			c.cancel(err)
		}
	}
}
