package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// book is a State that remembers, and fails on demand.
type book struct {
	mu       sync.Mutex
	got      []string // guarded by mu; "epoch/slot:body,body"
	restored int      // guarded by mu; calls of Restore
	fail     error    // guarded by mu
}

func (b *book) Apply(pos Position, entries []Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	var bodies []string
	for _, e := range entries {
		bodies = append(bodies, string(e.Body))
	}
	b.got = append(b.got, pos.String()+":"+strings.Join(bodies, ","))
	return nil
}

// Restore takes what saved gave.
func (b *book) Restore(_ Position, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.restored++
	b.got = nil
	if len(body) > 0 {
		b.got = strings.Split(string(body), "\n")
	}
	return b.fail
}

// saved returns the state as the body of a checkpoint.
func (b *book) saved() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte(strings.Join(b.got, "\n"))
}

func (b *book) has(t *testing.T, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.got, want) {
		t.Errorf("applied %v, want %v", b.got, want)
	}
}

func open(t *testing.T, b storage.Bucket, s State) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{Bucket: b, Node: "n", Depth: 3, Window: 3}, s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func write(t *testing.T, j *Journal, bodies ...string) Position {
	t.Helper()
	pos, err := j.Write(entries(bodies...))
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func entries(bodies ...string) []Entry {
	var list []Entry
	for i, b := range bodies {
		list = append(list, Entry{Kind: uint16(i), Body: []byte(b)})
	}
	return list
}

func closeClean(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// held is a plan that holds every Create of the named slots of shard 0 for a
// long time.
func held(d time.Duration, slots ...Position) storagetest.Plan {
	return func(c storagetest.Call) storagetest.Outcome {
		for _, p := range slots {
			if c.Verb == storagetest.Create && c.Keys[0] == SlotKey(0, p) {
				return storagetest.Outcome{Before: d}
			}
		}
		return storagetest.Outcome{}
	}
}

func TestWriteAndRecover(t *testing.T) {
	b, first := mem.New(), &book{}
	ctx := t.Context()
	if _, found, err := NewestClaim(ctx, b, 0); found || err != nil {
		t.Errorf("claim of an empty bucket: %v, %v", found, err)
	}
	if end, err := Replay(ctx, Options{Bucket: b}, first); !end.IsZero() || err != nil {
		t.Errorf("replay of an empty bucket: %v, %v", end, err)
	}

	j, err := Open(ctx, Options{Bucket: b, Node: "north", Info: []byte("addr")}, first)
	if err != nil {
		t.Fatal(err)
	}
	write(t, j, "a", "b")
	write(t, j)
	if pos := write(t, j, "c"); pos != (Position{1, 3}) {
		t.Errorf("third slot is %v", pos)
	}
	if err := j.Confirm(ctx); err != nil {
		t.Error(err)
	}
	closeClean(t, j)
	first.has(t, "1/1:a,b", "1/2:", "1/3:c")
	if c, found, err := NewestClaim(ctx, b, 0); !found || err != nil || c.Epoch != 1 || c.Node != "north" || string(c.Info) != "addr" {
		t.Errorf("claim %+v, %v, %v", c, found, err)
	}

	second := &book{}
	j = open(t, b, second)
	second.has(t, first.got...)
	write(t, j, "d")
	closeClean(t, j)
	all := append(slices.Clone(first.got), "2/1:d")
	second.has(t, all...)

	reader := &book{}
	end, err := Replay(ctx, Options{Bucket: b}, reader)
	if err != nil || end != (Position{2, 2}) {
		t.Errorf("replayed up to %v, %v", end, err)
	}
	reader.has(t, all...)
}

func TestEntryOffsets(t *testing.T) {
	b := mem.New()
	list := entries("first", "", "third")
	j := open(t, b, &book{})
	pos, err := j.Write(list)
	if err != nil {
		t.Fatal(err)
	}
	closeClean(t, j)
	for _, e := range list {
		body, err := b.Get(t.Context(), SlotKey(0, pos), e.At, int64(len(e.Body)))
		if err != nil || !bytes.Equal(body, e.Body) {
			t.Errorf("%q lies at %d: %q, %v", e.Body, e.At, body, err)
		}
	}
}

func TestAckInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := storagetest.NewFaults(mem.New(), 1), &book{}
		j := open(t, b, s)
		b.Plan(held(5*time.Second, Position{1, 1}))
		write(t, j, "a")
		write(t, j, "b")
		write(t, j, "c")
		go j.Write(entries("d")) // Depth is 3
		synctest.Wait()
		s.has(t)
		if n := j.InFlight(); n != 3 {
			t.Errorf("%d slots fly", n)
		}
		time.Sleep(6 * time.Second)
		s.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d")
		if n := j.InFlight(); n != 0 {
			t.Errorf("%d slots fly", n)
		}
		closeClean(t, j)
	})
}

