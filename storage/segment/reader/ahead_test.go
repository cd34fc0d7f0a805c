package reader

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// slow lets every Get take so long.
func slow(d time.Duration) storagetest.Plan {
	return func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: d} }
}

// scan reads an object to its end, with a pause after each read, and returns how
// many reads had to wait.
func scan(t *testing.T, r *Reader, o object, pause time.Duration, maxBytes int) (waited int) {
	t.Helper()
	for offset := o.piece.Base; offset < o.piece.Next; {
		start := time.Now()
		got := o.try(t, r, offset, maxBytes)
		if len(got) == 0 {
			return waited
		}
		if time.Since(start) > 0 {
			waited++
		}
		offset = got[len(got)-1].NextOffset()
		sound(t, r)
		time.Sleep(pause)
	}
	return waited
}

// TestReadsOn: a reader of a piece in order waits for the index and the first blocks,
// and never again; nothing is fetched twice.
func TestReadsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCounted()
		o := put(t, b, 1, row(t, 0, 240, 60<<10))
		way := storagetest.NewFaults(b, 1)
		way.Plan(slow(100 * time.Millisecond))
		r := New(way, named, 32<<20)
		defer r.Close()
		if waited := scan(t, r, o, 200*time.Millisecond, 500<<10); waited > 2 {
			t.Errorf("%d reads had to wait", waited)
		}
		gets := b.taken()
		if s := r.Stats(); s.BytesRead != int64(o.piece.Size) || slices.Max(gets) > 2<<20 || len(gets) > 20 {
			t.Errorf("%+v for %d bytes in Gets of %v", s, o.piece.Size, gets)
		}
		idle(t, r)
	})
}

// TestReadsOnFollowed: a reader that follows another causes no Gets.
func TestReadsOnFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		o := put(t, b, 1, row(t, 0, 240, 60<<10))
		way := storagetest.NewFaults(b, 1)
		way.Plan(slow(100 * time.Millisecond))
		r := New(way, named, 32<<20)
		defer r.Close()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				scan(t, r, o, 200*time.Millisecond, 500<<10)
			})
		}
		wg.Wait()
		if s := r.Stats(); s.BytesRead != int64(o.piece.Size) {
			t.Errorf("%+v for %d bytes", s, o.piece.Size)
		}
		idle(t, r)
	})
}

// TestJumps: for a reader that does not continue, nothing more is fetched than it asked
// for.
func TestJumps(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 80, 120<<10))
	r := New(b, named, 64<<20)
	defer r.Close()
	want := int64(o.piece.Index)
	for _, offset := range []int64{60, 20, 40, 0, 72} {
		o.must(t, r, offset, 1)
		want += int64(2 * len(o.batches[0]))
	}
	if s := r.Stats(); s.BytesRead != want {
		t.Errorf("%+v, want %d bytes", s, want)
	}
}

// TestAheadBounds: one reader has at most two Gets ahead, all readers together a
// quarter of the cache, however often they ask.
func TestAheadBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 32 << 20
		way := storagetest.NewFaults(mem.New(), 1)
		b := &counted{Bucket: way}
		r := New(b, named, limit)
		defer r.Close()
		var objects []object
		for i := range uint64(8) {
			o := put(t, b, i, row(t, 0, 100, 60<<10))
			o.must(t, r, 0, 1)
			objects = append(objects, o)
		}
		b.taken()
		way.Plan(slow(time.Hour))
		for i, o := range objects {
			for range 3 {
				o.must(t, r, 1, 1)
				r.mu.Lock()
				r.streams.put(streamOf(o.place(), 1), end{at: o.place()})
				r.mu.Unlock()
			}
			synctest.Wait()
			sound(t, r)
			gets := b.taken()
			if i < 2 && len(gets) != 2 || len(gets) > 2 || len(gets) > 0 && slices.Max(gets) > limit/groupShare {
				t.Errorf("reader %d: Gets of %v", i, gets)
			}
		}
		r.mu.Lock()
		ahead, under := r.cache.ahead, len(r.fetches)
		r.mu.Unlock()
		if ahead < limit/aheadShare-(1<<20) || under == 0 {
			t.Errorf("%d bytes ahead in %d blocks", ahead, under)
		}
		// Blocks that arrived and were not asked for cause no further read-ahead.
		time.Sleep(2 * time.Hour)
		idle(t, r)
		objects[7].must(t, r, 1, 1)
		synctest.Wait()
		if gets := b.taken(); len(gets) != 0 {
			t.Errorf("Gets of %v with nothing to spare", gets)
		}
		way.Plan(nil)
		for _, o := range objects {
			scan(t, r, o, 0, 1<<20)
		}
		idle(t, r)
	})
}

// TestAheadOfNobody: blocks that were read ahead for a reader that stopped are evicted
// in time.
func TestAheadOfNobody(t *testing.T) {
	b := mem.New()
	const limit = 8 << 20
	r := New(b, named, limit)
	defer r.Close()
	ahead := func() int64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.cache.ahead
	}
	for i := range uint64(5) {
		o := put(t, b, i, row(t, 0, 40, 120<<10))
		o.must(t, r, 0, 1)
		o.must(t, r, 1, 1)
	}
	r.running.Wait()
	if ahead() == 0 {
		t.Error("nothing was read ahead")
	}
	o := put(t, b, 100, row(t, 0, 200, 60<<10))
	for offset := o.piece.Next - 1; offset >= 0; offset -= 4 {
		o.must(t, r, offset, 1)
	}
	if ahead() != 0 {
		t.Errorf("%d bytes ahead are kept for nobody", ahead())
	}
	idle(t, r)
}

