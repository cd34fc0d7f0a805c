package storagetest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestFaultless: without a plan the contract holds.
func TestFaultless(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return storagetest.NewFaults(mem.New(), 1) })
}

func exists(t *testing.T, b storage.Bucket, key string) bool {
	t.Helper()
	_, err := b.Get(t.Context(), key, 0, -1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// TestFates: what each fate does to a Create and a Delete, at once and when the
// pending changes land.
func TestFates(t *testing.T) {
	for _, test := range []struct {
		fate             storagetest.Fate
		fails, unknown   bool
		applied, landing bool
	}{
		{storagetest.Succeed, false, false, true, false},
		{storagetest.Fail, true, false, false, false},
		{storagetest.Applied, true, true, true, false},
		{storagetest.Late, true, true, false, true},
		{storagetest.Again, true, true, true, true},
	} {
		t.Run(test.fate.String(), func(t *testing.T) {
			below := mem.New()
			f := storagetest.NewFaults(below, 1)
			f.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: test.fate} })
			check := func(op string, err error, applied bool) {
				t.Helper()
				if (err != nil) != test.fails || errors.Is(err, storage.ErrUnknown) != test.unknown {
					t.Errorf("%s: %v, want failure %v, unknown %v", op, err, test.fails, test.unknown)
				}
				if applied != test.applied {
					t.Errorf("%s: applied %v, want %v", op, applied, test.applied)
				}
				if pending := len(f.Pending()) == 1; pending != test.landing {
					t.Errorf("%s: pending %v, want %v", op, pending, test.landing)
				}
			}
			body := []byte("body")
			check("Create", f.Create(t.Context(), "key", body), exists(t, below, "key"))
			copy(body, "XXXX")
			below.Delete(t.Context(), "key")
			if n := f.Land(); (n == 1) != test.landing || exists(t, below, "key") != test.landing {
				t.Errorf("%d Creates landed, the object is there: %v", n, exists(t, below, "key"))
			}
			if test.landing {
				if got, _ := below.Get(t.Context(), "key", 0, -1); string(got) != "body" {
					t.Errorf("%q landed", got)
				}
			}

			below.Create(t.Context(), "key", nil)
			check("Delete", f.Delete(t.Context(), "key"), !exists(t, below, "key"))
			below.Create(t.Context(), "key", nil)
			f.Land()
			if exists(t, below, "key") == test.landing {
				t.Errorf("after the landing of a Delete the object is there: %v", !test.landing)
			}

			_, err := f.Get(t.Context(), "other", 0, -1)
			if want := fs.ErrNotExist; test.fate == storagetest.Succeed && !errors.Is(err, want) {
				t.Errorf("Get: %v, want %v", err, want)
			} else if want := storagetest.ErrInjected; test.fails && !errors.Is(err, want) {
				t.Errorf("Get: %v, want %v", err, want)
			}
			if _, err := f.List(t.Context(), "", "", 1); (err != nil) != test.fails {
				t.Errorf("List: %v", err)
			}
		})
	}
}

func TestForget(t *testing.T) {
	below := mem.New()
	f := storagetest.NewFaults(below, 1)
	f.Plan(storagetest.Nth(1, storagetest.Outcome{Fate: storagetest.Late}))
	f.Create(t.Context(), "key", nil)
	f.Forget()
	if n := f.Land(); n != 0 || exists(t, below, "key") {
		t.Errorf("%d changes landed that were to be forgotten", n)
	}
}

// TestDelays: the effect comes after Before and the answer after After, unless
// the caller or the process gives up in between.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := mem.New()
		f := storagetest.NewFaults(below, 1)
		f.Plan(func(storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Second, After: time.Second}
		})
		start := time.Now()
		if err := f.Create(t.Context(), "slow", nil); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("slow Create: %v after %v", err, time.Since(start))
		}
		for _, test := range []struct {
			key              string
			after            time.Duration
			applied, landing bool
		}{
			{"before", 500 * time.Millisecond, false, true},
			{"after", 1500 * time.Millisecond, true, false},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), test.after)
			err := f.Create(ctx, test.key, nil)
			cancel()
			if !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Create given up %s: %v, want ErrUnknown and the time-out", test.key, err)
			}
			if exists(t, below, test.key) != test.applied || len(f.Pending()) == 1 != test.landing {
				t.Errorf("Create given up %s: applied %v, pending %v", test.key, !test.applied, f.Pending())
			}
			f.Land()
			if !exists(t, below, test.key) {
				t.Errorf("Create given up %s did not land", test.key)
			}
		}
	})
}

// TestClose is the death of a process: nothing waits any more, nothing new
// happens, but what was under way can arrive.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := mem.New()
		f := storagetest.NewFaults(below, 1)
		f.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: time.Hour} })
		done := make(chan error)
		go func() { done <- f.Create(context.Background(), "under-way", nil) }()
		synctest.Wait()
		f.Close()
		f.Close()
		if err := <-done; !errors.Is(err, storage.ErrUnknown) {
			t.Errorf("a Create under way at Close: %v, want ErrUnknown", err)
		}
		if err := f.Create(t.Context(), "new", nil); err == nil || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("Create after Close: %v, want an error that says nothing happened", err)
		}
		if f.Land(); !exists(t, below, "under-way") || exists(t, below, "new") {
			t.Error("after Close and Land the wrong objects are there")
		}
	})
}

// TestRandom runs random calls with random fates and checks each answer against
// the store below: nil and ErrExists are true, a plain error changed nothing,
// and what is unknown is so for a reason.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	below := mem.New()
	f := storagetest.NewFaults(below, seed)
	f.Random(storagetest.Odds{Fail: 0.2, Applied: 0.2, Late: 0.2, Again: 0.1, Land: 0.3})

	outcomes := make(map[string]int)
	for i := range 5000 {
		key := fmt.Sprint("key/", rng.IntN(8))
		body := fmt.Appendf(nil, "body %d", i)
		if rng.IntN(2) == 0 {
			err := f.Delete(t.Context(), key)
			if err == nil && exists(t, below, key) {
				t.Fatalf("call %d: Delete(%s) succeeded and the object is there", i, key)
			}
			outcomes[kind(err)]++
			continue
		}
		err := f.Create(t.Context(), key, body)
		got, _ := below.Get(t.Context(), key, 0, -1)
		mine := slices.Equal(got, body)
		switch kind(err) {
		case "ok":
			if !mine {
				t.Fatalf("call %d: Create(%s) succeeded, but there is %q", i, key, got)
			}
		case "exists":
			if got == nil || mine {
				t.Fatalf("call %d: Create(%s): %v, but there is %q", i, key, err, got)
			}
		case "nothing":
			if mine {
				t.Fatalf("call %d: Create(%s): %v, but there is %q", i, key, err, got)
			}
		}
		outcomes[kind(err)]++
	}
	for _, kind := range []string{"ok", "exists", "nothing", "unknown"} {
		if outcomes[kind] < 100 {
			t.Errorf("%d outcomes of 5000 are %s", outcomes[kind], kind)
		}
	}
	if len(f.Pending()) == 0 {
		t.Error("nothing is pending in the end")
	}
}

func kind(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, storage.ErrUnknown):
		return "unknown"
	case errors.Is(err, storage.ErrExists):
		return "exists"
	default:
		return "nothing"
	}
}
