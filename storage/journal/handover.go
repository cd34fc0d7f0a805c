package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// A hand-over saves the time that a takeover needs; its safety is that of any takeover.
// The owner is told the nonce of the claim that its successor, a Candidate, is about to
// make (Expect), and goes on under it. Then it ends its epoch by itself (Yield). The
// successor finds a SEAL where it would have put its own.

// Expect lets the owner go on under one higher claim: the one of the next epoch that has
// this nonce. Checkpoint, Truncate and Remove wait from then on, so that the successor
// finds nothing new in its Lists; Expect waits for those under way. Any other claim fences
// as before. A zero nonce ends the expectation: then that claim fences too.
//
// Errors: the reason why the journal has stopped, and ctx's.
func (j *Journal) Expect(ctx context.Context, nonce [16]byte) error {
	j.endExpectation()
	if nonce == ([16]byte{}) {
		return nil
	}
	select {
	case j.upkeep <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("expect a claim: %w", ctx.Err())
	case <-j.done:
		return j.Err()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		<-j.upkeep
		return j.err
	}
	j.expected = nonce
	return nil
}

// endExpectation lets upkeep go on, if a claim is expected.
func (j *Journal) endExpectation() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.expected != ([16]byte{}) {
		j.expected = [16]byte{}
		<-j.upkeep
	}
}

// confirmExpected is Confirm when the expected claim is there. It alone fences nobody.
// Before its holder is the owner, there is a SEAL in this epoch: at the first slot that is
// missing, which is one of those that are not acknowledged or the one after them. SEALs
// last; the holder's header does not, since it may be deleted below a checkpoint. A
// claim above the expected one fences as any other does.
func (j *Journal) confirmExpected(ctx context.Context) error {
	j.mu.Lock()
	first, last := j.acked(), j.next
	j.mu.Unlock()
	if headerAsked(j.store.mutations) {
		first, last = Position{Epoch: j.claim.Epoch + 1}, 0
	} else if flyingUnread(j.store.mutations) {
		first.Slot = last
	}
	for pos := first; pos.Slot <= last; pos.Slot++ {
		raw, err := j.store.bucket.Get(ctx, SlotKey(j.store.shard, pos), 0, fixedSize)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("confirm epoch %d: %w", j.claim.Epoch, err)
		case isSeal(raw) && sealedBy(raw) == j.claim.Epoch: // this owner yields
		case isSeal(raw) || pos.Epoch > j.claim.Epoch:
			return j.fenced(fmt.Errorf("%w: there is a SEAL at %v", ErrFenced, pos))
		}
	}
	return j.confirmAbove(ctx, j.claim.Epoch+2)
}

// acked returns the first slot that is not acknowledged. Caller holds mu.
func (j *Journal) acked() Position {
	return Position{j.claim.Epoch, j.counts.low + uint64(len(j.counts.entries)) - 1}
}

// Yield ends the epoch from the inside. It takes no more entries, and creates a SEAL at
// the next slot at once, while the last slots are in flight. These are acknowledged as
// they land. When all are, the journal has stopped with ErrYielded, and Yield returns the
// position of the SEAL: the log before it is what was acknowledged. At level 1 there is
// no SEAL, and the successor puts it.
//
// When ctx ends first, the journal still takes no entries; another Yield waits for the
// same end. If no successor comes, the node continues with Resume.
//
// Errors: ctx's, and any other reason why the journal has stopped: ErrFenced if a claimant
// was faster.
func (j *Journal) Yield(ctx context.Context) (end Position, err error) {
	j.mu.Lock()
	end = Position{j.claim.Epoch, j.next}
	if !j.closed {
		j.closed, j.yielding = true, true
		close(j.closing)
		seal := &pendingSlot{pos: end, seal: true, open: 1 + uint8(len(j.queue))}
		j.queue = append(j.queue, seal)
		j.wg.Go(func() { j.writeSeal(seal) })
	}
	j.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		return end, fmt.Errorf("yield shard %d: %w", j.store.shard, ctx.Err())
	}
	if err := j.Err(); !errors.Is(err, ErrYielded) {
		return end, fmt.Errorf("yield shard %d: %w", j.store.shard, err)
	}
	return end, nil
}

// writeSeal makes the SEAL that this owner puts into its own epoch durable. A crash before
// it leaves an epoch that a claimant seals.
func (j *Journal) writeSeal(f *pendingSlot) {
	if j.level >= 2 {
		o := yieldObject(j.store.shard, j.claim, f.pos.Slot, f.open)
		if _, err := j.store.createOwn(j.ctx, SlotKey(j.store.shard, f.pos), o.encode()); err != nil {
			j.stop(err)
			return
		}
	}
	j.durableSlots <- f // has capacity for Depth slots and this one
}

// Resume makes a candidate of a node whose journal has ended, with what it had
// acknowledged. That is the beginning of any later log, whatever became of the slots in
// flight. s must hold the state after the last call of Apply: the state of the journal, or
// a copy. Close must have returned. Options are those of Prepare.
//
// Nothing is read. The candidate follows the log from there, or claims the next epoch.
func (j *Journal) Resume(o Options, s State) (*Candidate, error) {
	c, err := NewCandidate(o, s)
	if err != nil {
		return nil, fmt.Errorf("resume journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		return nil, errors.New("resume journal: it has not ended")
	}
	w := c.w
	w.way, w.nonce, w.pos = j.way, j.claim.Nonce, j.acked()
	w.seals = slices.Clone(j.way.seals)
	w.entries, _ = j.counts.before(w.pos.Slot)
	if resumeUnacked(j.store.mutations) {
		w.pos.Slot = j.next
	}
	w.passed, w.loaded = w.pos, j.recovered.Checkpoint
	w.begunEpochs = append(slices.Clone(j.recovered.begun), j.claim.Epoch)
	return c, nil
}
