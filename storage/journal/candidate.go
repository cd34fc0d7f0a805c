package journal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
)

// Candidate is a node on its way to own a shard. It reads the log along as often as
// Follow is called, without a claim. Then it claims an epoch, and takes over. What it has
// read before it claimed is not read again, so a candidate that is close to the end of
// the log takes over at once. One goroutine at a time may use it.
type Candidate struct {
	o     Options
	w     *walker
	first Position // after Claim: the newest checkpoint that its List has shown
}

// Prepare makes a candidate and applies to s what is in the log now: the newest
// checkpoint and what follows it. It claims nothing and writes nothing.
//
// s holds the beginning of the log then, and after each Follow: never more than what is,
// or becomes, part of the log. It may lack what was acknowledged meanwhile; Take applies
// that. After an error s must be discarded.
//
// Calls are repeated until ctx ends. Errors: ErrCorrupt, ErrFormat, those of s, and those
// of the bucket.
func Prepare(ctx context.Context, o Options, s State) (*Candidate, error) {
	c, err := NewCandidate(o, s)
	if err != nil {
		return nil, fmt.Errorf("prepare journal: %w", err)
	}
	return c, c.Follow(ctx)
}

// NewCandidate is Prepare without the first Follow: the candidate has read nothing.
func NewCandidate(o Options, s State) (*Candidate, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	w := newWalker(newStore(o), s, o.Window)
	w.lost = o.Lost
	return &Candidate{o: o, w: w}, nil
}

// Position returns the first slot that is not applied.
func (c *Candidate) Position() Position { return c.w.pos }

// Recovered describes what was read.
func (c *Candidate) Recovered() Recovered { return c.w.recovered() }

// Follow applies what was appended since the last call, up to the first slot that is not
// there. It seals nothing, whether this node has a claim or not. Errors are those of
// Prepare, and ErrFenced if there is a claim and a higher one has taken over.
func (c *Candidate) Follow(ctx context.Context) error {
	if err := c.w.catchUp(ctx); err != nil {
		return fmt.Errorf("follow journal of shard %d: %w", c.o.Shard, err)
	}
	return nil
}

// Claim claims the next epoch for this node, which must be the given one if that is not
// 0. The nonce identifies the claim (Journal.Expect) and must be a fresh one; a zero
// nonce is replaced by one. After an error the candidate must be discarded: a claim that
// was tried is never used again.
//
// An owner goes on until it meets a SEAL, or finds the claim (Journal.Confirm). So a
// claim alone stops no owner that expects it.
//
// Errors: ErrFenced if the epoch is already claimed, ErrCorrupt, and those of the bucket.
func (c *Candidate) Claim(ctx context.Context, epoch uint64, nonce [16]byte) error {
	if nonce == ([16]byte{}) {
		rand.Read(nonce[:])
	}
	// A crash from here on leaves a claim without an owner: the next claimant must seal
	// one more epoch at slot 0.
	claim, err := c.w.store.claim(ctx, c.o, epoch, nonce)
	if err == nil {
		c.w.mine = claim
		if c.o.Lost == nil { // a repair lists by itself
			c.first, err = c.w.listFirst(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("claim shard %d: %w", c.o.Shard, err)
	}
	return nil
}

// Take makes this node the owner, under its claim: it applies what is left of the log,
// seals each earlier epoch that has no SEAL yet, and returns when the header of its own
// is durable. From then on no earlier owner can acknowledge anything. Calls are repeated
// until ctx ends. The Journal outlives ctx. After an error the candidate and its state
// must be discarded. The errors are those of Open.
func (c *Candidate) Take(ctx context.Context) (*Journal, error) {
	j, err := c.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("take over shard %d: %w", c.o.Shard, err)
	}
	return j, nil
}

// take's order is the proof: the claim is there, walk and seal, list again, write the
// header; only then is this node the owner.
func (c *Candidate) take(ctx context.Context) (*Journal, error) {
	o, w := c.o, c.w
	if w.mine.Epoch == 0 {
		return nil, errors.New("no epoch is claimed")
	}
	// A crash in the walk leaves some epochs sealed. Their owners lost nothing but what
	// the claim had already taken from them.
	var err error
	if o.Lost != nil {
		err = w.salvage(ctx)
	} else {
		err = w.walkToEnd(ctx, c.first, w.sealAll)
	}
	if err == nil && o.Verify != nil {
		err = o.Verify(ctx, w.recovered())
	}
	if err != nil {
		return nil, err
	}
	j := newJournal(o, w)

	// Until the header is durable a slower, higher claimant may still seal this epoch
	// at slot 0. Anything written behind that SEAL would be lost, so the Journal is not
	// returned before.
	if err := j.writeHeader(ctx); err != nil {
		j.cancel()
		return nil, err
	}
	j.store.retryAll = true
	j.wg.Go(j.acknowledge)
	o.Log.Info("journal owned", "shard", o.Shard, "epoch", j.claim.Epoch, "entries", w.entries, "checkpoint", w.start)
	return j, nil
}

// errStale: an object lies where only a newer checkpoint explains it.
var errStale = errors.New("there is a newer checkpoint")

// catchUp applies what lies behind the position of the walk, up to the first slot that is
// not there. It begins at the newest checkpoint, unless the walk has passed that.
//
// Without a claim every position that it comes to is a true one: the entries before it
// are those of the log. DATA at such a position is part of the log, and so is a HEADER
// that tells of the same way. But a SEAL may have been put where DATA had been deleted.
// It counts only if the start is still valid (rule 9).
func (w *walker) catchUp(ctx context.Context) error {
	// A List without a claim may miss the start and its successors: that shows nothing.
	var least Position
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		if w.mine.Epoch == 0 {
			w.passed = w.pos
		}
		newest, err := w.newest(ctx, least)
		if err != nil {
			return err
		}
		if err = w.load(ctx, newest); err == nil {
			err = w.follow(ctx)
		}
		switch {
		case err == nil:
			return nil
		case w.mine.Epoch != 0 && (errors.As(err, new(maybeStale)) || errors.Is(err, errVanished)):
			return nil // Take lists the checkpoints, and starts over or finds the damage
		case errors.Is(err, errStale):
			least = Position{w.start.Epoch, w.start.Slot + 1}
		case !errors.Is(err, errVanished):
			return err
		case !w.store.sleep(ctx, wait):
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// follow applies slots up to the first one that is not there.
func (w *walker) follow(ctx context.Context) error {
	for w.mine.Epoch == 0 || w.pos.Epoch < w.mine.Epoch {
		a := w.ahead(ctx)
		sealed, err := w.followEpoch(ctx, a)
		a.stop()
		if !sealed {
			return err
		}
	}
	return nil
}

// followEpoch reports whether it came to the SEAL of the epoch under way, and passed it.
func (w *walker) followEpoch(ctx context.Context, a *ahead) (sealed bool, err error) {
	for {
		raw, err := a.read()
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err == nil && isSeal(raw) && !sealTrusted(w.store.mutations) {
			err = w.checkStart(ctx)
		}
		if err == nil {
			if sealed, err = w.apply(raw); errors.As(err, new(maybeStale)) {
				err = cmp.Or(w.checkStart(ctx), err)
			}
		}
		if err != nil || sealed {
			return sealed, err
		}
	}
}

// checkStart returns errStale if something may have been deleted from the start of the
// walk on. A walk with a claim lists the checkpoints at its end, and finds out then.
func (w *walker) checkStart(ctx context.Context) error {
	if w.mine.Epoch != 0 {
		return nil
	}
	valid, err := w.startIsValid(ctx)
	if err == nil && !valid {
		err = errStale
	}
	return err
}
