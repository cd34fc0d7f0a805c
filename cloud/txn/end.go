package txn

import (
	"context"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
)

// End commits or aborts the producer's transaction. When it returns nil, the offsets
// of the groups and the markers in all partitions are durable and can be read. It
// returns the producer for the next transaction; with Bump that has a new epoch, or a
// new id when the epochs are used up. A repeated request that had succeeded gets the
// same answer.
//
// If the transaction spans shards, and one of them cannot be reached for a while, End
// returns ErrConcurrent although the decision is durable. The request is to be repeated
// until the transaction has ended everywhere; it cannot be decided otherwise any more.
//
// A producer with Bump may abort when no transaction is ongoing: it cannot know
// whether a request that added something has arrived.
//
// Errors: ErrInvalidID, ErrUnknownID, ErrFenced, ErrConcurrent, ErrInvalidState,
// ErrClosed, ErrUnavailable.
func (c *Coordinator) End(ctx context.Context, r EndRequest) (Producer, error) {
	t, again, err := c.startEnd(&r)
	if err != nil || t == nil {
		return again, err
	}
	defer c.release(t)
	now := c.drain(ctx, t)
	if now.state != Ongoing {
		if done, err := now.idle(&r); err != nil || done {
			return now.producer, err
		}
	}
	next, last := now.producer, now.last
	epoch := next.Epoch
	if r.Bump {
		epoch = next.fence()
		next, last = Producer{next.ID, epoch}, next
	}
	if r.Bump && last.exhausted() {
		id, err := c.newProducerID(ctx)
		if err != nil {
			return NoProducer, err
		}
		next = Producer{id, 0}
	}
	if now.state == Ongoing && now.spans {
		v := verdict{ending: ending{producer: Producer{now.producer.ID, epoch}, commit: r.Commit}, next: next, last: last, timeout: now.timeout}
		v.how = v.ending.how()
		return c.endSpanning(ctx, t, &now, v)
	}
	commands := c.commits(&now, r.Commit)
	commands = append(commands, encodeEnd(t.id, c.now(), r.Commit, next, last))
	if err := c.propose(ctx, "end transaction", commands, markers(&now, r.Commit, epoch)); err != nil {
		return NoProducer, err
	}
	switch {
	case now.state != Ongoing: // only the epoch has changed
	case r.Commit:
		c.opts.Ended(Committed)
	default:
		c.opts.Ended(Aborted)
	}
	return next, nil
}

// startEnd makes the transaction busy. If the request repeats one that bumped the
// epoch, it returns nil and that request's answer.
func (c *Coordinator) startEnd(r *EndRequest) (*transaction, Producer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(r.ID); err != nil {
		return nil, NoProducer, err
	}
	t, ok := c.ids[r.ID]
	if !ok || !t.known() {
		return nil, NoProducer, ErrUnknownID
	}
	decided := t.ending != nil && !t.ending.init
	complete := t.state == CompleteCommit || t.state == CompleteAbort
	switch {
	case t.producer == r.Producer && t.changing(), c.settling && t.state != Ongoing && t.inFlight == 0, r.Bump && decided && t.last == r.Producer:
		return nil, NoProducer, ErrConcurrent
	case t.producer == r.Producer:
		t.busy = true
		return t, NoProducer, nil
	case r.Bump && complete && t.last == r.Producer && t.busy:
		return nil, NoProducer, ErrConcurrent
	case r.Bump && complete && t.last == r.Producer && (t.state == CompleteCommit) == r.Commit:
		return nil, t.producer, nil
	case r.Bump && complete && t.last == r.Producer:
		return nil, NoProducer, ErrInvalidState
	case t.producer.ID == r.Producer.ID:
		return nil, NoProducer, ErrFenced
	default:
		return nil, NoProducer, ErrUnknownID
	}
}

// idle decides what to do when no transaction is ongoing. done means that the request
// repeats one that succeeded. Without done and an error, a producer with Bump may
// abort.
func (d *durable) idle(r *EndRequest) (done bool, err error) {
	switch {
	case r.Bump && !r.Commit:
		return false, nil
	case r.Bump, d.state == Empty, (d.state == CompleteCommit) != r.Commit:
		return false, ErrInvalidState
	default:
		return true, nil
	}
}

// markers returns the markers of a transaction in one shard, nil if no partition needs
// one.
func markers(d *durable, commit bool, epoch int16) *commitlog.TransactionEnd {
	if len(d.places) == 0 {
		return nil
	}
	return &commitlog.TransactionEnd{Producer: d.producer.ID, Epoch: epoch, Commit: commit, Partitions: sortedPlaces(d)}
}

// commits returns the entries that commit a transaction's offsets in their groups.
func (c *Coordinator) commits(d *durable, commit bool) []commitlog.Command {
	if !commit {
		return nil
	}
	return commitsOf(d.groups, c.now(), c.log)
}

// commitsOf returns the entries that commit offsets in their groups. Offsets of deleted
// topics are left out: nothing would remove them again.
func commitsOf(groups map[string]offsets, at int64, log Log) []commitlog.Command {
	var all []commitlog.Command
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		var live []group.Offset
		for _, o := range sortedOffsets(groups[name]) {
			if _, ok := log.TopicByID(o.Topic); ok {
				live = append(live, o)
			}
		}
		if len(live) > 0 {
			kind, body := group.CommitEntry(name, at, live)
			all = append(all, commitlog.Command{Kind: kind, Body: body})
		}
	}
	return all
}
