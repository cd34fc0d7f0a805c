package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
)

// errVanished: a slot was there and is gone. Slots are deleted only below a
// durable checkpoint.
var errVanished = errors.New("object vanished")

// recover brings the state to the end of the log and shuts every epoch before
// the claim (rule 2).
func (w *walker) recover(ctx context.Context, c Claim) error {
	w.mine = c
	wait := firstWait
	for {
		err := w.pass(ctx)
		if !errors.Is(err, errVanished) {
			return err
		}
		// A slot was there and is gone. What has been applied so far was
		// the log, so start over from here, like a standby that claims
		// with its own position. A checkpoint beyond it, the only reason to
		// delete a slot, is met by the List.
		w.store.log.Warn("recovery starts over", "shard", w.store.shard, "epoch", c.Epoch, "err", err)
		if !w.store.sleep(ctx, wait) {
			return fmt.Errorf("recover: %w: %w", ctx.Err(), err)
		}
		wait = min(2*wait, lastWait)
	}
}

// pass is one walk over every epoch *number* below the claim, listed or not,
// oldest first, between the two Lists of checkpoints.
func (w *walker) pass(ctx context.Context) error {
	if err := w.checkpoints(ctx); err != nil {
		return err
	}
	for w.pos.Epoch < w.mine.Epoch {
		if _, err := w.epoch(ctx, w.seal); err != nil {
			return fmt.Errorf("recover epoch %d: %w", w.pos.Epoch, err)
		}
	}
	return w.checkpoints(ctx)
}

// seal puts a SEAL into the first free slot of an epoch and returns what lies
// there now: the SEAL, or what was faster. After a hole has been seen nothing
// less ends the epoch, for the slot's Create may still be under way.
func (w *walker) seal(ctx context.Context, pos Position) ([]byte, error) {
	o := sealObject(w.store.shard, w.mine, pos)
	key, raw := SlotKey(w.store.shard, pos), o.encode()
	r := w.store.rules
	if r.holeIsEnd || r.sealNewestOnly && pos.Epoch+1 < w.mine.Epoch {
		return raw, nil
	}
	if now, err := w.recheck(ctx, pos, w.mine.Epoch-1); now != nil || err != nil {
		return now, err
	}
	err := w.store.create(ctx, key, raw)
	if err == nil || r.sealUnread && errors.Is(err, storage.ErrExists) {
		return raw, nil
	}
	if !errors.Is(err, storage.ErrExists) {
		return nil, fmt.Errorf("seal slot %v: %w", pos, err)
	}
	now, err := w.store.get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", errVanished, key)
	}
	return now, err
}
