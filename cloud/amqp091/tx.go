package amqp091

import (
	"slices"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/queue"
)

// transaction is what a transactional channel has published and settled since the last
// commit. A commit is one Work: all of it becomes durable, or nothing.
type transaction struct {
	publications []queue.Publication
	sent         []sent
	settled      []settled
	bytes        int
	claims       []*budget.Claim
}

// maxTransaction is how large a transaction of several messages can be: it must become
// durable in one slot.
const maxTransaction = 1<<20 - 64<<10

// settled are leases with their verdict.
type settled struct {
	verdict queue.Verdict
	leases  []lease
}

// txSelect performs tx.select.
func (ch *channel) txSelect() error {
	ch.c.mu.Lock()
	confirms := ch.confirms
	ch.c.mu.Unlock()
	if confirms != nil {
		return refused(wire.PreconditionFailed, "cannot switch from confirm to tx mode")
	}
	if ch.tx == nil {
		ch.tx = new(transaction)
	}
	return ch.c.send(ch.id, &wire.TxSelectOk{})
}

// publish adds a message to the transaction. It copies the message.
func (t *transaction) publish(c *conn, p queue.Publication, s sent) error {
	n := len(p.Properties) + len(p.Body) + len(p.Exchange) + len(p.Key) + messageCost
	if len(t.sent) > 0 && t.bytes+n > maxTransaction {
		return refused(wire.PreconditionFailed, "transaction of %d bytes is larger than configured max size %d", t.bytes+n, maxTransaction)
	}
	claim := c.pending.TryTake(int64(n))
	if claim == nil {
		return refused(wire.PreconditionFailed, "no memory for more transactions")
	}
	t.claims = append(t.claims, claim)
	t.bytes += n
	p.Properties, p.Body = slices.Clone(p.Properties), slices.Clone(p.Body)
	t.publications = append(t.publications, p)
	t.sent = append(t.sent, s)
	return nil
}

// txCommit performs tx.commit.
func (ch *channel) txCommit() error {
	t := ch.tx
	if t == nil {
		return refused(wire.PreconditionFailed, "channel is not transactional")
	}
	c := ch.c
	for i := range t.publications { // not before: a rollback must not leave a new topic
		if err := c.addTopic(&t.publications[i]); err != nil {
			return err
		}
	}
	ch.tx = new(transaction)
	b := c.s.bursts.get()
	b.c, b.ordered = c, true
	b.work.Atomic = true
	b.work.Publications, b.sent = t.publications, t.sent
	for _, s := range t.settled {
		for i := range s.leases {
			if from := s.leases[i].from; from != nil && from.stream {
				continue
			}
			b.settlement(s.leases[i].queue, s.verdict, s.leases[i].id)
		}
		ch.credit(s.leases)
	}
	defer t.release()
	if len(b.sent)+b.settled == 0 {
		c.s.bursts.put(b)
		return c.send(ch.id, &wire.TxCommitOk{})
	}
	c.burst = b
	c.flush()
	if err := c.await(func() bool { return c.ordered == 0 }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.signal()
	if ch.failed != nil || c.closing {
		return nil // and was told why
	}
	return c.out.Method(ch.id, &wire.TxCommitOk{})
}

// txRollback performs tx.rollback. What was settled can be settled again.
func (ch *channel) txRollback() error {
	t := ch.tx
	if t == nil {
		return refused(wire.PreconditionFailed, "channel is not transactional")
	}
	ch.dropTransaction()
	ch.tx = new(transaction)
	return ch.c.send(ch.id, &wire.TxRollbackOk{})
}

// dropTransaction forgets what was not committed.
func (ch *channel) dropTransaction() {
	t := ch.tx
	if t == nil {
		return
	}
	ch.tx = nil
	ch.c.mu.Lock()
	for _, s := range t.settled {
		ch.unsettled.restore(s.leases)
	}
	ch.c.mu.Unlock()
	t.release()
}

// release gives back the memory.
func (t *transaction) release() {
	for _, claim := range t.claims {
		claim.Release()
	}
	t.claims = nil
}
