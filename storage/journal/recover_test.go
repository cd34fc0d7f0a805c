package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestCheckpointUnderWalk: at every one or two calls of a recovery, or of a
// replay, the owner of epoch 2 makes a checkpoint, deletes everything before it
// and writes on. Whoever began before that must find out, and come to the end
// that everybody else comes to.
func TestCheckpointUnderWalk(t *testing.T) {
	seals := 0
	play := func(t *testing.T, owner, torn bool, first, second int) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			disk, s1, s2 := mem.New(), &book{}, &book{}
			tears := &tearing{Bucket: disk}
			j1 := open(t, disk, s1)
			write(t, j1, "a")
			write(t, j1, "b")
			closeClean(t, j1)
			j2 := open(t, disk, s2)
			write(t, j2, "c")
			write(t, j2, "d")
			synctest.Wait()

			way, s := storagetest.NewFaults(tears, 1), &book{}
			turn := make(chan struct{}, 1) // some calls are made at once
			way.Plan(func(c storagetest.Call) storagetest.Outcome {
				turn <- struct{}{}
				defer func() { <-turn }()
				switch {
				case c.N != first && c.N != second:
				case torn && c.Verb == storagetest.List:
					tears.set(func() {
						turn <- struct{}{}
						defer func() { <-turn }()
						upkeep(t, j2, s2, c.N)
					})
				default:
					upkeep(t, j2, s2, c.N)
				}
				return storagetest.Outcome{}
			})
			o := Options{Bucket: way, Window: 1}
			if owner {
				j, err := Open(t.Context(), o, s)
				if err != nil {
					t.Errorf("at calls %d and %d: %v", first, second, err)
					return
				}
				calls = way.Calls()
				if err := j2.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
					t.Error(err)
				}
				j2.Close()
				write(t, j, "e")
				closeClean(t, j)
			} else {
				if _, err := Replay(t.Context(), o, s); err != nil {
					t.Errorf("at calls %d and %d: %v", first, second, err)
					return
				}
				calls = way.Calls()
				closeClean(t, j2)
			}
			final := &book{}
			j3 := open(t, disk, final)
			closeClean(t, j3)
			if !slices.Equal(s.got, final.got[:len(s.got)]) || owner && len(s.got) != len(final.got) {
				t.Errorf("at calls %d and %d: applied %v, the log is %v", first, second, s.got, final.got)
			}
			if acked := len(s2.got); len(final.got) < acked || !slices.Equal(s2.got, final.got[:acked]) {
				t.Errorf("at calls %d and %d: acknowledged %v, the log is %v", first, second, s2.got, final.got)
			}
			if len(s.got) < 4 {
				t.Errorf("at calls %d and %d: applied %v, and four slots were acknowledged before", first, second, s.got)
			}
			seals += stray(t, disk, j3.Checkpointed())
		})
		return calls
	}
	for _, who := range []struct {
		name        string
		owner, torn bool
	}{{"owner", true, false}, {"owner-torn", true, true}, {"reader", false, false}, {"reader-torn", false, true}} {
		runs, calls := 0, play(t, who.owner, who.torn, 0, 0)
		for first := 1; first <= calls; first++ {
			more := play(t, who.owner, who.torn, first, 0)
			for second := first + 1; second <= more; second++ {
				play(t, who.owner, who.torn, first, second)
				runs++
			}
		}
		t.Logf("%s: %d calls, %d runs", who.name, calls, runs)
	}
	if seals == 0 {
		t.Error("no recovery put a SEAL where a slot had been deleted")
	}
}

// tearing is a bucket whose List looks at the keys while they change: what is
// deleted and what is created meanwhile are both not in it. No bucket promises
// more.
type tearing struct {
	storage.Bucket
	mu        sync.Mutex
	meanwhile func() // guarded by mu
}

// set makes f happen during the next List, and returns what was to happen then.
func (b *tearing) set(f func()) (old func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, b.meanwhile = b.meanwhile, f
	return old
}

func (b *tearing) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	keys, err := b.Bucket.List(ctx, prefix, after, max)
	meanwhile := b.set(nil)
	if meanwhile == nil || err != nil {
		return keys, err
	}
	meanwhile()
	left, err := b.Bucket.List(ctx, prefix, after, max)
	return slices.DeleteFunc(keys, func(key string) bool { return !slices.Contains(left, key) }), err
}

// upkeep makes a checkpoint, deletes what lies before it and writes a slot, as
// far as an owner can that may be fenced.
func upkeep(t *testing.T, j *Journal, s *book, n int) {
	t.Helper()
	pos := Position{j.Epoch(), j.counts.low + uint64(len(j.counts.entries)) - 1}
	err := j.Checkpoint(t.Context(), pos, s.saved())
	if err == nil {
		err = j.Truncate(t.Context(), Position{}, pos, nil)
	}
	if err == nil {
		_, err = j.Write(entries(fmt.Sprint("at", n)))
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		t.Error(err)
	}
	synctest.Wait()
}

