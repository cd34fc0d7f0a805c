package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/weirmq/weir/storage"
)

// maxBatch is how many keys one Delete gets.
const maxBatch = 1000

// sweep removes the checkpoints before the newest. What it does not get rid of
// stays for the next time, or for the next owner, who lists it.
func (j *Journal) sweep(ctx context.Context) {
	old := func(p Position) bool { return p.Before(j.way.start) }
	var keys []string
	for _, p := range j.older {
		if old(p) {
			keys = append(keys, checkpointKey(j.store.shard, p))
		}
	}
	if len(keys) == 0 {
		return
	}
	err := j.unrivalled(ctx)
	for batch := range slices.Chunk(keys, maxBatch) {
		if err == nil {
			err = j.store.attempt(ctx, attemptTime, func(ctx context.Context) error {
				return j.store.bucket.Delete(ctx, batch...)
			})
		}
	}
	if err != nil {
		j.store.log.Warn("older checkpoints stay", "shard", j.store.shard, "keys", len(keys), "err", err)
		return
	}
	j.older = slices.DeleteFunc(j.older, old)
}

// unrivalled returns nil if there was no higher claim after the newest checkpoint
// had become durable. So whoever claims sees in his Lists that checkpoint, or one
// that is newer. Without this the one could be removed and the other appear
// while a List is under way, and a List may miss both.
func (j *Journal) unrivalled(ctx context.Context) error {
	return j.store.attempt(ctx, attemptTime, func(ctx context.Context) error {
		rival, found, err := j.store.rival(ctx, j.claim.Epoch+1)
		if found {
			return fmt.Errorf("epoch %d is claimed by %s", j.claim.Epoch+1, rival)
		}
		return err
	})
}

// Truncate deletes the headers and DATA before slot `before`, which must not be
// beyond Checkpointed. SEALs and claims stay. Of epochs before this one the
// SEALs tell how many slots there were, so nothing is listed. from says what was
// deleted before, which saves requests; where it is not known, the zero Position
// begins at the oldest slot that may exist. Deleting twice is harmless. Before the
// first slot goes, no Replay can take an older checkpoint for its start any more
// and end where a slot was deleted. Calls to the bucket are repeated until ctx ends or the journal stops; on nil, the slots
// are gone.
//
// Whoever reads slots otherwise than by recovery, by an entry's position, must
// have no use for them any more: in no state, that is, from the last
// acknowledged entry on.
//
// An owner that was fenced and does not know it yet deletes only before a
// checkpoint that was durable, like any other. A walk that began before that
// checkpoint may lose its slots to this, or find again what lands late; it lists
// the checkpoints when it is through, and starts over.
//
// Errors: ErrPosition, with which nothing has happened; Err when the journal has
// stopped, and the bucket's.
func (j *Journal) Truncate(ctx context.Context, from, before Position) error {
	ctx, release, err := j.maintain(ctx)
	if err == nil {
		defer release()
		err = j.truncate(ctx, from, before)
	}
	if err != nil {
		return fmt.Errorf("truncate shard %d before %v: %w", j.store.shard, before, j.because(err))
	}
	return nil
}

func (j *Journal) truncate(ctx context.Context, from, before Position) error {
	if j.way.start.Before(before) && !deleteBeyond(j.store.mutations) {
		return fmt.Errorf("%w: the newest checkpoint is %v", ErrPosition, j.way.start)
	}
	if from.Before(j.way.oldest) {
		from = j.way.oldest
	}
	if !from.Before(before) {
		return nil
	}
	if err := j.bury(ctx); err != nil {
		return err
	}
	var keys []string
	for pos := range j.slots(from, before) {
		if keys = append(keys, SlotKey(j.store.shard, pos)); len(keys) < maxBatch {
			continue
		}
		if err := j.patient().delete(ctx, keys); err != nil {
			return err
		}
		keys = nil
	}
	if len(keys) > 0 {
		if err := j.patient().delete(ctx, keys); err != nil {
			return err
		}
	}
	j.way.forget(before)
	return nil
}

// bury makes sure that who starts at an older checkpoint than the newest finds
// out: it is deleted for good, or there is a tombstone at its position or beyond.
// A crash from here on leaves a tombstone that says no less than the truth: there
// is a newer checkpoint.
func (j *Journal) bury(ctx context.Context) error {
	j.sweep(ctx)
	grave := j.grave()
	if !j.buried.Before(grave) || noTombstone(j.store.mutations) {
		return nil
	}
	key, o := tombstoneKey(j.store.shard, grave), tombstoneObject(j.store.shard, j.claim, grave)
	// Any object under the name is as good: only the name is read.
	if err := j.patient().create(ctx, key, o.encode()); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("bury the checkpoints before %v: %w", j.way.start, err)
	}
	j.buried = grave
	return nil
}

// grave returns where the tombstone belongs: at the newest checkpoint before
// way.start that may be there or appear again. What other owners wrote before
// this epoch began, or may still write, nobody here knows; what this one wrote, it
// does.
func (j *Journal) grave() Position {
	start := j.way.start
	if start.Epoch < j.claim.Epoch {
		return Position{start.Epoch, max(start.Slot, 1) - 1}
	}
	grave := Position{Epoch: j.claim.Epoch}
	for _, p := range slices.Concat(j.older, j.echoes) {
		if grave.Before(p) && p.Before(start) {
			grave = p
		}
	}
	return grave
}

// slots yields the headers and DATA in [from, before). The SEAL of an epoch is
// the first slot that is not: what lies behind it is no part of the log and may
// be anything.
func (j *Journal) slots(from, before Position) iter.Seq[Position] {
	return func(yield func(Position) bool) {
		for pos := from; pos.Before(before); pos = (Position{Epoch: pos.Epoch + 1}) {
			end := before.Slot
			if pos.Epoch < before.Epoch {
				end = math.MaxUint64
			}
			if pos.Epoch < j.claim.Epoch {
				seal := j.way.since(pos.Epoch)[0]
				if deleteSeals(j.store.mutations) {
					seal++
				}
				end = min(end, seal)
			}
			for ; pos.Slot < end; pos.Slot++ {
				if !yield(pos) {
					return
				}
			}
		}
	}
}
