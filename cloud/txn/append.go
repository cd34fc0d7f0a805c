package txn

import (
	"github.com/weirmq/weir/storage/commitlog"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// Append passes a transactional batch to the log if it belongs to the producer's
// transaction; done is called as by commitlog.Log.Append. Calls from one goroutine
// keep their order, also with batches of other partitions or without a transaction.
// The caller must make sure that the partition exists.
//
// With Implicit, a partition that is not part of the transaction is added, and the
// transaction begins if necessary. The entry for that goes to the log before the
// batch, and the batch does not wait for it. A crash may leave an added partition
// without a batch, which is harmless, but never a batch that belongs to no
// transaction.
//
// Errors besides those of the log: ErrInvalidID, ErrUnknownID, ErrFenced,
// ErrConcurrent, ErrNotInTransaction, ErrTooLarge, ErrClosed, ErrUnavailable.
func (c *Coordinator) Append(a Appended, done func(base int64, err error)) {
	place := state.Place{Topic: a.Topic, Partition: a.Partition}
	c.mu.Lock()
	t, add, err := c.admit(&a, place)
	c.mu.Unlock()
	if err != nil {
		done(-1, err)
		return
	}
	if add {
		entry := encodeAdd(t.id, c.now(), []state.Place{place})
		c.log.Submit(commitlog.Proposal{Commands: []commitlog.Command{entry}}, func([]int64, error) {
			// An error means that the log has ended; the batch behind the entry gets it too.
			c.mu.Lock()
			defer c.mu.Unlock()
			t.done(placeSize)
		})
	}
	c.log.Append(a.Append, func(base int64, err error) {
		c.mu.Lock()
		t.done(0)
		c.mu.Unlock()
		done(base, err)
	})
	if !add {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := t.adding[place]; ok {
		t.adding[place] = true // batches from other goroutines may follow
	}
	t.done(0)
}

// admit decides whether a batch may go to the log now, and whether its partition must
// be added first. It counts what will be passed to the log as in flight, and with add
// the caller too, so that the transaction does not end before the caller has noted
// that the entry is in line.
func (c *Coordinator) admit(a *Appended, place state.Place) (t *transaction, add bool, err error) {
	t, err = c.enter(a.ID, Producer{a.Batch.ProducerID(), a.Batch.ProducerEpoch()})
	switch {
	case err != nil:
		return nil, false, err
	case t.has(place) || t.adding[place]:
	case !a.Implicit:
		return nil, false, ErrNotInTransaction
	case !c.fits(t, placeSize):
		return nil, false, ErrTooLarge
	default:
		add = true
		if t.adding == nil {
			t.adding = make(map[state.Place]bool)
		}
		t.adding[place] = false
		t.reserve(placeSize)
		t.reserve(0)
	}
	t.reserve(0)
	return t, add, nil
}