func TestWriteRefused(t *testing.T) {
	j := open(t, mem.New(), &book{})
	if _, err := j.Write(entries(strings.Repeat("x", MaxSlot))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if pos := write(t, j, "a"); pos.Slot != 1 {
		t.Errorf("a refused Write took a slot: %v", pos)
	}
	closeClean(t, j)
	if _, err := j.Write(nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := j.Confirm(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if <-j.Done(); !errors.Is(j.Err(), ErrClosed) {
		t.Error(j.Err())
	}
	closeClean(t, j)
}

func TestApplyErrorPoisons(t *testing.T) {
	b, s := mem.New(), &book{}
	j := open(t, b, s)
	broken := errors.New("broken state")
	s.fail = broken
	write(t, j, "a")
	<-j.Done()
	if !errors.Is(j.Err(), broken) {
		t.Error(j.Err())
	}
	if _, err := j.Write(nil); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := j.Close(); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Options{Bucket: b}, s); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestTakeover: the first owner sleeps with slots in flight while the second
// one takes over. It can never acknowledge anything again.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s1, s2 := mem.New(), &book{}, &book{}
		way := storagetest.NewFaults(disk, 1)
		j1 := open(t, way, s1)
		write(t, j1, "a")
		synctest.Wait()
		way.Plan(held(30*time.Second, Position{1, 2}))
		write(t, j1, "hole")
		write(t, j1, "behind") // durable, and behind the hole
		synctest.Wait()

		j2 := open(t, disk, s2)
		s2.has(t, "1/1:a")
		write(t, j2, "b")
		synctest.Wait()
		s2.has(t, "1/1:a", "2/1:b")

		<-j1.Done()
		if !errors.Is(j1.Err(), ErrFenced) {
			t.Error(j1.Err())
		}
		if _, err := j1.Write(nil); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if err := j1.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if err := j1.Close(); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		s1.has(t, "1/1:a")
		closeClean(t, j2)
		s3 := &book{}
		closeClean(t, open(t, disk, s3))
		s3.has(t, s2.got...)
	})
}

// TestTakeoverAppliesFlying: what became durable in time belongs to the log,
// acknowledged or not.
func TestTakeoverAppliesFlying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s1, s2 := mem.New(), &book{}, &book{}
		way := storagetest.NewFaults(disk, 1)
		j1 := open(t, way, s1)
		way.Plan(func(storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{After: 20 * time.Second}
		})
		write(t, j1, "a")
		synctest.Wait()
		j2 := open(t, disk, s2)
		s2.has(t, "1/1:a")
		time.Sleep(time.Minute)
		s1.has(t, "1/1:a") // late, and right: it is in the log
		if err := j1.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if err := j1.Close(); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		closeClean(t, j2)
	})
}

// TestTakeoverDuringTakeover: a claimant that sleeps at any step loses to a
// higher one, and never becomes owner.
func TestTakeoverDuringTakeover(t *testing.T) {
	for _, test := range []struct {
		name, prefix string
		verb         storagetest.Verb
	}{
		{"ListCheckpoints", checkpointPrefix(0), storagetest.List},
		{"Walk", SlotKey(0, Position{1, 0}), storagetest.Get},
		{"Seal", SlotKey(0, Position{1, 2}), storagetest.Create},
		{"Header", SlotKey(0, Position{2, 0}), storagetest.Create},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := mem.New()
				j1 := open(t, disk, &book{})
				write(t, j1, "a")
				closeClean(t, j1)

				way := storagetest.NewFaults(disk, 1)
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					if c.Verb == test.verb && strings.HasPrefix(c.Keys[0], test.prefix) {
						return storagetest.Outcome{Before: 20 * time.Second}
					}
					return storagetest.Outcome{}
				})
				lost := make(chan error)
				go func() {
					_, err := Open(t.Context(), Options{Bucket: way}, &book{})
					lost <- err
				}()
				synctest.Wait()
				s3 := &book{}
				j3 := open(t, disk, s3)
				write(t, j3, "c")
				if err := <-lost; !errors.Is(err, ErrFenced) {
					t.Error(err)
				}
				closeClean(t, j3)
				if j3.Epoch() != 3 {
					t.Errorf("epoch %d", j3.Epoch())
				}
				s3.has(t, "1/1:a", "3/1:c")
			})
		})
	}
}

// TestTakeoverOfBusyOwner: a claimant runs after an owner that writes without a
// pause, until the owner confirms itself.
func TestTakeoverOfBusyOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		slow := func() *storagetest.Faults {
			way := storagetest.NewFaults(disk, 1)
			way.Random(storagetest.Odds{Before: 10 * time.Millisecond, After: 10 * time.Millisecond})
			return way
		}
		s1, s2 := &book{}, &book{}
		j1 := open(t, slow(), s1)
		go func() {
			for k := 0; ; k++ {
				if _, err := j1.Write(entries(fmt.Sprint(k))); err != nil {
					return
				}
			}
		}()
		go func() {
			for j1.Confirm(t.Context()) == nil {
				time.Sleep(5 * time.Second)
			}
		}()
		time.Sleep(time.Second)
		start := time.Now()
		j2 := open(t, slow(), s2)
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("takeover took %v", took)
		}
		if err := j1.Close(); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if len(s1.got) < 50 || !slices.Equal(s1.got, s2.got[:len(s1.got)]) {
			t.Errorf("acknowledged %d, recovered %d, or other ones", len(s1.got), len(s2.got))
		}
		closeClean(t, j2)
	})
}

func TestClaimLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		way := storagetest.NewFaults(disk, 1)
		way.Plan(func(c storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Second}
		})
		lost := make(chan error)
		go func() {
			_, err := Open(t.Context(), Options{Bucket: way, Node: "n"}, &book{})
			lost <- err
		}()
		time.Sleep(2500 * time.Millisecond) // it has listed claims and slots, and not yet claimed
		j := open(t, disk, &book{})         // the same node's name
		if err := <-lost; !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		closeClean(t, j)
	})
}

// TestEpochTaken: of two that mean to replace one owner the second does nothing.
func TestEpochTaken(t *testing.T) {
	b := mem.New()
	closeClean(t, open(t, b, &book{}))
	first, err := Open(t.Context(), Options{Bucket: b, Epoch: 2}, &book{})
	if err != nil || first.Epoch() != 2 {
		t.Fatal(err)
	}
	before := objects(t, b)
	if _, err := Open(t.Context(), Options{Bucket: b, Epoch: 2}, &book{}); !errors.Is(err, ErrFenced) {
		t.Errorf("epoch 2 is claimed: %v", err)
	}
	if !maps.EqualFunc(objects(t, b), before, bytes.Equal) {
		t.Error("it has changed the bucket")
	}
	write(t, first, "mine")
	closeClean(t, first)
}

func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, s := mem.New(), &book{}
		way := storagetest.NewFaults(disk, 1)
		j := open(t, way, s)
		way.Plan(held(time.Hour, Position{1, 2}))
		write(t, j, "a")
		write(t, j, "b")
		write(t, j, "c")
		write(t, j, "d")
		blocked := make(chan error)
		go func() { _, err := j.Write(nil); blocked <- err }()
		synctest.Wait()
		start := time.Now()
		go func() {
			if err := <-blocked; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}()
		if err := j.Close(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if took := time.Since(start); took != closeTimeout {
			t.Errorf("Close took %v", took)
		}
		way.Land()
		time.Sleep(time.Hour)
		s.has(t, "1/1:a")
		next := &book{}
		closeClean(t, open(t, disk, next))
		next.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d")
	})
}

func TestCloseWaitsForFlying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way, s := storagetest.NewFaults(mem.New(), 1), &book{}
		j := open(t, way, s)
		way.Plan(held(9*time.Second, Position{1, 1}))
		write(t, j, "a")
		write(t, j, "b")
		closeClean(t, j)
		s.has(t, "1/1:a", "1/2:b")
	})
}

func TestConfirm(t *testing.T) {
	disk := mem.New()
	way := storagetest.NewFaults(disk, 1)
	j := open(t, way, &book{})
	way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
	if err := j.Confirm(t.Context()); !errors.Is(err, storagetest.ErrInjected) || j.Err() != nil {
		t.Errorf("%v; %v", err, j.Err())
	}
	way.Plan(nil)
	if err := disk.Create(t.Context(), claimKey(0, 2), []byte("not even a claim")); err != nil {
		t.Fatal(err)
	}
	if err := j.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
		t.Error(err)
	}
	if <-j.Done(); !errors.Is(j.Err(), ErrFenced) {
		t.Error(j.Err())
	}
	j.Close()
}

func TestOptions(t *testing.T) {
	b := mem.New()
	for _, o := range []Options{
		{},
		{Bucket: b, Shard: MaxShard + 1},
		{Bucket: b, Node: strings.Repeat("n", MaxNode+1)},
		{Bucket: b, Info: make([]byte, MaxInfo+1)},
		{Bucket: b, Depth: -1},
		{Bucket: b, Window: -1},
	} {
		if _, err := Open(t.Context(), o, &book{}); err == nil {
			t.Errorf("%+v is accepted", o)
		}
		if _, err := Replay(t.Context(), o, &book{}); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if keys, _ := b.List(t.Context(), "", "", 1); len(keys) > 0 {
		t.Errorf("left behind %v", keys)
	}
}

func TestOpenWaitsForBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := storagetest.NewFaults(mem.New(), 1)
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := Open(ctx, Options{Bucket: way}, &book{})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, storagetest.ErrInjected) {
			t.Error(err)
		}
		if n := way.Calls(); n < 12 || n > 30 {
			t.Errorf("%d calls in a minute", n)
		}
		time.AfterFunc(time.Minute, func() { way.Plan(nil) })
		closeClean(t, open(t, way, &book{}))
	})
}

// forbidden is a bucket that a person has to repair.
type forbidden struct{ storage.Bucket }

func (f forbidden) Create(context.Context, string, []byte) error {
	return fmt.Errorf("create: %w", fs.ErrPermission)
}

func TestOpenForbidden(t *testing.T) {
	_, err := Open(t.Context(), Options{Bucket: forbidden{mem.New()}}, &book{})
	if !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}
