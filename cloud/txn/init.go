package txn

import (
	"context"

	"github.com/weirmq/weir/storage/commitlog"
)

// InitProducerID returns the producer of a transactional id for a client that starts:
// a new id if there is none yet or its epochs are used up, else the next epoch. When
// it returns nil, that is durable, all earlier producers are fenced, and an ongoing
// transaction is aborted.
//
// A client that names its current producer (KIP-360) gets ErrFenced if a newer one
// has replaced it. A repeated request that had succeeded gets the same answer. Two
// things differ from Kafka: the client need not ask twice if a transaction was
// ongoing, and a client that is fenced aborts nothing.
//
// A transaction that spans shards may not be aborted everywhere yet: see End.
//
// Errors: ErrInvalidID, ErrInvalidTimeout, ErrFenced, ErrConcurrent,
// ErrTooManyIDs, ErrClosed, ErrUnavailable.
func (c *Coordinator) InitProducerID(ctx context.Context, r InitRequest) (Producer, error) {
	t, again, err := c.startInit(&r)
	if err != nil || t == nil {
		return again, err
	}
	defer c.release(t)
	now := c.drain(ctx, t)
	next := Producer{now.producer.ID, now.producer.Epoch + 1}
	if !now.known() || now.producer.exhausted() {
		id, err := c.newProducerID(ctx)
		if err != nil {
			return NoProducer, err
		}
		next = Producer{id, 0}
	}
	last := NoProducer
	if r.Expected != nil && now.known() {
		last = now.producer
	}
	if now.state == Ongoing && now.spans {
		return c.endSpanning(ctx, t, &now, verdict{
			ending: ending{producer: Producer{now.producer.ID, now.producer.fence()}, init: true}, how: Aborted,
			next: next, last: last, timeout: r.Timeout.Milliseconds(),
		})
	}
	command := encodeInit(t.id, c.now(), next, last, r.Timeout.Milliseconds())
	if err := c.propose(ctx, "begin producer", []commitlog.Command{command}, markers(&now, false, now.producer.fence())); err != nil {
		return NoProducer, err
	}
	if now.state == Ongoing {
		c.opts.Ended(Aborted)
	}
	return next, nil
}

// startInit makes the transactional id busy. If the request is a repeated one, it
// returns nil and that request's answer.
func (c *Coordinator) startInit(r *InitRequest) (*transaction, Producer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(r.ID); err != nil {
		return nil, NoProducer, err
	}
	if r.Timeout <= 0 || r.Timeout > c.opts.MaxTimeout {
		return nil, NoProducer, ErrInvalidTimeout
	}
	t, ok := c.ids[r.ID]
	switch {
	case c.settling:
		return nil, NoProducer, ErrConcurrent
	case !ok && len(c.ids) >= c.opts.MaxIDs:
		return nil, NoProducer, ErrTooManyIDs
	case !ok:
		t = &transaction{id: r.ID}
		c.ids[r.ID] = t
	case t.changing():
		return nil, NoProducer, ErrConcurrent
	case r.Expected == nil || *r.Expected == t.producer:
	case *r.Expected == t.last && t.state != Ongoing && t.inFlight == 0:
		return nil, t.producer, nil
	default:
		return nil, NoProducer, ErrFenced
	}
	t.busy = true
	return t, NoProducer, nil
}
