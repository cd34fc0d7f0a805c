package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/weirmq/weir/storage"
)

// errVanished: an object was there and is gone. Slots are deleted only below a durable
// checkpoint, checkpoints only below a newer one.
var errVanished = errors.New("object disappeared")

// maybeStale is the error for what a sound log has only below its newest checkpoint. A
// List shows whether there is a newer checkpoint to start over from; if not, the log is
// corrupt.
type maybeStale struct{ error }

func (a maybeStale) Unwrap() error { return a.error }

// listFirst is the List of checkpoints that follows a claim (rule 2). It loads the newest
// checkpoint while it looks for tombstones, which hardly ever show that there is a newer
// one.
func (w *walker) listFirst(ctx context.Context) (newest Position, err error) {
	if newest, err = w.newest(ctx, w.start); err != nil {
		return Position{}, err
	}
	var wg sync.WaitGroup
	shown := newest
	var tombstoneErr error
	wg.Go(func() { shown, tombstoneErr = w.checkTombstones(ctx, newest) })
	err = w.load(ctx, newest)
	wg.Wait()
	if errors.Is(err, errVanished) || newest.Before(shown) {
		err = nil // walkToEnd loads what is there now
	}
	return shown, cmp.Or(tombstoneErr, err)
}

// walkToEnd walks from newest, the newest checkpoint of a List, and then lists the
// checkpoints again. If there is one beyond its start, or beyond what a candidate had
// read before its claim, it discards everything and starts over from that
// (rules 2 and 9): slots before it may have been deleted during the walk, so the walk
// may have taken a hole or a SEAL, its own included, for the end of an epoch that
// continued. A recovery ends only when a List shows nothing new: its claim keeps the
// checkpoints in place that the List has to show. A Replay has no claim. It ends if its
// start is still valid, and else lists until there is another checkpoint.
func (w *walker) walkToEnd(ctx context.Context, newest Position, walk func(context.Context) error) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := w.load(ctx, newest)
		if err == nil {
			err = walk(ctx)
		}
		stale, vanished := errors.As(err, new(maybeStale)), errors.Is(err, errVanished)
		if err != nil && !stale && !vanished || err == nil && noSecondList(w.store.mutations) {
			return err
		}
		least := newest
		if w.mine.Epoch == 0 && !vanished {
			alive, aliveErr := w.startIsValid(ctx)
			if alive || aliveErr != nil {
				return cmp.Or(aliveErr, err)
			}
			least = Position{w.start.Epoch, w.start.Slot + 1}
		}
		now, listErr := w.newest(ctx, least)
		if listErr != nil {
			return listErr
		}
		switch newer := newest.Before(now) && w.passed.Before(now); {
		case !newer && err == nil:
			return w.load(ctx, now)
		case !newer && stale, stale && differIsCorrupt(w.store.mutations):
			return cmp.Or(w.superseded(ctx), err)
		}
		newest = now
		w.store.log.Warn("recovery starts again: there is a newer checkpoint", "shard", w.store.shard, "checkpoint", newest, "epoch", w.mine.Epoch, "err", err)
		if vanished && !w.store.sleep(ctx, wait) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// superseded returns ErrFenced if there is a claim above this node's. Its owner deletes
// checkpoints without regard to this node, so that a List may have missed all there were,
// and what looks missing proves nothing.
func (w *walker) superseded(ctx context.Context) error {
	if w.mine.Epoch == 0 {
		return nil
	}
	there, err := w.store.has(ctx, claimKey(w.store.shard, w.mine.Epoch+1))
	if err == nil && there && !supersededUnread(w.store.mutations) {
		err = fmt.Errorf("%w: epoch %d is claimed", ErrFenced, w.mine.Epoch+1)
	}
	return err
}

// startIsValid reports whether nothing had been deleted from the start of this walk on
// when it was called (rule 9): the start is still there, and there is no tombstone at
// it or beyond. Both are read now, after everything that the walk has read. Even a
// bucket that keeps only the contract shows all tombstones that existed before the
// List, since they are never deleted.
func (w *walker) startIsValid(ctx context.Context) (bool, error) {
	var after string
	if !w.start.IsZero() {
		there, err := w.store.has(ctx, checkpointKey(w.store.shard, w.start))
		if err != nil || !there && !startUnread(w.store.mutations) {
			return false, err
		}
		after = tombstoneKey(w.store.shard, Position{w.start.Epoch, w.start.Slot - 1})
	}
	keys, err := w.store.list(ctx, tombstonePrefix(w.store.shard), after, 1)
	if err != nil {
		return false, fmt.Errorf("list tombstones: %w", err)
	}
	return len(keys) == 0 || tombstoneUnread(w.store.mutations), nil
}

