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

// deleteOlderCheckpoints removes the checkpoints before the newest. What it cannot
// remove is left for the next call, or for the next owner, which lists it.
func (j *Journal) deleteOlderCheckpoints(ctx context.Context) {
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
	err := j.noHigherClaim(ctx)
	for batch := range slices.Chunk(keys, maxBatch) {
		if err == nil {
			err = j.store.attempt(ctx, attemptTimeout, func(ctx context.Context) error {
				return j.store.bucket.Delete(ctx, batch...)
			})
		}
	}
	if err != nil {
		j.store.log.Warn("older checkpoints not deleted: trying again", "shard", j.store.shard, "keys", len(keys), "err", err)
		return
	}
	j.older = slices.DeleteFunc(j.older, old)
}

// noHigherClaim returns nil if there was no higher claim after the newest checkpoint
// had become durable. Then a node that claims later sees in its Lists that checkpoint
// or a newer one. Without this check an older checkpoint could be removed and the new
// one appear while a List is under way, and the List might miss both.
func (j *Journal) noHigherClaim(ctx context.Context) error {
	return j.store.attempt(ctx, attemptTimeout, func(ctx context.Context) error {
		rival, found, err := j.store.higherClaim(ctx, j.claim.Epoch+1)
		if found {
			return fmt.Errorf("epoch %d is claimed by %s", j.claim.Epoch+1, rival)
		}
		return err
	})
}

// Truncate deletes the headers and DATA before slot `before`, which must not be beyond
// Checkpointed. DATA for which keep returns true stays; a nil keep keeps none. SEALs
// and claims stay. For epochs before this one the SEALs tell how many slots there were,
// so nothing is listed. from says what was already deleted, which saves requests; if it
// is not known, pass the zero Position, which means the oldest slot that may exist.
// Deleting twice is harmless. Before the first slot is deleted, it is made sure that no
// Replay can start at an older checkpoint and take a deleted slot for the end. Calls to
// the bucket are repeated until ctx ends or the journal stops; on nil, the slots are
// gone.
//
// A state may refer to slots, by an entry's position, and read them outside recovery.
// keep must return true for every slot to which the state refers after the last
// acknowledged entry, or after a later one that is acknowledged meanwhile. Once a state
// no longer refers to a slot, no later state may refer to it again. So a fenced owner
// deletes nothing that its successors need: they continue from a state that includes
// its own.
//
// A fenced owner that does not know it yet deletes only before a checkpoint that was
// durable, like any other. A walk that began before that checkpoint may find slots
// missing, or find again what arrives late. It lists the checkpoints at its end, and
// starts over.
//
// Errors: ErrPosition, after which nothing has happened; Err if the journal has
// stopped; and those of the bucket.
func (j *Journal) Truncate(ctx context.Context, from, before Position, keep func(Position) bool) error {
	ctx, release, err := j.lockUpkeep(ctx)
	if err == nil {
		defer release()
		err = j.truncate(ctx, from, before, keep)
	}
	if err != nil {
		return fmt.Errorf("truncate shard %d before %v: %w", j.store.shard, before, j.withCause(err))
	}
	return nil
}

func (j *Journal) truncate(ctx context.Context, from, before Position, keep func(Position) bool) error {
	if j.way.start.Before(before) && !deleteBeyond(j.store.mutations) {
		return fmt.Errorf("%w: the newest checkpoint is %v", ErrPosition, j.way.start)
	}
	if from.Before(j.way.oldest) {
		from = j.way.oldest
	}
	if !from.Before(before) {
		return nil
	}
	if err := j.writeTombstone(ctx); err != nil {
		return err
	}
	if err := j.deleteSlots(ctx, j.slots(from, before, keep)); err != nil {
		return err
	}
	j.way.truncate(before)
	return nil
}

// Remove deletes slots that Truncate kept, or would delete: each must lie before
// Checkpointed. It is for DATA; a SEAL there, from a claimant that found the slot
// missing, stays. As with Truncate, the state must not refer to the slots any more.
// Removing twice is harmless. Calls to the bucket are repeated until ctx ends or the
// journal stops; on nil, the slots are gone.
//
// Errors: ErrPosition, after which nothing has happened; Err if the journal has
// stopped; and those of the bucket.
func (j *Journal) Remove(ctx context.Context, slots []Position) error {
	ctx, release, err := j.lockUpkeep(ctx)
	if err == nil {
		defer release()
		err = j.remove(ctx, slots)
	}
	if err != nil {
		return fmt.Errorf("remove %d slots of shard %d: %w", len(slots), j.store.shard, j.withCause(err))
	}
	return nil
}

