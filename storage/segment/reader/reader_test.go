package reader

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestRead reads at every offset of pieces with and without holes.
func TestRead(t *testing.T) {
	b := mem.New()
	rng := rand.New(rand.NewPCG(5, 5))
	var holes []record.Batch
	for next := int64(100); len(holes) < 60; {
		n := 1 + rng.Int32N(3)
		holes = append(holes, batch(t, next, n, 1+rng.IntN(30<<10)))
		next += int64(n) + rng.Int64N(3)
	}
	for i, o := range []object{
		put(t, b, 1, holes),
		put(t, b, 2, row(t, 0, 10, 10)),
		put(t, b, 3, row(t, 1<<40, 3, 300<<10)), // larger than a block
		put(t, b, 4, nil),
	} {
		for _, limit := range []int64{0, 400 << 10, 64 << 20} {
			r := New(b, named, limit)
			for offset := o.piece.Base - 2; offset < o.piece.Next+2; offset++ {
				for _, maxBytes := range []int{-1, 0, 1, 100 << 10, 1 << 20, math.MaxInt} {
					o.must(t, r, offset, maxBytes)
				}
			}
			for _, offset := range []int64{math.MinInt64, math.MaxInt64} {
				o.must(t, r, offset, 1<<20)
			}
			r.Close()
			idle(t, r)
			if t.Failed() {
				t.Fatalf("object %d, limit %d", i, limit)
			}
		}
	}
}

// TestGets: an index costs one Get, missing neighbours another, what is cached
// none; and a small piece costs one in all.
func TestGets(t *testing.T) {
	b := newCounted()
	large := put(t, b, 1, row(t, 0, 40, 120<<10)) // two batches make a block
	small := put(t, b, 2, row(t, 0, 5, 10<<10))
	r := New(b, named, 64<<20)
	defer r.Close()
	block := int64(2 * len(large.batches[0]))
	for _, c := range []struct {
		name     string
		o        object
		offset   int64
		maxBytes int
		want     []int64
	}{
		{"first block", large, 0, 1, []int64{int64(large.piece.Index), block}},
		{"same", large, 0, 1, nil},
		{"fifth block", large, 8, 1, []int64{block}},
		{"in front of it too", large, 2, int(4*block) - 100, []int64{3 * block}},
		{"three that are there and three behind", large, 4, int(6*block) - 100, []int64{3 * block}},
		{"small piece", small, 0, 1 << 20, []int64{int64(small.piece.Size)}},
		{"again", small, 3, 1 << 20, nil},
	} {
		c.o.must(t, r, c.offset, c.maxBytes)
		if got := b.taken(); !slices.Equal(got, c.want) {
			t.Errorf("%s: Gets of %v, want %v", c.name, got, c.want)
		}
	}
	if s := r.Stats(); s.Misses != 10 || s.Hits != 12 {
		t.Errorf("%+v", s)
	}
	idle(t, r)
}

// TestLargeRead: one read takes at most 16 MiB in Gets of at most 4 MiB.
func TestLargeRead(t *testing.T) {
	b := newCounted()
	o := put(t, b, 1, row(t, 0, 200, 120<<10))
	r := New(b, named, 0)
	defer r.Close()
	size, read := 0, o.must(t, r, 0, math.MaxInt)
	for _, b := range read {
		size += len(b)
	}
	gets := b.taken()
	if size > maxRead || size < maxRead-(1<<20) || len(gets) != 1+maxRead/maxGet || slices.Max(gets) > maxGet {
		t.Errorf("%d bytes in Gets of %v", size, gets)
	}
}

// TestOneGet: all readers that wait for a block share one Get.
func TestOneGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCounted()
		o := put(t, b, 1, row(t, 0, 40, 120<<10))
		way := storagetest.NewFaults(b, 1)
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: time.Second} })
		r := New(way, named, 64<<20)
		defer r.Close()
		for range 20 {
			go o.try(t, r, 7, 300<<10)
		}
		time.Sleep(time.Minute)
		if gets := b.taken(); len(gets) != 2 {
			t.Errorf("Gets of %v", gets)
		}
		idle(t, r)
	})
}

