package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// saved writes bodies, a slot each, and makes a checkpoint behind them. It works
// in a synctest bubble only.
func saved(t *testing.T, j *Journal, s *book, bodies ...string) Position {
	t.Helper()
	for _, body := range bodies {
		write(t, j, body)
	}
	synctest.Wait()
	pos := Position{j.Epoch(), j.next}
	if err := j.Checkpoint(t.Context(), pos, s.saved()); err != nil {
		t.Fatal(err)
	}
	if j.Checkpointed() != pos {
		t.Errorf("newest checkpoint %v, want %v", j.Checkpointed(), pos)
	}
	return pos
}

func truncate(t *testing.T, j *Journal, from, before Position) {
	t.Helper()
	if err := j.Truncate(t.Context(), from, before, nil); err != nil {
		t.Error(err)
	}
}

// holds compares what is in shard 0 with names like "log 1/3 SEAL".
func holds(t *testing.T, b storage.Bucket, want ...string) {
	t.Helper()
	keys, err := b.List(t.Context(), "", "", 10000)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, key := range keys {
		o, err := decode(read(t, b, key))
		if err != nil {
			t.Fatal(err)
		}
		if o.typ != typeClaim {
			got = append(got, fmt.Sprintf("%v %v", o.pos, o.typ))
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the bucket holds %v, want %v", got, want)
	}
}

func TestCheckpointAndTruncate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first := mem.New(), &book{}
		j := open(t, b, first)
		if !j.Checkpointed().IsZero() {
			t.Error(j.Checkpointed())
		}
		pos := saved(t, j, first, "a", "b")
		write(t, j, "c")
		synctest.Wait()
		truncate(t, j, Position{}, pos)
		closeClean(t, j)
		holds(t, b, "1/3 CHECKPOINT", "1/3 DATA", "1/0 TOMBSTONE")

		second := &book{}
		j = open(t, b, second)
		second.has(t, "1/1:a", "1/2:b", "1/3:c")
		if second.restored != 1 || j.Checkpointed() != pos {
			t.Errorf("restored %d times, newest checkpoint %v", second.restored, j.Checkpointed())
		}
		holds(t, b, "1/3 CHECKPOINT", "1/3 DATA", "1/4 SEAL", "2/0 HEADER", "1/0 TOMBSTONE")

		// Nothing is applied in this epoch yet.
		truncate(t, j, pos, saved(t, j, second))
		holds(t, b, "2/1 CHECKPOINT", "1/4 SEAL", "1/0 TOMBSTONE", "2/0 TOMBSTONE")
		truncate(t, j, Position{}, saved(t, j, second, "d"))
		write(t, j, "e")
		closeClean(t, j)
		holds(t, b, "2/2 CHECKPOINT", "1/4 SEAL", "2/2 DATA", "1/0 TOMBSTONE", "2/0 TOMBSTONE")

		reader := &book{}
		end, err := Replay(t.Context(), Options{Bucket: b}, reader)
		if err != nil || end != (Position{2, 3}) {
			t.Errorf("replayed up to %v, %v", end, err)
		}
		reader.has(t, "1/1:a", "1/2:b", "1/3:c", "2/1:d", "2/2:e")
		third := &book{}
		closeClean(t, open(t, b, third))
		third.has(t, reader.got...)
	})
}