// remove checks all slots before it deletes any. The tombstone is needed even if the
// last Truncate has written one: the newest checkpoint may be a later one by now, and a
// Replay may start at any older one.
func (j *Journal) remove(ctx context.Context, slots []Position) error {
	for _, pos := range slots {
		if !pos.Before(j.way.start) && !removeBeyond(j.store.mutations) {
			return fmt.Errorf("%w: slot %v, and the newest checkpoint is %v", ErrPosition, pos, j.way.start)
		}
		if seal, ok := j.seal(pos.Epoch); ok && pos.Slot >= seal {
			return fmt.Errorf("%w: slot %v, and the SEAL of its epoch is at %d", ErrPosition, pos, seal)
		}
	}
	if len(slots) == 0 {
		return nil
	}
	if !removeNoTombstone(j.store.mutations) {
		if err := j.writeTombstone(ctx); err != nil {
			return err
		}
	}
	removable := make([]Position, 0, len(slots))
	for _, pos := range slots {
		if _, ok := j.seal(pos.Epoch); !ok && pos.Epoch < j.claim.Epoch {
			data, err := j.upkeepStore().longer(ctx, SlotKey(j.store.shard, pos), fixedSize)
			if err != nil {
				return err
			}
			if !data { // gone, or a SEAL
				continue
			}
		}
		removable = append(removable, pos)
	}
	return j.deleteSlots(ctx, slices.Values(removable))
}

// seal returns the slot of the SEAL of an epoch. It returns false for an epoch before
// way.oldest, whose SEAL this owner does not know, and for its own, which has none.
func (j *Journal) seal(epoch uint64) (slot uint64, ok bool) {
	if epoch < j.way.oldest.Epoch || epoch >= j.claim.Epoch {
		return 0, false
	}
	return j.way.since(epoch)[0], true
}

// deleteSlots deletes slots, maxBatch with each call to the bucket.
func (j *Journal) deleteSlots(ctx context.Context, slots iter.Seq[Position]) error {
	var keys []string
	for pos := range slots {
		if keys = append(keys, SlotKey(j.store.shard, pos)); len(keys) < maxBatch {
			continue
		}
		if err := j.upkeepStore().delete(ctx, keys); err != nil {
			return err
		}
		keys = nil
	}
	if len(keys) == 0 {
		return nil
	}
	return j.upkeepStore().delete(ctx, keys)
}

// writeTombstone makes sure that a Replay that starts at an older checkpoint than the
// newest notices it: the older one is deleted for good, or there is a tombstone at its
// position or beyond.
//
// A crash from here on leaves a tombstone that is true: there is a newer checkpoint.
func (j *Journal) writeTombstone(ctx context.Context) error {
	j.deleteOlderCheckpoints(ctx)
	at := j.tombstoneAt()
	if !j.tombstone.Before(at) || noTombstone(j.store.mutations) {
		return nil
	}
	key, o := tombstoneKey(j.store.shard, at), tombstoneObject(j.store.shard, j.claim, at)
	// Any object under the name will do: only the name is read.
	if err := j.upkeepStore().create(ctx, key, o.encode()); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("write a tombstone for the checkpoints before %v: %w", j.way.start, err)
	}
	j.tombstone = at
	return nil
}

// tombstoneAt returns the position of the tombstone: that of the newest checkpoint
// before way.start that may exist or appear again. Of checkpoints that other owners
// wrote before this epoch began, or may still write, this owner knows nothing; of its
// own it knows.
func (j *Journal) tombstoneAt() Position {
	start := j.way.start
	if start.Epoch < j.claim.Epoch {
		return Position{start.Epoch, max(start.Slot, 1) - 1}
	}
	at := Position{Epoch: j.claim.Epoch}
	for _, p := range slices.Concat(j.older, j.mayReappear) {
		if at.Before(p) && p.Before(start) {
			at = p
		}
	}
	return at
}

// slots yields the headers in [from, before), and the DATA except those for which keep
// returns true. The SEAL of an epoch is the first slot that is neither: what lies
// behind it is not part of the log and may be anything.
func (j *Journal) slots(from, before Position, keep func(Position) bool) iter.Seq[Position] {
	var seals uint64 // of each epoch whose slots are deleted
	if deleteSeals(j.store.mutations) {
		seals = 1
	}
	return func(yield func(Position) bool) {
		for pos := from; pos.Before(before); pos = (Position{Epoch: pos.Epoch + 1}) {
			end := before.Slot
			if pos.Epoch < before.Epoch {
				end = math.MaxUint64
			}
			if pos.Epoch < j.claim.Epoch {
				seal, _ := j.seal(pos.Epoch)
				end = min(end, seal+seals)
			}
			for ; pos.Slot < end; pos.Slot++ {
				if kept := pos.Slot > 0 && keep != nil && keep(pos); !kept && !yield(pos) {
					return
				}
			}
		}
	}
}