// newest lists the checkpoints and returns the newest, the zero Position if there is
// none. If least is not zero, a checkpoint at least or after it must exist. A List that
// shows none may have missed it and its successor, which appeared meanwhile, so it is
// repeated for a while.
func (w *walker) newest(ctx context.Context, least Position) (Position, error) {
	for wait := firstWait; ; wait *= 2 {
		if err := w.list(ctx); err != nil {
			return Position{}, err
		}
		newest := Position{}
		if n := len(w.listed); n > 0 {
			newest = w.listed[n-1]
		}
		if !newest.Before(least) {
			return newest, nil
		}
		if wait > 8*firstWait || !w.store.sleep(ctx, wait) {
			if err := w.superseded(ctx); err != nil {
				return Position{}, err
			}
			return Position{}, absent{checkpointKey(w.store.shard, least) + ", or a newer one,", "an earlier List, or an object of " + tombstonePrefix(w.store.shard) + ", shows that there was one"}
		}
	}
}

// list stores which checkpoints exist. A checkpoint of this or a higher epoch shows
// that a higher claimant has already taken over.
func (w *walker) list(ctx context.Context) error {
	const page = 1000
	w.listed = nil
	for last := ""; ; {
		keys, err := w.store.list(ctx, checkpointPrefix(w.store.shard), last, page)
		if err != nil {
			return fmt.Errorf("list checkpoints: %w", err)
		}
		for _, key := range keys {
			pos, ok := parseCheckpoint(w.store.shard, key)
			if !ok {
				return fmt.Errorf("%w: there is a checkpoint %s, which needs a later version", ErrFormat, key)
			}
			if w.mine.Epoch != 0 && pos.Epoch >= w.mine.Epoch {
				return w.checkpointBeyond(ctx, pos.Epoch, key)
			}
			w.listed = append(w.listed, pos)
			last = key
		}
		if len(keys) < page {
			return nil
		}
	}
}

// checkpointBeyond is the error of a claimant that meets a checkpoint of its own epoch
// or a higher one. The writer of that checkpoint has a claim above this one; else the
// claim is missing, and this claimant's number was already used.
func (w *walker) checkpointBeyond(ctx context.Context, epoch uint64, key string) error {
	claim := claimKey(w.store.shard, epoch)
	if epoch > w.mine.Epoch {
		there, err := w.store.has(ctx, claim)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("%w: there is a checkpoint %s", ErrFenced, key)
		}
	}
	return Missing(claim, "there is a checkpoint "+key)
}

// load starts the walk at a checkpoint, unless it has already passed it. If the newest
// checkpoint is damaged, it fails: an older one may still be there, but the slots
// between them are not.
func (w *walker) load(ctx context.Context, pos Position) error {
	if !w.passed.Before(pos) {
		if w.start.Before(pos) {
			w.start = pos
		}
		return nil
	}
	key := checkpointKey(w.store.shard, pos)
	raw, err := w.store.getLarge(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", errVanished, key)
	}
	if err != nil {
		return err
	}
	p, err := decodeCheckpoint(raw, w.store.shard, pos)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if err := w.state.Restore(pos, p.body); err != nil {
		return fmt.Errorf("restore checkpoint %v: %w", pos, err)
	}
	w.way, w.pos, w.nonce = p.way, pos, p.nonce
	w.start, w.passed, w.loaded = pos, pos, pos
	return nil
}

// sealAll walks over every epoch *number* below the claim, listed or not, oldest
// first, and seals each.
func (w *walker) sealAll(ctx context.Context) error {
	for w.pos.Epoch < w.mine.Epoch {
		if _, err := w.epoch(ctx, w.seal); err != nil {
			return fmt.Errorf("recover epoch %d: %w", w.pos.Epoch, err)
		}
	}
	return nil
}

// seal puts a SEAL into the first free slot of an epoch and returns what lies there
// now: the SEAL, or an object that was faster. After a hole has been seen only a SEAL
// ends the epoch, because the slot's Create may still be under way.
func (w *walker) seal(ctx context.Context, pos Position) ([]byte, error) {
	o := sealObject(w.store.shard, w.mine, pos)
	key, raw := SlotKey(w.store.shard, pos), o.encode()
	m := w.store.mutations
	if holeIsEnd(m) || sealNewestOnly(m) && pos.Epoch+1 < w.mine.Epoch {
		return raw, nil
	}
	if now, err := w.recheckHole(ctx, pos, w.mine.Epoch-1); now != nil || err != nil {
		return now, err
	}
	err := w.store.create(ctx, key, raw)
	if err == nil || sealUnread(m) && errors.Is(err, storage.ErrExists) {
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
