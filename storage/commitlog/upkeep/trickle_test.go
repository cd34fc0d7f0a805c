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

// TestTrickle: a pass takes a part of the time since the one before, but no longer than
// longestPass; the first one, and one that somebody waits for, takes none.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(t.Context(), Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}, Options{})
		pass := func() time.Duration {
			began, tr := time.Now(), m.newTrickle(1<<20)
			for range 16 {
				tr.spend(1 << 16)
			}
			return time.Since(began)
		}
		if took := pass(); took != 0 {
			t.Errorf("the first pass took %v", took)
		}
		for _, test := range []struct{ between, want time.Duration }{
			{time.Second, 400 * time.Millisecond}, {5 * time.Second, 2 * time.Second}, {time.Hour, longestPass},
		} {
			m.began = time.Now()
			time.Sleep(test.between)
			if took := pass(); took < test.want*9/10 || took > test.want*11/10 {
				t.Errorf("%v after the one before a pass took %v, want %v", test.between, took, test.want)
			}
		}
		time.Sleep(time.Minute)
		m.asked.Add(1)
		if took := pass(); took != 0 {
			t.Errorf("a pass that is waited for took %v", took)
		}
		m.asked.Add(-1)
		time.Sleep(time.Minute)
		m.debt.add(m.o.Bytes * int64(m.o.Debt))
		if took := pass(); took != 0 {
			t.Errorf("a pass that writers will wait for soon took %v", took)
		}
	})
}

// TestTrickleEnds: a pass that waits ends with the upkeep.
func TestTrickleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := New(ctx, Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}, Options{})
		m.began = time.Now()
		time.Sleep(time.Hour)
		tr := m.newTrickle(100)
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
