package reader

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/storagetest"
)

// runKey names the slots and segments of these tests.
func runKey(o Object) string {
	if o.Slot {
		return fmt.Sprint("slot/", o.Number)
	}
	return named(o)
}

// putRuns stores batches as runs in slots, so many in each.
func putRuns(t testing.TB, b storage.Bucket, batches []record.Batch, each int) (row []Place) {
	t.Helper()
	for some := range slices.Chunk(batches, each) {
		body := make([]byte, 99)
		x := Place{Object{Epoch: 5, Number: uint64(len(row)), Slot: true, Leader: 7}, segment.Piece{
			Topic: [16]byte{1}, Base: some[0].BaseOffset(), Next: some[len(some)-1].NextOffset(), MaxTime: segment.NoTime, At: 99,
		}}
		for _, batch := range some {
			batch.SetLeaderEpoch(7)
			body = append(body, batch...)
			x.Piece.MaxTime = max(x.Piece.MaxTime, batch.MaxTimestamp())
		}
		x.Piece.Size = uint32(len(body) - 99)
		if err := b.Create(t.Context(), runKey(x.Object), append(body, "what lies behind it"...)); err != nil {
			t.Fatal(err)
		}
		row = append(row, x)
	}
	return row
}

// rowFrom is the part of a row from an offset on.
func rowFrom(row []Place, offset int64) []Place {
	return row[slices.IndexFunc(row, func(x Place) bool { return x.Piece.Next > offset }):]
}

// TestRuns reads runs in slots to their end, with small and large reads, and with a cache
// that keeps nothing.
func TestRuns(t *testing.T) {
	for _, limit := range []int64{0, 3 << 20, 64 << 20} {
		for _, maxBytes := range []int{1, 150 << 10, 2 << 20} {
			t.Run(fmt.Sprint(limit, " ", maxBytes), func(t *testing.T) {
				b := mem.New()
				o := object{batches: row(t, 0, 100, 60<<10)}
				runs := putRuns(t, b, o.batches, 7) // 420 KB each
				r := New(b, runKey, limit)
				defer r.Close()
				for offset := int64(0); offset < 100; {
					got, err := r.Read(t.Context(), rowFrom(runs, offset), offset, maxBytes)
					if err != nil {
						t.Fatal(err)
					}
					o.check(t, got, offset, maxBytes)
					if want := min(maxBytes, int(100-offset)*60<<10) - 120<<10; len(got)*60<<10 < want {
						t.Fatalf("%d batches from %d on", len(got), offset)
					}
					offset = got[len(got)-1].NextOffset()
				}
				r.running.Wait()
				idle(t, r)
			})
		}
	}
}

// TestRunsAtOnce: a read that needs many runs waits about as long as for one, and a
// reader that reads on does not wait.
func TestRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		runs := putRuns(t, b, row(t, 0, 64, 60<<10), 2)
		way := storagetest.NewFaults(b, 1)
		way.Plan(slow(100 * time.Millisecond))
		r := New(way, runKey, 64<<20)
		defer r.Close()
		began := time.Now()
		got, err := r.Read(t.Context(), runs[:12], 0, 1<<20)
		if err != nil || len(got) < 16 || time.Since(began) > 150*time.Millisecond {
			t.Errorf("%d batches after %v, %v", len(got), time.Since(began), err)
		}
		for offset := got[len(got)-1].NextOffset(); offset < 64; {
			time.Sleep(time.Second)
			began := time.Now()
			got, err := r.Read(t.Context(), rowFrom(runs, offset), offset, 240<<10)
			if err != nil || len(got) == 0 {
				t.Fatal(got, err)
			}
			if waited := time.Since(began); waited > 0 && offset > 24 {
				t.Errorf("the read from %d on waited for %v", offset, waited)
			}
			offset = got[len(got)-1].NextOffset()
			sound(t, r)
		}
		if s := r.Stats(); s.BytesRead > 64*(61<<10) {
			t.Errorf("%+v", s)
		}
		r.running.Wait()
		idle(t, r)
	})
}

// TestRunJumps: for a reader that does not continue, no run is read that it does not
// need.
func TestRunJumps(t *testing.T) {
	b := newCounted()
	runs := putRuns(t, b, row(t, 0, 64, 60<<10), 2)
	r := New(b, runKey, 64<<20)
	defer r.Close()
	for _, offset := range []int64{40, 10, 30, 0} {
		if _, err := r.Read(t.Context(), rowFrom(runs, offset), offset, 1); err != nil {
			t.Fatal(err)
		}
	}
	r.running.Wait()
	if gets := b.taken(); len(gets) != 4 {
		t.Errorf("Gets of %v", gets)
	}
}

// TestRunsHarmed: a read ends before a run that is damaged or missing, and one that
// begins there returns the error.
func TestRunsHarmed(t *testing.T) {
	for name, body := range map[string][]byte{"missing": nil, "empty": {}, "zeros": make([]byte, 1<<20)} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			runs := putRuns(t, b, row(t, 0, 12, 60<<10), 2)
			if err := b.Delete(t.Context(), runKey(runs[2].Object)); err != nil {
				t.Fatal(err)
			}
			if body != nil {
				if err := b.Create(t.Context(), runKey(runs[2].Object), body); err != nil {
					t.Fatal(err)
				}
			}
			r := New(b, runKey, 64<<20)
			defer r.Close()
			got, err := r.Read(t.Context(), runs, 0, 1<<20)
			if err != nil || len(got) != 4 {
				t.Errorf("%d batches, %v", len(got), err)
			}
			if got, err := r.Read(t.Context(), runs[2:], 4, 1<<20); err == nil || len(got) > 0 || body != nil && !errors.Is(err, segment.ErrCorrupt) {
				t.Errorf("%d batches, %v", len(got), err)
			}
			if got, err := r.Read(t.Context(), runs[3:], 6, 1<<20); err != nil || len(got) != 6 {
				t.Errorf("%d batches, %v", len(got), err)
			}
			r.running.Wait()
			idle(t, r)
		})
	}
}
