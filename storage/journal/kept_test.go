package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// keeping returns a keep of the given slots.
func keeping(slots ...Position) func(Position) bool {
	return func(pos Position) bool { return slices.Contains(slots, pos) }
}

func truncateBut(t *testing.T, j *Journal, before Position, kept ...Position) {
	t.Helper()
	if err := j.Truncate(t.Context(), Position{}, before, keeping(kept...)); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, j *Journal, slots ...Position) {
	t.Helper()
	if err := j.Remove(t.Context(), slots); err != nil {
		t.Error(err)
	}
}

// TestKeepAndRemove: what is kept stays, over many owners, until it is removed, and is
// part of nobody's recovery.
func TestKeepAndRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := open(t, b, s)
		pos := saved(t, j, s, "a", "b", "c", "d", "e")
		truncateBut(t, j, pos, Position{1, 2}, Position{1, 4}, Position{1, 0}) // a header is never kept
		holds(t, b, "1/6 CHECKPOINT", "1/2 DATA", "1/4 DATA", "1/0 TOMBSTONE")
		write(t, j, "f")
		closeClean(t, j)

		j = open(t, b, s)
		if y := j.way; s.restored != 1 || y.oldest != beginning {
			t.Errorf("restored %d times, the way %+v", s.restored, y)
		}
		pos = saved(t, j, s, "g")
		truncateBut(t, j, pos, Position{1, 2}, Position{1, 4}, Position{2, 1})
		saved(t, j, s)
		pos = saved(t, j, s, "h")
		kept := []string{"1/2 DATA", "1/4 DATA", "1/7 SEAL", "2/1 DATA"}
		holds(t, b, append(append([]string{pos.String() + " CHECKPOINT"}, kept...), "2/2 DATA", "1/0 TOMBSTONE", "2/0 TOMBSTONE")...)
		truncateBut(t, j, pos, Position{1, 2}, Position{1, 4}, Position{2, 1})
		closeClean(t, j)

		j = open(t, b, s) // whose checkpoint knows of nothing before 2/0
		if y := j.way; y.oldest.Epoch != 2 {
			t.Errorf("the way: %+v", y)
		}
		remove(t, j, Position{1, 2}, Position{2, 1}, Position{1, 3})
		remove(t, j, Position{1, 2})
		remove(t, j)
		saved(t, j, s)
		closeClean(t, j)
		if keys, err := b.List(t.Context(), "0000/log/", "", 100); err != nil || len(keys) != 4 || !strings.HasSuffix(keys[0], "4") {
			t.Errorf("left are %q, %v", keys, err)
		}
		reader := &book{}
		if end, err := Replay(t.Context(), Options{Bucket: b}, reader); err != nil || !slices.Equal(reader.got, s.got) {
			t.Errorf("replayed %v to %v, %v, not %v", reader.got, end, err, s.got)
		}
	})
}

// TestRemoveRefuses: nothing at or behind the newest checkpoint, and no SEAL, is deleted,
// nor anything else that was asked for together with it.
func TestRemoveRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := open(t, b, s)
		write(t, j, "a")
		synctest.Wait()
		if err := j.Remove(t.Context(), []Position{{1, 1}}); !errors.Is(err, ErrPosition) {
			t.Errorf("removed without a checkpoint: %v", err)
		}
		closeClean(t, j)
		way := storagetest.NewFaults(b, 1)
		j = open(t, way, s)
		pos := saved(t, j, s, "b")
		write(t, j, "c")
		synctest.Wait()
		calls := way.Calls()
		for _, bad := range []Position{pos, {2, 3}, {3, 1}, {1, 2}, {1, 9}} {
			if err := j.Remove(t.Context(), []Position{{1, 1}, bad}); !errors.Is(err, ErrPosition) || !strings.Contains(err.Error(), bad.String()) {
				t.Errorf("remove %v: %v", bad, err)
			}
		}
		if n := way.Calls() - calls; n != 0 || j.Err() != nil {
			t.Errorf("%d calls; %v", n, j.Err())
		}
		j.Close()
		if err := j.Remove(t.Context(), []Position{{1, 1}}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// TestRemoveLeavesSeals: of an epoch that is older than all that it knows, an owner
// looks at what it deletes. A claimant that was late may have found a removed slot
// missing.
func TestRemoveLeavesSeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := open(t, b, s)
		write(t, j, "a", "b", "c")
		closeClean(t, j)
		j = open(t, b, s)
		truncateBut(t, j, saved(t, j, s), Position{1, 1})
		saved(t, j, s, "d")
		closeClean(t, j)
		j = open(t, b, s)
		late := sealObject(0, testClaim(2), Position{1, 3})
		replace(t, b, SlotKey(0, Position{1, 3}), late.encode())
		for range 2 {
			remove(t, j, Position{1, 1}, Position{1, 2}, Position{1, 3}, Position{1, 0})
		}
		closeClean(t, j)
		keys, err := b.List(t.Context(), epochPrefix(0, 1), "", 100)
		if err != nil || len(keys) != 2 { // 1/2 was the epoch's SEAL
			t.Errorf("of epoch 1 are left %q, %v", keys, err)
		}
		for _, key := range keys {
			if o, err := decode(read(t, b, key)); err != nil || o.typ != typeSeal {
				t.Errorf("%s: %v, %v", key, o.typ, err)
			}
		}
	})
}

