package journal

import (
	"context"
	"fmt"
)

// Replay gives s the newest checkpoint and applies the log after it without becoming
// its owner: it claims nothing and writes nothing. s then contains everything that was
// acknowledged before Replay began. Replay returns the first position that it did not
// apply: the end of the log, or the zero Position if the shard was never owned. Depth,
// Node and Info of o are not used.
//
// Calls are repeated until ctx ends. Errors: ErrCorrupt, ErrFormat, those of s, and
// those of the bucket.
func Replay(ctx context.Context, o Options, s State) (end Position, err error) {
	if err := o.validate(); err != nil {
		return Position{}, fmt.Errorf("replay journal: %w", err)
	}
	w := newWalker(newStore(o), s, o.Window)
	newest, err := w.store.highestEpoch(ctx)
	if err == nil && newest > 0 {
		var first Position
		if first, err = w.newest(ctx, w.start); err == nil {
			err = w.walkToEnd(ctx, first, func(ctx context.Context) error { return w.replay(ctx, newest) })
		}
	}
	if err != nil {
		return w.pos, fmt.Errorf("replay journal of shard %d: %w", o.Shard, err)
	}
	if newest == 0 {
		return Position{}, nil
	}
	if o.Verify != nil {
		if err := o.Verify(ctx, w.recovered()); err != nil {
			return w.pos, fmt.Errorf("replay journal of shard %d: %w", o.Shard, err)
		}
	}
	return w.pos, nil
}

// replay walks to the end of the log: a hole, or the SEAL of the newest epoch. The
// result counts only because settle then finds that nothing had been deleted from the
// start of the walk on (rule 9).
func (w *walker) replay(ctx context.Context, newest uint64) error {
	// A checkpoint was listed after the claims and may be of a newer epoch, whose owner
	// has a claim.
	if w.start.Epoch > newest {
		claim := claimKey(w.store.shard, w.start.Epoch)
		there, err := w.store.has(ctx, claim)
		if err != nil {
			return err
		}
		if !there {
			return Missing(claim, "there is a checkpoint "+checkpointKey(w.store.shard, w.start))
		}
	}
	newest = max(newest, w.start.Epoch)
	for w.pos.Epoch <= newest {
		sealed, err := w.epoch(ctx, func(ctx context.Context, pos Position) ([]byte, error) {
			return w.recheckHole(ctx, pos, newest)
		})
		if err != nil {
			return fmt.Errorf("replay epoch %d: %w", w.pos.Epoch, err)
		}
		if !sealed {
			break
		}
	}
	return nil
}