// TestCancel: a reader that gives up does not affect the others; the last one that does
// ends the Get.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCounted()
		o := put(t, b, 1, row(t, 0, 40, 120<<10))
		way := storagetest.NewFaults(b, 1)
		r := New(way, named, 64<<20)
		defer r.Close()
		if _, err := r.Blocks(t.Context(), o.place()); err != nil {
			t.Fatal(err)
		}
		b.taken()
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: time.Hour} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go givesUp(t, r, o, ctx, 0) // it starts the Get
		synctest.Wait()
		go o.try(t, r, 0, 1)
		go givesUp(t, r, o, ctx, 0)
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		if gets := b.taken(); len(gets) != 1 {
			t.Errorf("Gets of %v", gets)
		}
		idle(t, r)

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go givesUp(t, r, o, ctx, 20)
		go givesUp(t, r, o, ctx, 20)
		time.Sleep(time.Second)
		synctest.Wait()
		idle(t, r) // long before the Get would have ended
		if calls := way.Calls(); calls != 3 {
			t.Errorf("%d Gets", calls)
		}
		way.Plan(nil)
		o.must(t, r, 20, 1)
	})
}

// givesUp reads until ctx ends, after a second.
func givesUp(t *testing.T, r *Reader, o object, ctx context.Context, offset int64) {
	start := time.Now()
	if _, err := o.read(r, ctx, offset, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestGone: the error of an object that is not there is the bucket's.
func TestGone(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 10, 120<<10))
	r := New(b, named, 64<<20)
	defer r.Close()
	o.must(t, r, 0, 1)
	if err := b.Delete(t.Context(), o.key()); err != nil {
		t.Fatal(err)
	}
	o.must(t, r, 0, 1) // still cached
	if _, err := o.read(r, t.Context(), 8, 1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), o.key()) {
		t.Error(err)
	}
	if got := o.must(t, r, 0, 10<<20); len(got) != 2 {
		t.Errorf("%d batches from the block that is here", len(got))
	}
	o.number++
	if _, err := r.Blocks(t.Context(), o.place()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), o.key()) {
		t.Error(err)
	}
	idle(t, r)
}

// replace does what no bucket offers.
func replace(t *testing.T, b storage.Bucket, key string, body []byte) {
	t.Helper()
	if err := errors.Join(b.Delete(t.Context(), key), b.Create(t.Context(), key, body)); err != nil {
		t.Fatal(err)
	}
}

// TestCorrupt: each read of a damaged block returns an error with the key, until the
// object is restored; what lies before and behind it can be read.
func TestCorrupt(t *testing.T) {
	b := mem.New()
	large := put(t, b, 1, row(t, 0, 10, 120<<10))
	small := put(t, b, 2, row(t, 0, 10, 100))
	for _, c := range []struct {
		name   string
		o      object
		damage func(o object, body []byte) []byte
		good   int64 // offsets below it can be read, -1: not even the index
		behind int64 // and from here on
	}{
		{"block", large, func(o object, p []byte) []byte { p[o.piece.At+300<<10] ^= 1; return p }, 2, 4},
		{"first block", large, func(o object, p []byte) []byte { p[o.piece.At+7] ^= 1; return p }, 0, 2},
		{"index", large, func(o object, p []byte) []byte { p[o.piece.At+o.piece.Size-2] ^= 1; return p }, -1, 0},
		{"cut in the index", large, func(o object, p []byte) []byte { return p[:o.piece.At+o.piece.Size-1] }, -1, 0},
		{"empty", large, func(object, []byte) []byte { return nil }, -1, 0},
		{"small block", small, func(o object, p []byte) []byte { p[o.piece.At+7] ^= 1; return p }, 0, 10},
		{"small index", small, func(o object, p []byte) []byte { p[o.piece.At+o.piece.Size-2] ^= 1; return p }, -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := b.Get(t.Context(), c.o.key(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer replace(t, b, c.o.key(), body)
			replace(t, b, c.o.key(), c.damage(c.o, bytes.Clone(body)))
			r := New(b, named, 64<<20)
			defer r.Close()
			for range 2 {
				for offset := range c.good {
					c.o.must(t, r, offset, 10<<20)
				}
				_, err := c.o.read(r, t.Context(), max(c.good, 0), 10<<20)
				if !errors.Is(err, segment.ErrCorrupt) || !strings.Contains(err.Error(), c.o.key()) {
					t.Errorf("got %v", err)
				}
				if c.behind > 0 {
					c.o.must(t, r, c.behind, 10<<20)
				}
			}
			replace(t, b, c.o.key(), body)
			c.o.must(t, r, 0, 10<<20)
			c.o.must(t, r, 2, 10<<20)
			idle(t, r)
		})
	}
	r := New(b, named, 64<<20)
	defer r.Close()
	for _, wrong := range []segment.Piece{{}, small.piece} {
		o := object{epoch: 5, number: 1, piece: wrong}
		if _, err := o.read(r, t.Context(), 0, 1); !errors.Is(err, segment.ErrCorrupt) || !strings.Contains(err.Error(), o.key()) {
			t.Errorf("wrong reference: %v", err)
		}
	}
}

// TestCutBlocks: an object that ends in its blocks is found by the read of them.
func TestCutBlocks(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 10, 120<<10))
	r := New(b, named, 64<<20)
	defer r.Close()
	o.must(t, r, 0, 1)
	body, err := b.Get(t.Context(), o.key(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, b, o.key(), body[:o.piece.At+500<<10])
	if _, err := o.read(r, t.Context(), 4, 1); !errors.Is(err, segment.ErrCorrupt) || !strings.Contains(err.Error(), o.key()) {
		t.Error(err)
	}
}

