package txn

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

const (
	endTime    = 10 * time.Second // how long a request waits for the shards of its transaction
	tellTime   = 5 * time.Second  // how long one shard may take to answer
	tellAgain  = 20 * time.Millisecond
	tellSlowly = time.Second
	silent     = 8 // attempts before a shard that does not answer is logged
)

// verdict is how a transaction that spans shards ends, and what its id is afterwards.
type verdict struct {
	ending
	how        Ending
	next, last Producer
	timeout    int64 // ms
}

// endSpanning ends a transaction that spans shards, and returns the next producer.
//
// The decision is one slot. What the transaction has in this shard ends in it. The other
// shards are told when it is durable, by each owner again, until they have answered. A
// crash before the decision leaves an ongoing transaction; after it, the next owner goes
// on. Until all have answered, nothing new begins.
func (c *Coordinator) endSpanning(ctx context.Context, t *transaction, now *durable, v verdict) (Producer, error) {
	entries, end := c.prepare(t, now, v)
	if markEarly(c.opts.Mutations) {
		for shard, d := range c.decisions(now, &v.ending) {
			_ = c.opts.Shards.End(ctx, shard, d)
		}
	}
	if err := c.propose(ctx, "decide transaction", entries, end); err != nil {
		return NoProducer, err
	}
	complete := c.concludes(t, v.how)
	defer stopwatch.Waiting(ctx)()
	select {
	case <-complete:
		return v.next, nil
	case <-time.After(endTime):
	case <-ctx.Done():
	case <-c.ctx.Done():
		return NoProducer, ErrClosed
	}
	return NoProducer, ErrConcurrent
}

// prepare returns the entries of a decision, and the markers in this shard.
func (c *Coordinator) prepare(t *transaction, now *durable, v verdict) ([]commitlog.Command, *commitlog.TransactionEnd) {
	here := *now
	here.places, here.groups = make(map[state.Place]struct{}), make(map[string]offsets)
	var places []state.Place
	for _, p := range sortedPlaces(now) {
		if c.opts.elsewhere(weir.SliceOf(p.Topic, p.Partition)) {
			places = append(places, p)
		} else {
			here.places[p] = struct{}{}
		}
	}
	var groups []string
	for _, name := range sortedGroups(now) {
		if c.opts.elsewhere(weir.SliceOfGroup(name)) {
			groups = append(groups, name)
		} else {
			here.groups[name] = now.groups[name]
		}
	}
	entries := append(c.commits(&here, v.commit), encodeDecide(t.id, c.now(), &v, places, groups))
	return entries, markers(&here, v.commit, v.producer.Epoch)
}

// decisions returns what the shards of a decided transaction are told. d has the parts
// that they have.
func (c *Coordinator) decisions(d *durable, e *ending) map[uint32]Decision {
	return c.byShard(Decision{Producer: e.producer, Number: d.number, Commit: e.commit, Places: sortedPlaces(d), Groups: sortedGroups(d)})
}

// byShard splits a decision by the shards that have its parts now, without this one.
func (c *Coordinator) byShard(whole Decision) map[uint32]Decision {
	all := make(map[uint32]Decision)
	in := func(s weir.Slice, add func(*Decision)) {
		if !c.opts.elsewhere(s) {
			return
		}
		shard := c.opts.Shards.ShardOf(s)
		x, ok := all[shard]
		if !ok {
			x = Decision{Producer: whole.Producer, Number: whole.Number, Commit: whole.Commit}
		}
		add(&x)
		all[shard] = x
	}
	for _, p := range whole.Places {
		in(weir.SliceOf(p.Topic, p.Partition), func(x *Decision) { x.Places = append(x.Places, p) })
	}
	for _, name := range whole.Groups {
		in(weir.SliceOfGroup(name), func(x *Decision) { x.Groups = append(x.Groups, name) })
	}
	return all
}

// concludes is conclude for a caller that does not hold mu. It returns a channel that is
// closed when the transaction is complete.
func (c *Coordinator) concludes(t *transaction, how Ending) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conclude(t, how)
}

// conclude starts a goroutine that tells the shards of a decided transaction, and then
// completes it. The caller holds mu.
func (c *Coordinator) conclude(t *transaction, how Ending) <-chan struct{} {
	if t.complete != nil {
		return t.complete
	}
	complete := make(chan struct{})
	if !c.serving || t.ending == nil {
		return complete // this node has lost the shard: the next owner goes on
	}
	t.complete = complete
	told := c.decisions(&t.durable, t.ending)
	c.running.Go(func() {
		if !c.tellAll(t.id, told) {
			return
		}
		if err := c.propose(c.ctx, "complete transaction", []commitlog.Command{encodeComplete(t.id, c.now())}, nil); err != nil {
			return // the log has ended: the next owner goes on
		}
		close(complete)
		c.opts.Ended(how)
	})
	return complete
}

// tellAll tells the shards of a transaction how it ends. It reports whether all have
// answered; if not, the ownership has ended.
func (c *Coordinator) tellAll(id string, told map[uint32]Decision) bool {
	if nextEarly(c.opts.Mutations) {
		for shard, d := range told {
			c.running.Go(func() { c.tell(id, shard, d) })
		}
		return true
	}
	answers := make(chan bool, len(told))
	for shard, d := range told {
		c.running.Go(func() { answers <- c.tell(id, shard, d) })
	}
	all := true
	for range told {
		all = <-answers && all
	}
	return all
}

// tell tells a shard until it has answered or the ownership has ended. If parts of the
// transaction move to other shards meanwhile, those are told.
func (c *Coordinator) tell(id string, shard uint32, d Decision) bool {
	for attempt, wait := 1, tellAgain; ; attempt, wait = attempt+1, min(2*wait, tellSlowly) {
		ctx, cancel := context.WithTimeout(c.ctx, tellTime)
		err := c.opts.Shards.End(ctx, shard, d)
		cancel()
		if err == nil {
			return true
		}
		if attempt%(silent*silent) == silent {
			c.opts.Log.Warn("transaction is decided, but one of its shards does not answer: trying again", "transactional_id", id, "shard", shard, "err", err)
		}
		if pause.For(c.ctx, wait) != nil {
			return false
		}
		if now := c.byShard(d); len(now) != 1 || len(now[shard].Places)+len(now[shard].Groups) == 0 {
			return c.tellAll(id, now)
		}
	}
}
