package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestTruncateBatches counts the Deletes: 1,000 keys in each, no List, and none
// for what was deleted before.
func TestTruncateBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		var keys []int
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			switch {
			case c.Verb == storagetest.Delete:
				keys = append(keys, len(c.Keys))
			case c.Verb == storagetest.List && len(s.got) > 0:
				t.Errorf("List of %v", c.Keys)
			}
			return storagetest.Outcome{}
		})
		j := open(t, way, s)
		for range 2500 {
			write(t, j, "x")
		}
		pos := saved(t, j, s)
		expect := func(want string) {
			t.Helper()
			if got := fmt.Sprint(keys); got != want {
				t.Errorf("keys in each Delete: %v, want %v", got, want)
			}
			keys = nil
		}
		expect("[]")
		truncate(t, j, Position{}, Position{1, 1200})
		expect("[1000 200]")
		truncate(t, j, Position{}, Position{1, 1200}) // it remembers
		truncate(t, j, Position{1, 2000}, Position{1, 1500})
		expect("[]")
		truncate(t, j, Position{1, 1100}, pos)
		expect("[1000 301]")
		write(t, j, "y")
		pos = saved(t, j, s)
		expect("[1]") // the older checkpoint
		closeClean(t, j)

		s2 := &book{}
		j = open(t, disk, s2)
		j.store.bucket = way
		truncate(t, j, Position{}, pos) // the checkpoint knows what was deleted when it was made
		expect("[1]")
		truncate(t, j, pos, saved(t, j, s2))
		expect("[1 1]") // the checkpoint, and the header of epoch 2
		closeClean(t, j)
		holds(t, disk, "2/1 CHECKPOINT", "1/2502 SEAL", "1/0 TOMBSTONE", "1/2501 TOMBSTONE", "2/0 TOMBSTONE")
	})
}

// TestTruncateKeepsSeals: a place behind the SEAL of its epoch is the SEAL's.
func TestTruncateKeepsSeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		for range 3 {
			j := open(t, disk, &book{})
			write(t, j, "x")
			closeClean(t, j)
		}
		s := &book{}
		j := open(t, disk, s)
		saved(t, j, s)
		for _, before := range []Position{{1, 99}, {0, 5}, {2, 2}, {3, 1 << 60}} {
			truncate(t, j, Position{}, before)
		}
		holds(t, disk, "4/1 CHECKPOINT", "1/2 SEAL", "2/2 SEAL", "3/2 SEAL", "4/0 HEADER", "4/0 TOMBSTONE")
		closeClean(t, j)
		next := &book{}
		j = open(t, disk, next)
		next.has(t, s.got...)
		if y := j.way; y.oldest != beginning || fmt.Sprint(y.seals) != "[2 2 2 1]" {
			t.Errorf("the way: %+v", y)
		}
		saved(t, j, next)
		truncate(t, j, Position{}, Position{4, 0})
		saved(t, j, next, "y")
		closeClean(t, j)
		j = open(t, disk, next)
		if y := j.way; y.oldest != (Position{4, 0}) || fmt.Sprint(y.seals) != "[1 2]" {
			t.Errorf("the way: %+v", y)
		}
		closeClean(t, j)
	})
}

// TestSweepRivalled: with a claim above its own an owner leaves the checkpoints as
// they are, also when it cannot ask. They get a tombstone before slots go.
func TestSweepRivalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		j := open(t, way, s)
		saved(t, j, s)
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Keys[0] == claimKey(0, 2) {
				return storagetest.Outcome{Fate: storagetest.Fail}
			}
			return storagetest.Outcome{}
		})
		saved(t, j, s, "a")
		way.Plan(nil)
		if err := disk.Create(t.Context(), claimKey(0, 2), testClaim(2).encode(0)); err != nil {
			t.Fatal(err)
		}
		saved(t, j, s, "b")
		holds(t, disk, "1/1 CHECKPOINT", "1/2 CHECKPOINT", "1/3 CHECKPOINT", "1/0 HEADER", "1/1 DATA", "1/2 DATA")
		truncate(t, j, Position{}, Position{1, 2})
		holds(t, disk, "1/1 CHECKPOINT", "1/2 CHECKPOINT", "1/3 CHECKPOINT", "1/2 DATA", "1/2 TOMBSTONE")
		closeClean(t, j)
	})
}

// TestBury: what is not buried is not deleted, and what is, is buried once.
func TestBury(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		j := open(t, way, s)
		pos := saved(t, j, s, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tries := 0
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Keys[0] == tombstoneKey(0, Position{1, 0}) {
				tries++
				return storagetest.Outcome{Fate: storagetest.Late}
			}
			return storagetest.Outcome{}
		})
		if err := j.Truncate(ctx, Position{}, pos, nil); !errors.Is(err, storage.ErrUnknown) || tries < 10 {
			t.Errorf("%d tries, then %v", tries, err)
		}
		holds(t, disk, "1/2 CHECKPOINT", "1/0 HEADER", "1/1 DATA")
		way.LandOne() // now the name is taken
		way.Plan(nil)
		truncate(t, j, Position{}, pos)
		holds(t, disk, "1/2 CHECKPOINT", "1/0 TOMBSTONE")
		for range 3 {
			truncate(t, j, Position{}, saved(t, j, s, "b"))
		}
		holds(t, disk, "1/5 CHECKPOINT", "1/0 TOMBSTONE")
		closeClean(t, j)
	})
}

// TestSweepLater: a checkpoint that could not be removed is removed with the
// next, and one of an earlier owner by the next owner.
func TestSweepLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		j := open(t, way, s)
		saved(t, j, s)
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Delete {
				return storagetest.Outcome{Fate: storagetest.Fail}
			}
			return storagetest.Outcome{}
		})
		saved(t, j, s, "a")
		saved(t, j, s, "b")
		holds(t, disk, "1/1 CHECKPOINT", "1/2 CHECKPOINT", "1/3 CHECKPOINT", "1/0 HEADER", "1/1 DATA", "1/2 DATA")
		closeClean(t, j)
		j = open(t, disk, s)
		if j.Checkpointed() != (Position{1, 3}) {
			t.Error(j.Checkpointed())
		}
		saved(t, j, s)
		holds(t, disk, "2/1 CHECKPOINT", "1/0 HEADER", "1/1 DATA", "1/2 DATA", "1/3 SEAL", "2/0 HEADER")
		closeClean(t, j)
	})
}
