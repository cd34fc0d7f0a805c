package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/weirmq/weir/storage"
)

// slotCounts holds, for acknowledged positions of an epoch, how many entries lie before
// each.
type slotCounts struct {
	low     uint64   // the first slot that it knows
	entries []uint64 // before slot low, low+1 … up to the first that is not acknowledged
}

// maxCounts is how many positions slotCounts remembers, at 8 bytes each: the slots that
// may be acknowledged while a checkpoint is encoded.
const maxCounts = 1 << 16

// add records that the next slot, with n entries, is acknowledged.
func (l *slotCounts) add(n int) {
	if len(l.entries) == maxCounts {
		l.drop(l.low + maxCounts/2)
	}
	l.entries = append(l.entries, l.entries[len(l.entries)-1]+uint64(n))
}

// drop forgets everything before slot, and frees its memory.
func (l *slotCounts) drop(slot uint64) {
	if slot > l.low {
		l.entries = slices.Clone(l.entries[slot-l.low:])
		l.low = slot
	}
}

// before returns the number of entries before slot.
func (l *slotCounts) before(slot uint64) (uint64, bool) {
	if slot < l.low || slot-l.low >= uint64(len(l.entries)) {
		return 0, false
	}
	return l.entries[slot-l.low], true
}

// Checkpointed returns the newest checkpoint that is known to be durable: the
// one that this owner recovered from, or one that it wrote. Zero: none.
func (j *Journal) Checkpointed() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.saved
}

// Checkpoint stores body, the state before slot pos. On nil it is durable, and older
// checkpoints are gone, or a later Checkpoint removes them: a recovery that has listed
// one of them and does not find it starts over. Calls to the bucket are repeated until
// ctx ends or the journal stops.
//
// pos must be of this epoch, at or after Checkpointed, and acknowledged: Apply was
// called for all slots before it. body must be the state after exactly those calls of
// Apply. Up to 32,768 later slots may be applied while it is encoded. Before the first
// slot of the epoch is applied, the position is slot 1.
//
// After an error with an unknown outcome (ctx ended, the journal stopped) the
// checkpoint may still appear. That does no harm, even if this owner was fenced long
// ago: what is acknowledged is in the log of every later owner, so the checkpoint is
// the state at a position that all of them have passed. If it lies before their
// checkpoints, no recovery looks at it. If it is the newest, nothing behind it has been
// deleted, since owners delete only before checkpoints that they know.
//
// Errors: ErrPosition and ErrTooLarge, after which nothing has happened; ErrFenced and
// ErrForeign, after which the journal has stopped; ErrCorrupt if another object has the
// name; Err if the journal has stopped; and those of the bucket.
func (j *Journal) Checkpoint(ctx context.Context, pos Position, body []byte) error {
	ctx, release, err := j.lockUpkeep(ctx)
	if err == nil {
		defer release()
		err = j.writeCheckpoint(ctx, pos, body)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %v of shard %d: %w", pos, j.store.shard, j.withCause(err))
	}
	j.deleteOlderCheckpoints(ctx)
	return nil
}

// lockUpkeep waits until no other Checkpoint or Truncate is under way. It returns a
// context that also ends with the journal.
func (j *Journal) lockUpkeep(ctx context.Context) (context.Context, func(), error) {
	select {
	case j.upkeep <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-j.done:
		return nil, nil, j.Err()
	}
	err := j.Err()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		<-j.upkeep
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(j.ctx, cancel)
	return ctx, func() { stop(); cancel(); <-j.upkeep }, nil
}

// withCause adds the reason why the journal stopped to the error of a call that was
// given up.
func (j *Journal) withCause(err error) error {
	if cause := j.Err(); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// upkeepStore is the store for upkeep. Unlike a slot in flight, a checkpoint or a
// deletion can be given up and done later.
func (j *Journal) upkeepStore() store {
	st := j.store
	st.retryAll = false
	return st
}

// writeCheckpoint makes the checkpoint durable. Its order matters. A crash before
// Create has returned leaves a checkpoint or none, and everything that a recovery needs
// in either case: only after Create does way.start move, and only that allows
// deletions.
func (j *Journal) writeCheckpoint(ctx context.Context, pos Position, body []byte) error {
	if pos == j.way.start {
		return nil
	}
	p := checkpoint{pos: pos, nonce: j.claim.Nonce, way: j.way, body: body}
	j.mu.Lock()
	entries, ok := j.counts.before(pos.Slot)
	j.mu.Unlock()
	if !ok || pos.Epoch != j.claim.Epoch || pos.Before(j.way.start) {
		return fmt.Errorf("%w: not acknowledged in epoch %d, or too old", ErrPosition, j.claim.Epoch)
	}
	p.way.entries = entries
	o := checkpointObject(j.store.shard, j.claim, p)
	if n := o.size(); n > MaxCheckpoint {
		return fmt.Errorf("%w: object of %d bytes, limit %d", ErrTooLarge, n, MaxCheckpoint)
	}
	if err := j.createCheckpoint(ctx, p, o.encode()); err != nil {
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrForeign) {
			j.stop(err)
		}
		return err
	}
	j.way.start = pos
	j.mu.Lock()
	defer j.mu.Unlock()
	j.saved = pos
	j.counts.drop(pos.Slot)
	return nil
}

// createCheckpoint is createOwn for a checkpoint, with raw its bytes. If its name is
// taken by another checkpoint of this owner for the same position, that counts as
// success: an earlier call may have given up before it knew the outcome, and two
// encodings of one state may differ.
func (j *Journal) createCheckpoint(ctx context.Context, p checkpoint, raw []byte) error {
	key, st := checkpointKey(j.store.shard, p.pos), j.upkeepStore()
	first := !slices.Contains(j.older, p.pos)
	if first {
		j.older = append(j.older, p.pos) // it may appear, whatever the outcome
		j.mayReappear = append(j.mayReappear, p.pos)
	}
	if deleteEarly(j.store.mutations) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if !j.closed {
			j.wg.Go(func() { _ = st.create(j.ctx, key, raw) })
		}
		return nil
	}
	clear, err := st.createClear(ctx, key, raw)
	if first && clear {
		j.mayReappear = j.mayReappear[:len(j.mayReappear)-1]
	}
	if !errors.Is(err, storage.ErrExists) {
		return err
	}
	got, err := st.getLarge(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// This owner removes no checkpoint as new as this one.
		return fmt.Errorf("%w: %s was there before and is missing", ErrFenced, key)
	case err != nil:
		return err
	case bytes.Equal(got, raw):
		return nil
	}
	there, err := decodeCheckpoint(got, st.shard, p.pos)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", key, err)
	case there.nonce != p.nonce || there.way.entries != p.way.entries:
		return fmt.Errorf("%w: %s has another nonce, or %d entries before it instead of %d", ErrForeign, key, there.way.entries, p.way.entries)
	}
	return nil
}