// TestRecoveryCost: what lies before the checkpoint costs nothing, deleted or
// not: one List of claims, two of checkpoints (for a reader one), one of tombstones,
// a Get of the checkpoint (a reader looks again whether it is there) and those of the
// slots behind it. That nothing is missing is seen from a List of the slots of later
// epochs, and at the hole from one of closings and one of what lies behind it.
func TestRecoveryCost(t *testing.T) {
	cost := func(t *testing.T, below int, deleted bool) (calls map[string]int) {
		synctest.Test(t, func(t *testing.T) {
			b := mem.New()
			for epoch := range 3 {
				s := &book{}
				j := open(t, b, s)
				for k := range below {
					write(t, j, fmt.Sprint(epoch, k))
				}
				if epoch == 2 {
					pos := saved(t, j, s)
					if deleted {
						truncate(t, j, Position{}, pos)
					}
					write(t, j, "behind")
				}
				closeClean(t, j)
			}
			calls = map[string]int{}
			way := storagetest.NewFaults(b, 1)
			var mu sync.Mutex // some of the calls run at once
			count := func(who string) {
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					mu.Lock()
					defer mu.Unlock()
					calls[fmt.Sprint(who, " ", c.Verb, " ", strings.Split(c.Keys[0], "/")[1])]++
					return storagetest.Outcome{}
				})
			}
			count("owner")
			s := &book{}
			j, err := Open(t.Context(), Options{Bucket: way, Window: 1}, s)
			if err != nil {
				t.Fatal(err)
			}
			closeClean(t, j)
			if len(s.got) != 3*below+1 || s.restored != 1 {
				t.Errorf("%d slots are applied of %d", len(s.got), 3*below+1)
			}
			count("reader")
			if _, err := Replay(t.Context(), Options{Bucket: way, Window: 1}, &book{}); err != nil {
				t.Error(err)
			}
		})
		return calls
	}
	want := map[string]int{
		"owner list tombstone": 1, "owner list closed": 1, "owner list log": 2,
		"reader list closed": 1, "reader list log": 2,
		"owner list epoch": 1, "owner create epoch": 1, "owner list checkpoint": 2, "owner get checkpoint": 1,
		"owner get log": 2, "owner create log": 2, // DATA and a hole; the SEAL and the header
		"reader list epoch": 1, "reader list checkpoint": 1, "reader get checkpoint": 2, "reader list tombstone": 1,
		"reader get log": 4, // DATA, SEAL, header, a hole
	}
	for _, below := range []int{5, 500} {
		for _, deleted := range []bool{false, true} {
			if got := cost(t, below, deleted); !maps.Equal(got, want) {
				t.Errorf("after %d slots (deleted: %v): %v, want %v", 3*below, deleted, got, want)
			}
		}
	}
}

func TestCheckpointRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		closeClean(t, open(t, b, s))
		way := storagetest.NewFaults(b, 1)
		j := open(t, way, s)
		way.Plan(held(time.Hour, Position{2, 4}))
		for _, body := range []string{"a", "b", "c", "flying"} {
			write(t, j, body)
		}
		synctest.Wait()
		if err := j.Checkpoint(t.Context(), Position{2, 2}, nil); err != nil {
			t.Errorf("a position that is acknowledged: %v", err)
		}
		ctx := t.Context()
		calls := way.Calls()
		for _, pos := range []Position{{}, {1, 1}, {2, 0}, {2, 1}, {2, 5}, {3, 1}, {3, 2}} {
			if err := j.Checkpoint(ctx, pos, nil); !errors.Is(err, ErrPosition) {
				t.Errorf("checkpoint %v: %v", pos, err)
			}
		}
		for _, before := range []Position{{2, 3}, {3, 0}} {
			if err := j.Truncate(ctx, Position{}, before, nil); !errors.Is(err, ErrPosition) {
				t.Errorf("truncate before %v: %v", before, err)
			}
		}
		if err := j.Checkpoint(ctx, Position{2, 4}, make([]byte, MaxCheckpoint-122)); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		if err := j.Checkpoint(done, Position{2, 4}, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := j.Checkpoint(ctx, Position{2, 2}, nil); err != nil {
			t.Errorf("the newest checkpoint again: %v", err)
		}
		if n := way.Calls() - calls; n != 0 || j.Err() != nil {
			t.Errorf("%d calls; %v", n, j.Err())
		}
		j.Close()
		if err := j.Checkpoint(ctx, Position{2, 4}, nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := j.Truncate(ctx, Position{}, Position{2, 2}, nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestSlotCounts(t *testing.T) {
	l := slotCounts{low: 1, entries: []uint64{7}}
	for range maxCounts + 100 {
		l.add(2)
	}
	last := uint64(maxCounts + 101)
	for _, test := range []struct {
		slot uint64
		ok   bool
	}{{0, false}, {1, false}, {maxCounts / 2, false}, {last - maxCounts/2, true}, {last, true}, {last + 1, false}} {
		n, ok := l.before(test.slot)
		if ok != test.ok || ok && n != 7+2*(test.slot-1) {
			t.Errorf("before slot %d: %d, %v", test.slot, n, ok)
		}
	}
	l.drop(last)
	l.drop(5)
	if n, ok := l.before(last); !ok || n != 7+2*(last-1) || len(l.entries) != 1 {
		t.Errorf("%d, %v, %d positions", n, ok, len(l.entries))
	}
}

// TestCheckpointExists: what may lie under the name of a checkpoint already.
func TestCheckpointExists(t *testing.T) {
	for _, test := range []struct {
		name  string
		there func(j *Journal, own checkpoint) []byte
		want  error
		stops bool
	}{
		{"OtherBody", func(j *Journal, own checkpoint) []byte {
			own.body = []byte("another encoding")
			o := checkpointObject(0, j.claim, own)
			return o.encode()
		}, nil, false},
		{"OtherNonce", func(_ *Journal, own checkpoint) []byte {
			o := checkpointObject(0, testClaim(1), own)
			return o.encode()
		}, ErrForeign, true},
		{"OtherCount", func(j *Journal, own checkpoint) []byte {
			own.way.entries++
			o := checkpointObject(0, j.claim, own)
			return o.encode()
		}, ErrForeign, true},
		{"OtherPosition", func(j *Journal, own checkpoint) []byte {
			own.pos.Slot++
			o := checkpointObject(0, j.claim, own)
			return o.encode()
		}, ErrCorrupt, false},
		{"Torn", func(j *Journal, own checkpoint) []byte {
			o := checkpointObject(0, j.claim, own)
			return o.encode()[:100]
		}, ErrCorrupt, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, s := mem.New(), &book{}
				j := open(t, b, s)
				write(t, j, "a")
				synctest.Wait()
				pos := Position{1, 2}
				own := checkpoint{pos: pos, way: way{entries: 1, oldest: beginning}, body: s.saved()}
				replace(t, b, checkpointKey(0, pos), test.there(j, own))
				err := j.Checkpoint(t.Context(), pos, s.saved())
				if !errors.Is(err, test.want) || test.stops != (j.Err() != nil) || test.stops && !errors.Is(j.Err(), test.want) {
					t.Errorf("%v; journal: %v", err, j.Err())
				}
				if (err == nil) != (j.Checkpointed() == pos) {
					t.Errorf("newest checkpoint %v", j.Checkpointed())
				}
				if !test.stops {
					truncate(t, j, Position{}, saved(t, j, s, "b")) // the way out
				}
				j.Close()
			})
		})
	}
}