// TestLRU: what is used stays, what was not used for longest goes.
func TestLRU(t *testing.T) {
	b := newCounted()
	o := put(t, b, 1, row(t, 0, 40, 120<<10))
	r := New(b, named, 1<<20) // four blocks
	defer r.Close()
	for _, offset := range []int64{0, 38, 20, 0, 30, 10, 0, 14, 2, 0} {
		o.must(t, r, offset, 1)
		sound(t, r)
	}
	b.taken()
	o.must(t, r, 0, 1)
	if gets := b.taken(); len(gets) != 0 {
		t.Errorf("the block that is always used costs %v", gets)
	}
	o.must(t, r, 38, 1)
	if gets := b.taken(); len(gets) != 1 {
		t.Errorf("the block that was not used costs %v", gets)
	}
}

// repeated is a bucket that holds one segment under any number.
type repeated struct {
	storage.Bucket
	key string
}

func (b repeated) Get(ctx context.Context, _ string, off, n int64) ([]byte, error) {
	return b.Bucket.Get(ctx, b.key, off, n)
}

// TestScan: 200 MB through a reader of 8 MiB, and its memory stays bounded.
func TestScan(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 500, 40<<10)) // 20 MB
	const limit = 8 << 20
	r := New(repeated{b, o.key()}, named, limit)
	defer r.Close()
	before := heap()
	most := int64(0)
	for i := range uint64(10) {
		o.number = i
		for offset := int64(0); offset < o.piece.Next; {
			got := o.must(t, r, offset, 1<<20)
			offset = got[len(got)-1].NextOffset()
			s := r.Stats()
			if most = max(most, s.Cached); s.Cached > limit {
				t.Fatalf("%d bytes cached, the limit is %d", s.Cached, limit)
			}
		}
		sound(t, r)
		if grown := heap() - before; grown > limit+limit/4+maxGet {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
	}
	s := r.Stats()
	if want := 10 * int64(o.piece.Size); s.BytesRead < want || s.BytesRead > want+want/20 || most < limit*3/4 {
		t.Errorf("%+v for %d bytes, at most %d cached", s, want, most)
	}
}

// TestNeighboursLeave: a block that stays does not keep those in memory that came
// with it and have left.
func TestNeighboursLeave(t *testing.T) {
	b := mem.New()
	o := put(t, b, 1, row(t, 0, 34, 120<<10)) // 4 MB
	const limit = 8 << 20
	r := New(repeated{b, o.key()}, named, limit)
	defer r.Close()
	before := heap()
	for i := range uint64(14) {
		o.number = i
		o.must(t, r, 0, maxGet)
		for j := range i + 1 {
			o.number = j
			o.must(t, r, 0, 1)
		}
	}
	if s := r.Stats(); s.Misses > 14*20 {
		t.Errorf("%+v: the first blocks did not stay", s)
	}
	if grown := heap() - before; grown > limit+maxGet {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestClose: waiting reads return, nothing goes on, and nothing begins.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		o := put(t, b, 1, row(t, 0, 40, 120<<10))
		way := storagetest.NewFaults(b, 1)
		r := New(way, named, 64<<20)
		o.must(t, r, 0, 1)
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: time.Hour} })
		start := time.Now()
		for _, offset := range []int64{1, 1, 20, 30} { // 1: read on from there, with read-ahead
			go func() {
				if got, err := o.read(r, t.Context(), offset, 1<<20); len(got) == 0 && !errors.Is(err, ErrClosed) {
					t.Errorf("read from %d: %d batches, %v", offset, len(got), err)
				}
			}()
		}
		synctest.Wait()
		r.Close()
		if time.Since(start) > 0 {
			t.Error("Close waited for a Get")
		}
		synctest.Wait()
		idle(t, r)
		calls := way.Calls()
		if _, err := o.read(r, t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		r.Close()
		if way.Calls() != calls {
			t.Error("a closed reader reads")
		}
	})
}
