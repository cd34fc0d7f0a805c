package storage_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// frail is a bucket that says what is wrong with its store.
type frail struct{ storage.Bucket }

func (frail) Traits() storage.Traits {
	forgets := func(context.Context) []string { return []string{"it forgets"} }
	return storage.Traits{Warnings: forgets, PreferredSize: 7, Billed: true}
}

// TestTraits: what a bucket says beside the contract is heard through every decorator.
func TestTraits(t *testing.T) {
	ctx := t.Context()
	b := storage.Bucket(frail{mem.New()})
	b = storage.Metrics(storage.Prefix(storage.Limit(storage.Retry(storagetest.NewFaults(b, 1), storage.RetryOptions{}), 2), "p"), metrics.NewSet(), "x")
	if got := storage.Warnings(ctx, b); !slices.Equal(got, []string{"it forgets"}) {
		t.Errorf("warnings %q", got)
	}
	if got := storage.PreferredSize(b); got != 7 {
		t.Errorf("preferred size %d", got)
	}
	if !storage.Billed(b) {
		t.Error("its bill is not heard of")
	}
	if got := storage.Warnings(ctx, mem.New()); got != nil || storage.PreferredSize(mem.New()) != 0 || storage.Billed(mem.New()) {
		t.Errorf("a bucket without traits: %q", got)
	}
}

// TestSequences: a hint comes to the store with the whole prefix.
func TestSequences(t *testing.T) {
	below := &told{Bucket: mem.New()}
	b := storage.Retry(storage.Prefix(storage.Limit(storage.Prefix(storagetest.NewFaults(below, 1), "a"), 1), "b"), storage.RetryOptions{})
	storage.Sequences(storage.Metrics(b, metrics.NewSet(), "x"), "0000/log/")
	if !slices.Equal(below.prefixes, []string{"a/b/0000/log/"}) {
		t.Errorf("told of %q", below.prefixes)
	}
	storage.Sequences(mem.New(), "0000/log/") // to whom it is all one
}

// told is a bucket that notes what comes in sequence.
type told struct {
	storage.Bucket
	prefixes []string
}

func (b *told) Traits() storage.Traits {
	return storage.Traits{Sequences: func(prefix string) { b.prefixes = append(b.prefixes, prefix) }}
}

// mindful knows that one object was deleted.
type mindful struct {
	storage.Bucket
	key string
}

func (m mindful) Traits() storage.Traits { return storage.Traits{Deleted: m.known} }

func (m mindful) known(_ context.Context, prefix, from string) (string, error) {
	if strings.HasPrefix(m.key, prefix) && m.key >= from {
		return m.key, nil
	}
	return "", nil
}

func TestDeleted(t *testing.T) {
	below := mindful{mem.New(), "a/b/1"}
	limited := storage.Limit(storage.Prefix(storage.Prefix(below, "a"), "b"), 1)
	for from, want := range map[string]string{"0": "1", "1": "1", "2": "", "b/1": ""} {
		if got, err := storage.Deleted(t.Context(), limited, "", from); err != nil || got != want {
			t.Errorf("%s: %q, %v", from, got, err)
		}
	}
	if got, err := storage.Deleted(t.Context(), mem.New(), "", "a"); err != nil || got != "" {
		t.Errorf("a bucket that forgets: %q, %v", got, err)
	}
}
