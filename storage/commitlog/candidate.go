package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// Candidate is a node on its way to own a shard. It applies the log to its Machines as it
// grows, without a claim; they must not act before Take. One goroutine at a time may use
// it.
type Candidate struct {
	log      *Log
	journal  *journal.Candidate
	segments *check.Listing
	stop     context.CancelFunc // of segments and sums
	sums     *sums
}

// Prepare makes a candidate and applies what is in the log now. It claims nothing, and
// writes nothing except the object `cluster` in a bucket that has none. The errors are
// those of Open. The caller must call Take or Close.
func Prepare(ctx context.Context, o Options) (*Candidate, error) {
	c, err := newCandidate(ctx, o, nil)
	if err != nil {
		return nil, fmt.Errorf("prepare commit log: %w", err)
	}
	if err := c.Follow(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// newCandidate makes a candidate that has read nothing yet. For lost see openWith.
func newCandidate(ctx context.Context, o Options, lost func(what string)) (*Candidate, error) {
	l, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if lost != nil {
		l.lost, l.state.Repairing = lost, true
		l.upkeep.Repair(l.giveUp)
		l.state.Tolerate = func(err error) { lost(err.Error()) }
	}
	if l.cluster, err = identity.Open(ctx, o.Bucket, o.Shards); err != nil {
		return nil, err
	}
	if o.Shards > 0 && o.Shards != l.cluster.Shards {
		l.log.Warn("another node has created the cluster meanwhile, with another number of shards, which holds", "shards", l.cluster.Shards, "wanted", o.Shards)
	}
	storage.SetLevel(o.Bucket, l.cluster.Format)
	if o.Shard >= weir.MaxShards { // there may be more than at creation: see Log.Map
		return nil, fmt.Errorf("shard %d of %d at most", o.Shard, weir.MaxShards)
	}
	c := &Candidate{log: l, sums: &sums{bucket: o.Bucket}}
	c.journal, err = journal.NewCandidate(l.journalOptions(o, c.verify), applier{l})
	if err != nil {
		return nil, err
	}
	c.begin(ctx)
	return c, nil
}

// journalOptions are the options of the journal of a log with these options.
func (l *Log) journalOptions(o Options, verify func(context.Context, journal.Recovered) error) journal.Options {
	j := journal.Options{
		Bucket: o.Bucket, Shard: o.Shard, Node: o.Node, Info: o.Info, Depth: l.depth, Window: o.Window, Log: l.log,
		Level: l.cluster.Format, Verify: verify,
	}
	if l.lost != nil {
		j.Lost = func(err error) { l.lost(err.Error()) }
	}
	return j
}

// begin begins to read what verify needs, while the log is recovered.
func (c *Candidate) begin(ctx context.Context) {
	ctx, c.stop = context.WithCancel(ctx)
	c.segments = check.StartListing(ctx, c.log.bucket, c.log.shard)
	c.sums.start(ctx, c.log.objectsBeside())
}

// Position returns the first slot of the log that is not applied.
func (c *Candidate) Position() journal.Position { return c.journal.Position() }

// Follow applies what was appended since the last call. It also looks which of the objects
// exist to which the log refers, so that Take only has to look for the others.
func (c *Candidate) Follow(ctx context.Context) error {
	err := c.journal.Follow(ctx)
	if err == nil {
		err = c.lookAhead(ctx)
	}
	if err != nil {
		return fmt.Errorf("follow commit log: %w", translate(err))
	}
	return nil
}

// Claim claims the next epoch, which must be the given one if that is not 0: see
// journal.Candidate.Claim. The owner of the shard goes on until Take, or until it
// yields, if it expects the nonce (Log.HandOver).
func (c *Candidate) Claim(ctx context.Context, epoch uint64, nonce [16]byte) error {
	if err := c.journal.Claim(ctx, epoch, nonce); err != nil {
		return fmt.Errorf("claim commit log: %w", translate(err))
	}
	return nil
}

// Take makes this node the owner of the shard, under its claim: it fences every earlier
// owner, applies what is left of the log and returns when it may append. The errors are
// those of Open. After an error the Machines must be thrown away.
func (c *Candidate) Take(ctx context.Context) (*Log, error) {
	defer c.Close()
	l := c.log
	var err error
	if l.journal, err = c.journal.Take(ctx); err != nil {
		return nil, fmt.Errorf("open commit log: %w", translate(err))
	}
	if l.journal.Epoch() > math.MaxInt32 {
		return nil, errors.Join(fmt.Errorf("open commit log: epoch %d does not fit a leader epoch", l.journal.Epoch()), l.journal.Close())
	}
	l.epoch, l.opened = int32(l.journal.Epoch()), l.now()
	l.acked.Store(0) // recovery has applied slots of other epochs
	// Not in recovery: there a run is a slice of its slot's object, and caching it would
	// keep the whole object in memory.
	l.state.Appended = func(key state.Place, base int64, data []byte) { l.tail.add(cacheKey{key, base}, data, l.applying) }
	l.state.Changed = l.changed
	l.spec.forgotten = l.state.Catalogue // what former owners may have forgotten, too
	go l.commit()
	l.upkeep.Start(l.journal.Epoch(), l.Level(), l.recovered.Knows)
	return l, nil
}

// Close ends what the candidate has begun. After Take it does nothing.
func (c *Candidate) Close() {
	c.stop()
	c.segments.Wait()
	c.sums.ready.Wait()
}
