package journal

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"
)

// offer is a candidate that waits for an owner to hand over to it.
type offer struct {
	nonce    [16]byte
	expected chan struct{} // closed when the owner expects the claim
	yielded  chan struct{} // closed when the owner has yielded, or given up
}

// begin makes a process an owner: at once, or as a candidate that reads the log along for
// a while and then takes over, by a hand-over if an owner is there that does it.
func (w *world) begin(ctx context.Context, o Options, id string, h *history, rng *rand.Rand) (*Journal, error) {
	if rng.IntN(2) == 0 {
		return Open(ctx, o, h)
	}
	c, err := Prepare(ctx, o, h)
	for n := rng.IntN(5); err == nil && n > 0 && sleep(ctx, upTo(rng, 5*time.Second)); n-- {
		err = c.Follow(ctx)
		w.count(func(t *tally) { t.Followed++ })
	}
	if err != nil {
		return nil, err
	}
	return w.succeed(ctx, c, rng)
}

// succeed is what a candidate does that has read enough.
func (w *world) succeed(ctx context.Context, c *Candidate, rng *rand.Rand) (*Journal, error) {
	me := &offer{expected: make(chan struct{}), yielded: make(chan struct{})}
	binary.BigEndian.PutUint64(me.nonce[:], 1+rng.Uint64()>>1)
	w.offer(me)
	expected := wait(ctx, me.expected, upTo(rng, 10*time.Second))
	if !w.withdraw(me) {
		expected = true
	}
	sleep(ctx, upTo(rng, 500*time.Millisecond))
	if err := c.Claim(ctx, 0, me.nonce); err != nil {
		return nil, err
	}
	if expected {
		for n := rng.IntN(3); n > 0 && sleep(ctx, upTo(rng, time.Second)); n-- {
			if err := c.Follow(ctx); err != nil {
				return nil, err
			}
		}
		wait(ctx, me.yielded, upTo(rng, 20*time.Second))
		sleep(ctx, upTo(rng, 100*time.Millisecond))
	}
	if rng.IntN(8) == 0 {
		return nil, context.Canceled // it dies, and its claim stays
	}
	j, err := c.Take(ctx)
	if err == nil && expected {
		w.count(func(t *tally) { t.HandedOver++ })
	}
	return j, err
}

// wait reports whether done was closed before d was over.
func wait(ctx context.Context, done chan struct{}, d time.Duration) bool {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-limit.C:
	}
	return false
}

func (w *world) offer(o *offer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, o)
}

// withdraw reports whether the offer was still there.
func (w *world) withdraw(o *offer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, o)
	if i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	return i >= 0
}

// handOver lets an owner choose a candidate, go on for a while under its claim, and then
// yield. It reports whether the journal has ended.
func (w *world) handOver(ctx context.Context, id string, j *Journal, h *history, rng *rand.Rand) bool {
	if h.offer == nil {
		if rng.IntN(3) > 0 {
			return false
		}
		w.mu.Lock()
		if len(w.waiting) > 0 {
			h.offer, w.waiting = w.waiting[0], w.waiting[1:]
		}
		w.mu.Unlock()
		if h.offer != nil {
			w.judge(id, j.Expect(ctx, h.offer.nonce))
			close(h.offer.expected)
		}
		return false
	}
	if rng.IntN(4) > 0 {
		return false
	}
	if rng.IntN(8) == 0 { // it has changed its mind
		w.judge(id, j.Expect(ctx, [16]byte{}))
		close(h.offer.yielded)
		h.offer = nil
		return false
	}
	limited, cancel := context.WithTimeout(ctx, upTo(rng, 30*time.Second))
	defer cancel()
	_, err := j.Yield(limited)
	w.judge(id, err)
	if err == nil {
		w.count(func(t *tally) { t.Yielded++ })
	}
	close(h.offer.yielded)
	return true
}

// resume makes a process that has yielded, or was fenced, a candidate with what it had
// acknowledged. It returns nil if the process ends.
func (w *world) resume(ctx context.Context, o Options, id string, old *Journal, was *history, rng *rand.Rand) (*Journal, *history, error) {
	if ctx.Err() != nil || rng.IntN(2) == 0 {
		return nil, nil, nil
	}
	h := w.process(id)
	w.mu.Lock()
	h.dead, h.got, h.next, h.first = was.dead, slices.Clone(was.got), was.next, was.first
	h.kept, h.dropped = slices.Clone(was.kept), slices.Clone(was.dropped)
	w.mu.Unlock()
	c, err := old.Resume(o, h)
	if err == nil && rng.IntN(2) == 0 && sleep(ctx, upTo(rng, 10*time.Second)) {
		err = c.Follow(ctx)
	}
	if err != nil {
		return nil, h, err
	}
	j, err := w.succeed(ctx, c, rng)
	if err == nil {
		w.count(func(t *tally) { t.Resumed++ })
	}
	return j, h, err
}

// confirm checks that an owner which is told that it owns the shard did so when it asked.
func (w *world) confirm(ctx context.Context, id string, j *Journal) {
	newest := w.newestOwner()
	err := j.Confirm(ctx)
	w.judge(id, err)
	if err == nil && newest > j.Epoch() {
		w.fault("%s: owner of epoch %d is told that it owns the shard, after epoch %d had begun", id, j.Epoch(), newest)
	}
}

// newestOwner returns the newest epoch that has begun.
func (w *world) newestOwner() (newest uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.histories {
		newest = max(newest, h.epoch)
	}
	return newest
}
