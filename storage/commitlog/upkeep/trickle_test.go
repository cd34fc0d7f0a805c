package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
)

// TestTrickle: each step of a pass takes a part of the time since the pass before, but no
// longer than longestStep; in the first pass, and in one that somebody waits for, none.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(t.Context(), Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}, Options{})
		expect := func(what string, want time.Duration) {
			t.Helper()
			began := time.Now()
			building, storing := m.beginPass(1 << 20)
			for name, step := range map[string]*trickle{"building": building, "storing": storing} {
				step.began = time.Now() // one after the other, so that each shows
				for range 16 {
					step.spend(1 << 16)
				}
				if took := time.Since(step.began); took < want*9/10 || took > want*11/10 {
					t.Errorf("%s: %s took %v, want %v", what, name, took, want)
				}
			}
			m.began = began
		}
		expect("the first pass", 0)
		for between, want := range map[time.Duration]time.Duration{
			time.Second: 300 * time.Millisecond, 5 * time.Second: 1500 * time.Millisecond, time.Hour: longestStep,
		} {
			m.began = time.Now()
			time.Sleep(between)
			expect(between.String(), want)
		}
		time.Sleep(time.Minute)
		m.asked.Add(1)
		expect("a pass that is waited for", 0)
		m.asked.Add(-1)
		time.Sleep(time.Minute)
		m.debt.add(m.o.Bytes * int64(m.o.Debt))
		expect("a pass that writers will wait for soon", 0)
	})
}

// TestTrickleEnds: a pass that waits ends with the upkeep.
func TestTrickleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := New(ctx, Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}, Options{})
		m.began = time.Now()
		time.Sleep(time.Hour)
		tr, _ := m.beginPass(100)
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		tr.spend(100)
		if took := time.Since(began); took > time.Second+nap {
			t.Errorf("it ended after %v", took)
		}
	})
}

// TestEnded: an upkeep that has ended proposes nothing, even what it could not know to be
// admitted: an entry twice would break the log.
func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	proposed := 0
	h := Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}
	h.Propose = func(ctx context.Context, _ uint16, _ []byte) error {
		proposed++
		cancel() // the log is closed while the entry is on its way
		return ctx.Err()
	}
	m := New(ctx, h, Options{})
	for range 3 {
		if err := m.propose(state.KindInstalled, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if proposed != 1 {
		t.Errorf("it was proposed %d times", proposed)
	}
}
