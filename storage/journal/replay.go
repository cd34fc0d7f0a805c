package journal

import (
	"context"
	"fmt"
)

// Replay applies the log to s without becoming its owner: it claims nothing and
// writes nothing. Everything that was acknowledged before it began is applied.
// It returns the first position that it did not apply: the end of the log, or
// the zero Position if the shard was never owned. Depth, Node and Info of o are
// not used.
//
// Calls are repeated until ctx ends. Errors: ErrCorrupt, ErrFormat, those of s,
// and the bucket's.
func Replay(ctx context.Context, o Options, s State) (end Position, err error) {
	if err := o.validate(); err != nil {
		return Position{}, fmt.Errorf("replay journal: %w", err)
	}
	w := newWalker(newStore(o), s, o.Window)
	newest, err := newestEpoch(ctx, w.store.list, o.Shard)
	if err == nil && newest > 0 {
		err = w.replay(ctx, newest)
	}
	if err != nil {
		return w.pos, fmt.Errorf("replay journal of shard %d: %w", o.Shard, err)
	}
	if newest == 0 {
		return Position{}, nil
	}
	return w.pos, nil
}

func (w *walker) replay(ctx context.Context, newest uint64) error {
	if err := w.checkpoints(ctx); err != nil {
		return err
	}
	for w.pos.Epoch <= newest {
		sealed, err := w.epoch(ctx, func(ctx context.Context, pos Position) ([]byte, error) {
			return w.recheck(ctx, pos, newest)
		})
		if err != nil {
			return fmt.Errorf("replay epoch %d: %w", w.pos.Epoch, err)
		}
		if !sealed {
			break
		}
	}
	// A SEAL or a hole is believed only after a later List shows no
	// checkpoint beyond it (rule 9).
	return w.checkpoints(ctx)
}
