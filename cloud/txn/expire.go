package txn

import (
	"context"
	"errors"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
)

const (
	sweepEvery = time.Hour   // interval between searches for ids to forget
	retryAfter = time.Second // after a failed abort of a transaction that timed out
	forgetMany = 500         // ids in one entry at most
)

// deadline returns when the ongoing transaction times out, in ms since 1970.
func (d *durable) deadline() int64 { return d.started + d.timeout }

// schedule makes sure that the time-outs are checked by then. The caller holds mu.
func (c *Coordinator) schedule(by int64) {
	if by >= c.alarm {
		return
	}
	c.alarm = by
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watch aborts transactions that have timed out, and forgets idle ids, until ctx
// ends.
func (c *Coordinator) watch(ctx context.Context) {
	swept := int64(0) // sweep when an ownership begins
	for {
		now := c.now()
		for _, t := range c.overdue(now) {
			c.abort(ctx, t)
		}
		if now >= swept+sweepEvery.Milliseconds() {
			c.forget(c.idle(now))
			swept = now
		}
		wait := c.next(now, swept+sweepEvery.Milliseconds())
		select {
		case <-time.After(wait):
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// next sets the alarm, and returns the time until then.
func (c *Coordinator) next(now, sweep int64) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = sweep
	for t := range c.open {
		// An overdue transaction is being aborted, or waits for another change.
		c.alarm = min(c.alarm, max(t.deadline(), now+retryAfter.Milliseconds()))
	}
	return time.Duration(c.alarm-now) * time.Millisecond
}

// overdue returns the transactions that have timed out, and makes them busy.
func (c *Coordinator) overdue(now int64) []*transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*transaction
	for t := range c.open {
		if t.deadline() <= now && !t.busy && c.serving {
			t.busy = true
			due = append(due, t)
		}
	}
	return due
}

// abort aborts a transaction that has timed out, and fences its producer, which may
// still be using it. It does not wait for the log, so that many aborts share few
// slots.
func (c *Coordinator) abort(ctx context.Context, t *transaction) {
	now := c.drain(ctx, t)
	epoch := now.producer.fence()
	fenced := Producer{now.producer.ID, epoch}
	entries, end := []commitlog.Command{encodeEnd(t.id, c.now(), false, fenced, NoProducer)}, markers(&now, false, epoch)
	if now.spans {
		entries, end = c.prepare(t, &now, verdict{ending: ending{producer: fenced}, next: fenced, last: NoProducer, timeout: now.timeout})
	}
	c.log.Submit(commitlog.Proposal{Commands: entries, End: end}, func(_ []int64, err error) {
		if err == nil && now.spans {
			c.concludes(t, TimedOut)
		}
		c.release(t)
		if errors.Is(err, commitlog.ErrClosed) {
			return
		}
		if err != nil {
			c.opts.Log.Warn("transaction timed out and is not aborted yet: trying again", "transactional_id", t.id, "err", err)
			return
		}
		if !now.spans { // else conclude counts it
			c.opts.Ended(TimedOut)
		}
		c.opts.Log.Info("transaction aborted: it timed out", "transactional_id", t.id, "producer", now.producer.ID, "timeout_ms", now.timeout)
	})
}

// idle returns the ids that have not been used for Expiry, and makes them busy.
func (c *Coordinator) idle(now int64) []*transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	var idle []*transaction
	if c.settling {
		return nil
	}
	for _, t := range c.ids {
		if t.known() && t.state != Ongoing && !t.changing() && t.inFlight == 0 && c.serving && t.updated+c.opts.Expiry.Milliseconds() <= now {
			t.busy = true
			idle = append(idle, t)
		}
	}
	return idle
}

// forget removes ids. Their producers are told that they are unknown, and begin anew.
func (c *Coordinator) forget(idle []*transaction) {
	for len(idle) > 0 {
		some := idle[:min(len(idle), forgetMany)]
		idle = idle[len(some):]
		ids := make([]string, len(some))
		for i, t := range some {
			ids[i] = t.id
		}
		c.log.Submit(commitlog.Proposal{Commands: []commitlog.Command{encodeForget(ids)}}, func(_ []int64, err error) {
			for _, t := range some {
				c.release(t)
			}
			if err != nil && !errors.Is(err, commitlog.ErrClosed) {
				c.opts.Log.Warn("idle transactional ids not removed: trying again", "ids", len(ids), "err", err)
			}
		})
	}
}