// TestAheadCancelled: blocks that are being read ahead arrive, even if the read before
// them was cancelled, and so was a read that waits for them.
func TestAheadCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCounted()
		o := put(t, b, 1, row(t, 0, 40, 120<<10))
		way := storagetest.NewFaults(b, 1)
		r := New(way, named, 64<<20)
		defer r.Close()
		o.must(t, r, 0, 300<<10)
		way.Plan(slow(time.Hour))
		o.must(t, r, 2, 1) // both blocks are here
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := o.read(r, ctx, 6, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		idle(t, r)
		calls := way.Calls()
		for offset := int64(6); offset < 20; offset++ {
			o.must(t, r, offset, 1)
		}
		if way.Calls() != calls {
			t.Errorf("%d Gets more", way.Calls()-calls)
		}
	})
}

// TestAheadFails: a Get ahead that fails is not reported; the read that needs the block
// tries again.
func TestAheadFails(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 40, 120<<10))
	way := storagetest.NewFaults(b, 1)
	r := New(way, named, 64<<20)
	defer r.Close()
	o.must(t, r, 0, 300<<10)
	way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
	calls := way.Calls()
	o.must(t, r, 2, 1)
	r.running.Wait()
	idle(t, r)
	if way.Calls() == calls {
		t.Fatal("nothing was read ahead")
	}
	if _, err := o.read(r, t.Context(), 20, 1); !errors.Is(err, storagetest.ErrInjected) {
		t.Error(err)
	}
	way.Plan(nil)
	o.must(t, r, 6, 1<<20)
	o.must(t, r, 20, 1<<20)
}

func TestStreams(t *testing.T) {
	s := newStreams()
	at := func(offset int64) stream { return stream{offset: offset} }
	if _, found := s.take(at(1)); found {
		t.Error("a stream from nowhere")
	}
	s.put(at(1), end{asked: 7})
	s.put(at(1), end{asked: 8})
	if e, found := s.take(at(1)); !found || e.asked != 8 {
		t.Error(e, found)
	}
	if _, found := s.take(at(1)); found {
		t.Error("it was taken")
	}
	for i := range int64(5 * maxStreams) {
		s.put(at(i), end{})
		if i%3 == 0 {
			s.take(at(i - 1))
		}
		s.put(at(-1), end{}) // one that is always there
	}
	if len(s.ends) > maxStreams || len(s.ring) != maxStreams {
		t.Errorf("%d streams, ring of %d", len(s.ends), len(s.ring))
	}
	if _, found := s.take(at(-1)); !found {
		t.Error("the newest is gone")
	}
	if _, found := s.take(at(0)); found {
		t.Error("the oldest is there")
	}
}

// TestCrowd: readers that jump, read on, give up and meet failures, all at once. Every
// successful read returns the right batches.
func TestCrowd(t *testing.T) {
	b := mem.New()
	objects := []object{
		put(t, b, 1, row(t, 0, 100, 60<<10)),
		put(t, b, 2, row(t, 1000, 30, 300<<10)),
		put(t, b, 3, row(t, 5, 50, 100)),
		put(t, b, 4, nil),
	}
	way := storagetest.NewFaults(b, 1)
	way.Random(storagetest.Odds{Fail: 0.1, Before: time.Millisecond, After: time.Millisecond})
	r := New(way, named, 6<<20)
	done := make(chan struct{})
	var wg, patient sync.WaitGroup
	for seed := range uint64(8) {
		reader := func() {
			rng := rand.New(rand.NewPCG(seed, 9))
			o, offset := objects[0], int64(0)
			for range 80 {
				if rng.IntN(6) == 0 {
					o = objects[rng.IntN(len(objects))]
					offset = o.piece.Base + rng.Int64N(o.piece.Next-o.piece.Base)
				}
				offset = step(t, r, o, offset, rng)
				sound(t, r)
			}
		}
		if seed < 6 {
			patient.Go(reader)
		} else {
			wg.Go(func() { // goes on after Close
				for {
					select {
					case <-done:
						return
					default:
						reader()
					}
				}
			})
		}
	}
	patient.Wait()
	r.Close()
	idle(t, r)
	close(done)
	wg.Wait()
	idle(t, r)
}

// step is one read of a reader in the crowd; it returns where the reader continues.
func step(t *testing.T, r *Reader, o object, offset int64, rng *rand.Rand) int64 {
	ctx := t.Context()
	if rng.IntN(4) == 0 {
		short, cancel := context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(3*time.Millisecond))))
		defer cancel()
		ctx = short
	}
	maxBytes := rng.IntN(2 << 20)
	got, err := o.read(r, ctx, offset, maxBytes)
	switch {
	case errors.Is(err, storagetest.ErrInjected), errors.Is(err, ErrClosed), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return offset
	case err != nil:
		t.Errorf("read from %d: %v", offset, err)
		return offset
	}
	o.check(t, got, offset, maxBytes)
	if len(got) == 0 {
		return o.piece.Base
	}
	return got[len(got)-1].NextOffset()
}