// TestRemoveBuries: before a slot goes that no Truncate has taken, the checkpoints that
// a Replay may have started from have a tombstone.
func TestRemoveBuries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		way := storagetest.NewFaults(b, 1)
		j := open(t, way, s)
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Delete {
				return storagetest.Outcome{Fate: storagetest.Fail} // the older checkpoint stays
			}
			return storagetest.Outcome{}
		})
		saved(t, j, s, "a")
		saved(t, j, s, "b")
		var calls []string
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			o := storagetest.Outcome{}
			if strings.Contains(c.Keys[0], "/checkpoint/") && c.Verb == storagetest.Delete {
				o.Fate = storagetest.Fail
			}
			calls = append(calls, fmt.Sprint(c.Verb, " ", strings.Split(c.Keys[0], "/")[1]))
			return o
		})
		remove(t, j, Position{1, 1})
		if want := []string{"get epoch", "delete checkpoint", "create tombstone", "delete log"}; !slices.Equal(calls, want) {
			t.Errorf("calls %q, want %q", calls, want)
		}
		holds(t, b, "1/2 CHECKPOINT", "1/3 CHECKPOINT", "1/0 HEADER", "1/2 DATA", "1/2 TOMBSTONE")
		closeClean(t, j)
	})
}

// readSlot returns the entries of a slot.
func readSlot(ctx context.Context, b storage.Bucket, shard uint32, pos Position) ([]Entry, error) {
	raw, err := b.Get(ctx, SlotKey(shard, pos), 0, -1)
	if err != nil {
		return nil, err
	}
	o, err := decode(raw)
	if err == nil && (o.typ != typeData || o.shard != shard || o.pos != pos) {
		err = ErrCorrupt
	}
	return o.entries, err
}

// TestKeptSlotsHarmed: whatever becomes of kept slots, and of those that were removed,
// the log before and behind them is the same to an owner and to a reader.
func TestKeptSlotsHarmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		var kept []Position
		for epoch := uint64(1); epoch <= 3; epoch++ {
			j := open(t, b, s)
			pos := saved(t, j, s, "a", "b", "c", "d")
			kept = append(kept, Position{epoch, 1}, Position{epoch, 3})
			truncateBut(t, j, pos, kept...)
			if epoch == 2 {
				remove(t, j, Position{1, 3})
			}
			write(t, j, "e")
			closeClean(t, j)
		}
		all := objects(t, b)
		removed := dataObject(0, testClaim(1), 3, entries("c"))
		for _, pos := range kept {
			key := SlotKey(0, pos)
			for _, what := range []string{"deleted", "emptied", "cut", "flipped", "late"} {
				if all[key] == nil != (what == "late") {
					continue
				}
				c := mem.New()
				for k, body := range all {
					if k != key {
						replace(t, c, k, body)
					}
				}
				if h := (harm{key, what}); what != "late" {
					replace(t, c, key, h.do(all[key]))
				} else {
					replace(t, c, key, removed.encode())
				}
				reader, owner := &book{}, &book{}
				_, err := Replay(t.Context(), Options{Bucket: c}, reader)
				j := open(t, c, owner)
				closeClean(t, j)
				if err != nil || !slices.Equal(reader.got, s.got) || !slices.Equal(owner.got, s.got) {
					t.Errorf("%v %s: the reader has %v, %v, the owner %v", pos, what, reader.got, err, owner.got)
				}
				if _, err := readSlot(t.Context(), c, 0, pos); (err == nil) != (what == "late") {
					t.Errorf("%v %s: %v", pos, what, err)
				}
			}
		}
	})
}

// TestRepairPassesKeptSlots: a repair that starts at an older checkpoint comes to slots
// of which some were kept. It applies what is there, and tells what is not.
func TestRepairPassesKeptSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j, err := Open(t.Context(), Options{Bucket: b, Level: 2}, s)
		if err != nil {
			t.Fatal(err)
		}
		first := saved(t, j, s, "a")
		older := read(t, b, checkpointKey(0, first))
		newest := saved(t, j, s, "b", "c", "d")
		truncateBut(t, j, newest, Position{1, 1}, Position{1, 3})
		write(t, j, "e")
		closeClean(t, j)
		replace(t, b, checkpointKey(0, first), older)
		replace(t, b, checkpointKey(0, newest), []byte("damaged"))
		if _, err := Open(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("an owner without its newest checkpoint: %v", err)
		}
		var lost []error
		fixed := &book{}
		j, err = Open(t.Context(), Options{Bucket: b, Level: 2, Lost: func(err error) { lost = append(lost, err) }}, fixed)
		if err != nil {
			t.Fatal(err)
		}
		fixed.has(t, "1/1:a", "1/3:c", "1/5:e")
		if len(lost) < 3 || !errors.Is(lost[1], storage.ErrMissing) {
			t.Errorf("told was %v", lost)
		}
		saved(t, j, fixed)
		closeClean(t, j)
		again := &book{}
		closeClean(t, open(t, b, again))
		again.has(t, fixed.got...)
	})
}

// TestTruncateAgain: a Truncate that was given up may be made again; nothing that it
// keeps is deleted by either.
func TestTruncateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		way := storagetest.NewFaults(b, 1)
		j := open(t, way, s)
		pos := saved(t, j, s, "a", "b", "c")
		ctx, cancel := context.WithCancel(t.Context())
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb != storagetest.Delete {
				return storagetest.Outcome{}
			}
			cancel()
			return storagetest.Outcome{Fate: storagetest.Applied}
		})
		if err := j.Truncate(ctx, Position{}, pos, keeping(Position{1, 2})); err == nil {
			t.Error("it was given up, and says that the slots are gone")
		}
		way.Plan(nil)
		truncateBut(t, j, pos, Position{1, 2})
		holds(t, b, "1/4 CHECKPOINT", "1/2 DATA", "1/0 TOMBSTONE")
		closeClean(t, j)
	})
}