// TestCheckpointUnknown: the same bytes go out again until the outcome is known,
// and what arrives late changes nothing.
func TestCheckpointUnknown(t *testing.T) {
	for _, fate := range storagetest.Fates() {
		t.Run(fate.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk, s := mem.New(), &book{}
				way := storagetest.NewFaults(disk, 1)
				j := open(t, way, s)
				tries := map[storagetest.Verb]int{}
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					if strings.HasPrefix(c.Keys[0], "0000/log/") && c.Verb == storagetest.Create || c.Verb == storagetest.Get {
						return storagetest.Outcome{}
					}
					if tries[c.Verb]++; tries[c.Verb] <= 3 {
						return storagetest.Outcome{Fate: fate}
					}
					return storagetest.Outcome{}
				})
				pos := saved(t, j, s, "a", "b")
				if tries[storagetest.Create] < 2 {
					t.Error("not repeated")
				}
				truncate(t, j, Position{}, pos)
				if tries[storagetest.Delete] < 2 {
					t.Error("not repeated")
				}
				holds(t, disk, "1/3 CHECKPOINT", "1/0 TOMBSTONE")
				newer := saved(t, j, s, "c")
				truncate(t, j, pos, newer)
				if fate == storagetest.Fail {
					holds(t, disk, "1/4 CHECKPOINT", "1/0 TOMBSTONE")
				} else { // 1/3 may appear once more
					holds(t, disk, "1/4 CHECKPOINT", "1/0 TOMBSTONE", "1/3 TOMBSTONE")
				}
				way.Land()
				closeClean(t, j)
				next := &book{}
				closeClean(t, open(t, disk, next))
				next.has(t, "1/1:a", "1/2:b", "1/3:c")
			})
		})
	}
}

