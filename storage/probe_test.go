package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// lax is a store that lets a second writer in.
type lax struct {
	storage.Bucket
	overwrite func(key string) bool
}

func (l *lax) Create(ctx context.Context, key string, body []byte) error {
	err := l.Bucket.Create(ctx, key, body)
	if errors.Is(err, storage.ErrExists) && l.overwrite(key) {
		if err := l.Bucket.Delete(ctx, key); err != nil {
			return err
		}
		err = l.Bucket.Create(ctx, key, body)
		if errors.Is(err, storage.ErrExists) {
			return nil
		}
	}
	return err
}

func TestProbe(t *testing.T) {
	b := mem.New()
	if err := storage.Probe(t.Context(), b); err != nil {
		t.Error(err)
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
		t.Errorf("left behind: %q, %v", keys, err)
	}
}

// TestProbeLax: stores that ignore create-if-absent, always or when it matters,
// or tell both writers that they won, are found out.
func TestProbeLax(t *testing.T) {
	var calls atomic.Int64
	for name, overwrite := range map[string]func(string) bool{
		"always":       func(string) bool { return true },
		"in a race":    func(key string) bool { return strings.HasSuffix(key, "race") },
		"in the end":   func(key string) bool { return strings.HasSuffix(key, "race") && calls.Add(1) == 7 },
		"one too many": func(key string) bool { return strings.HasSuffix(key, "twice") },
	} {
		b := mem.New()
		err := storage.Probe(t.Context(), &lax{b, overwrite})
		if !errors.Is(err, storage.ErrNoCreate) {
			t.Errorf("%s: %v, want ErrNoCreate", name, err)
		}
		if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
			t.Errorf("%s: left behind: %q, %v", name, keys, err)
		}
	}
}

// TestProbeFaults: whichever call of the probe fails, it does not pass, and it
// does not blame the store for it.
func TestProbeFaults(t *testing.T) {
	for n := 1; ; n++ {
		faults := storagetest.NewFaults(mem.New(), 1)
		faults.Plan(storagetest.Nth(n, storagetest.Outcome{Fate: storagetest.Fail}))
		err := storage.Probe(t.Context(), faults)
		if n > faults.Calls() {
			return
		}
		if !errors.Is(err, storagetest.ErrInjected) || errors.Is(err, storage.ErrNoCreate) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("call %d fails: %v, want that error", n, err)
		}
	}
}