// stray counts the SEALs before the newest checkpoint that end no epoch.
func stray(t *testing.T, b storage.Bucket, saved Position) (n int) {
	for slot := range saved.Slot {
		raw, err := b.Get(t.Context(), SlotKey(0, Position{saved.Epoch, slot}), 0, -1)
		if err != nil {
			continue
		}
		if o, err := decode(raw); err == nil && o.typ == typeSeal {
			n++
		}
	}
	return n
}

// savedTwice returns a bucket with checkpoints 1/2 and 1/3 and everything else.
func savedTwice(t *testing.T) *mem.Bucket {
	t.Helper()
	b, s := mem.New(), &book{}
	way := storagetest.NewFaults(b, 1)
	j := open(t, way, s)
	saved(t, j, s, "a")
	way.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Delete {
			return storagetest.Outcome{Fate: storagetest.Fail}
		}
		return storagetest.Outcome{}
	})
	saved(t, j, s, "b")
	write(t, j, "c")
	closeClean(t, j)
	j = open(t, b, s)
	write(t, j, "d")
	closeClean(t, j)
	return b
}

// TestDamagedCheckpoint: no cut and no flipped bit of the newest checkpoint goes
// unnoticed, and nobody falls back on the older one.
func TestDamagedCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := savedTwice(t)
		key := checkpointKey(0, Position{1, 3})
		good := read(t, b, key)
		damaged := func(what string, raw []byte, asOwner bool) {
			t.Helper()
			replace(t, b, key, raw)
			s := &book{}
			_, err := Replay(t.Context(), Options{Bucket: b}, s)
			if asOwner {
				_, err = Open(t.Context(), Options{Bucket: b}, s)
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) || s.restored > 0 || len(s.got) > 0 {
				t.Errorf("%s: %v, applied %v", what, err, s.got)
			}
		}
		for i := range good {
			for bit := range 8 {
				bad := slices.Clone(good)
				bad[i] ^= 1 << bit
				damaged(fmt.Sprintf("bit %d of byte %d", bit, i), bad, i%40 == 0 && bit == 0)
			}
			damaged(fmt.Sprintf("cut to %d bytes", i), good[:i], i%40 == 0)
		}
		older := read(t, b, checkpointKey(0, Position{1, 2}))
		damaged("the older one under its name", older, true)
		replace(t, b, key, good)
		s := &book{}
		closeClean(t, open(t, b, s))
		s.has(t, "1/1:a", "1/2:b", "1/3:c", "2/1:d")
	})
}

// TestDisplacedAfterCheckpoint: what lies behind a checkpoint must fit to it.
func TestDisplacedAfterCheckpoint(t *testing.T) {
	data := dataObject(0, testClaim(1), 3, entries("c"))
	for _, test := range []struct {
		name string
		pos  Position
		body []byte
	}{
		{"OtherOwner", Position{1, 3}, data.encode()},
		{"OtherWay", Position{2, 0}, testClaim(2).header(0, way{entries: 4, start: Position{1, 2}, oldest: Position{1, 1}, seals: []uint64{4}})},
		{"OtherSeal", Position{2, 0}, testClaim(2).header(0, way{entries: 3, start: Position{1, 2}, oldest: Position{1, 1}, seals: []uint64{5}})},
		{"Missing", Position{1, 3}, nil},
		{"SealMissing", Position{1, 4}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := savedTwice(t)
				replace(t, b, SlotKey(0, test.pos), test.body)
				if _, err := Replay(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("Replay: %v", err)
				}
				if _, err := Open(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("Open: %v", err)
				}
			})
		})
	}
}

// TestCheckpointLost: checkpoints that disappear without a newer one are damage.
func TestCheckpointLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := savedTwice(t)
		key := checkpointKey(0, Position{1, 3})
		good := read(t, b, key)
		way := beforeList(b, 2, func() { replace(t, b, key, nil) })
		_, err := Open(t.Context(), Options{Bucket: way}, &book{})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) {
			t.Error(err)
		}

		// Listed, and not there: the removal is under way, so the newer one is
		// about to be listed. There is none, and the wait goes on.
		replace(t, b, key, good)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lists := storagetest.NewFaults(hidden{b, key}, 1)
		_, err = Replay(ctx, Options{Bucket: lists}, &book{})
		if !errors.Is(err, errVanished) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), key) {
			t.Error(err)
		}
		if n := lists.Calls(); n < 20 || n > 70 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}

// hidden is a bucket that lists an object and does not give it.
type hidden struct {
	storage.Bucket
	key string
}

func (h hidden) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == h.key {
		key += "x"
	}
	return h.Bucket.Get(ctx, key, off, n)
}

func TestRestoreError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, broken := savedTwice(t), errors.New("broken state")
		if _, err := Replay(t.Context(), Options{Bucket: b}, &book{fail: broken}); !errors.Is(err, broken) {
			t.Error(err)
		}
		if _, err := Open(t.Context(), Options{Bucket: b}, &book{fail: broken}); !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}