// TestCheckpointGivenUp: a call whose outcome is open leaves something that the
// next checkpoint removes, wherever it lands.
func TestCheckpointGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		j := open(t, way, s)
		write(t, j, "a")
		synctest.Wait()
		way.Plan(storagetest.Nth(way.Calls()+1, storagetest.Outcome{Before: time.Hour}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := j.Checkpoint(ctx, Position{1, 2}, s.saved())
		if !errors.Is(err, context.DeadlineExceeded) || !j.Checkpointed().IsZero() || j.Err() != nil {
			t.Errorf("%v; checkpoint %v; %v", err, j.Checkpointed(), j.Err())
		}
		way.Land()
		holds(t, disk, "1/2 CHECKPOINT", "1/0 HEADER", "1/1 DATA")
		saved(t, j, s, "b")
		holds(t, disk, "1/3 CHECKPOINT", "1/0 HEADER", "1/1 DATA", "1/2 DATA")
		closeClean(t, j)
	})
}

// TestCheckpointOfFenced: an owner that was fenced and has not noticed makes a
// checkpoint and deletes what lies before it. Nobody is harmed.
func TestCheckpointOfFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s1, s2 := mem.New(), &book{}, &book{}
		j1 := open(t, disk, s1)
		write(t, j1, "a")
		write(t, j1, "b")
		synctest.Wait()
		j2 := open(t, disk, s2)
		write(t, j2, "c")
		synctest.Wait()
		truncate(t, j1, Position{}, saved(t, j1, s1))
		holds(t, disk, "1/3 CHECKPOINT", "1/3 SEAL", "2/0 HEADER", "2/1 DATA", "1/0 TOMBSTONE")
		s3 := &book{}
		j3 := open(t, disk, s3)
		s3.has(t, "1/1:a", "1/2:b", "2/1:c")
		truncate(t, j3, Position{}, saved(t, j3, s3))
		holds(t, disk, "3/1 CHECKPOINT", "1/3 SEAL", "2/2 SEAL", "1/0 TOMBSTONE", "3/0 TOMBSTONE")
		if err := j1.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		for _, err := range []error{
			j1.Checkpoint(t.Context(), Position{1, 3}, nil),
			j1.Truncate(t.Context(), Position{}, Position{1, 1}, nil),
			j1.Close(),
			j2.Confirm(t.Context()),
			j2.Close(),
		} {
			if !errors.Is(err, ErrFenced) {
				t.Error(err)
			}
		}
		closeClean(t, j3)
	})
}

// TestCheckpointVanishes: what this owner met and cannot find again was removed
// by a successor.
func TestCheckpointVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := open(t, b, s)
		write(t, j, "a")
		synctest.Wait()
		j.store.bucket = gone{b}
		if err := j.Checkpoint(t.Context(), Position{1, 2}, nil); !errors.Is(err, ErrFenced) || !errors.Is(j.Err(), ErrFenced) {
			t.Errorf("%v; %v", err, j.Err())
		}
		j.Close()
	})
}

// TestCloseEndsUpkeep: Close does not wait for a checkpoint, and nothing of it
// goes on afterwards.
func TestCloseEndsUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := storagetest.NewFaults(mem.New(), 1)
		s := &book{}
		j := open(t, way, s)
		pos := saved(t, j, s, "a")
		write(t, j, "b")
		synctest.Wait()
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: time.Hour} })
		errs := make(chan error, 2)
		go func() { errs <- j.Checkpoint(t.Context(), Position{1, 3}, nil) }()
		go func() { errs <- j.Truncate(t.Context(), Position{}, pos, nil) }()
		synctest.Wait()
		start := time.Now()
		closeClean(t, j)
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	})
}

// TestLargeCheckpoint: a checkpoint may be larger than a slot, and is read in
// ranges then.
func TestLargeCheckpoint(t *testing.T) {
	for _, size := range []int{MaxSlot - 122, MaxSlot - 121, 2*MaxSlot + 5} {
		synctest.Test(t, func(t *testing.T) {
			disk := mem.New()
			j := open(t, disk, &book{})
			body := bytes.Repeat([]byte("weir\n"), size/5+1)[:size]
			if err := j.Checkpoint(t.Context(), Position{1, 1}, body); err != nil {
				t.Fatal(err)
			}
			closeClean(t, j)
			got := &keeper{}
			closeClean(t, open(t, disk, got))
			if !bytes.Equal(got.body, body) {
				t.Errorf("%d bytes came back of %d, or other ones", len(got.body), len(body))
			}
		})
	}
}

// keeper is a State that has only what was restored.
type keeper struct{ body []byte }

func (*keeper) Apply(Position, []Entry) error           { return nil }
func (k *keeper) Restore(_ Position, body []byte) error { k.body = body; return nil }
