package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestDecorators: around a good bucket each decorator is a good bucket.
func TestDecorators(t *testing.T) {
	for name, decorate := range map[string]func(storage.Bucket) storage.Bucket{
		"Retry":   func(b storage.Bucket) storage.Bucket { return storage.Retry(b, storage.RetryOptions{}) },
		"Limit":   func(b storage.Bucket) storage.Bucket { return storage.Limit(b, 2) },
		"Metrics": func(b storage.Bucket) storage.Bucket { return storage.Metrics(b, metrics.NewSet(), "mem") },
	} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, func(*testing.T) storage.Bucket { return decorate(mem.New()) })
		})
	}
}

func TestPrefix(t *testing.T) {
	whole := mem.New()
	part, other := storage.Prefix(whole, "some/part"), storage.Prefix(whole, "some/part2")
	for key, b := range map[string]storage.Bucket{"a": part, "b/c": part, "d": part, "x": other} {
		if err := b.Create(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(b storage.Bucket, prefix, after, want string) {
		t.Helper()
		keys, err := b.List(t.Context(), prefix, after, 10)
		if got := strings.Join(keys, " "); err != nil || got != want {
			t.Errorf("List(%q, %q) = %q, %v, want %q", prefix, after, got, err, want)
		}
	}
	want(whole, "", "", "some/part/a some/part/b/c some/part/d some/part2/x")
	want(part, "", "", "a b/c d")
	want(part, "b", "", "b/c")
	want(part, "", "b/c", "d")
	if err := part.Delete(t.Context(), "a", "x"); err != nil {
		t.Error(err)
	}
	want(whole, "", "", "some/part/b/c some/part/d some/part2/x")
	if body, err := part.Get(t.Context(), "b/c", 0, -1); err != nil || string(body) != "b/c" {
		t.Errorf("Get: %q, %v", body, err)
	}
	for _, key := range []string{"", "/a", "../part2/x"} {
		_, err := part.Get(t.Context(), key, 0, -1)
		for _, err := range []error{err, part.Create(t.Context(), key, nil), part.Delete(t.Context(), key)} {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("key %q: %v, want ErrKey", key, err)
			}
		}
	}
}

// broken is a bucket whose object "damaged" is.
type broken struct{ storage.Bucket }

func (b broken) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == "damaged" {
		return nil, fmt.Errorf("get %s: %w", key, storage.ErrDamaged)
	}
	return b.Bucket.Get(ctx, key, off, n)
}

func getDamaged(b storage.Bucket) error {
	_, err := b.Get(context.Background(), "damaged", 0, -1)
	return err
}

func TestRetry(t *testing.T) {
	fail := storagetest.Outcome{Fate: storagetest.Fail}
	applied := storagetest.Outcome{Fate: storagetest.Applied}
	late := storagetest.Outcome{Fate: storagetest.Late}
	create := func(b storage.Bucket) error { return b.Create(context.Background(), "new", []byte("x")) }
	again := func(b storage.Bucket) error { return b.Create(context.Background(), "old", []byte("x")) }
	get := func(b storage.Bucket) error { _, err := b.Get(context.Background(), "old", 0, -1); return err }
	missing := func(b storage.Bucket) error { _, err := b.Get(context.Background(), "new", 0, -1); return err }
	list := func(b storage.Bucket) error { _, err := b.List(context.Background(), "", "", 1); return err }
	remove := func(b storage.Bucket) error { return b.Delete(context.Background(), "old") }
	badKey := func(b storage.Bucket) error { return b.Create(context.Background(), "..", nil) }

	for _, test := range []struct {
		name     string
		op       func(storage.Bucket) error
		outcomes []storagetest.Outcome // of the first attempts; the rest succeed
		want     error                 // nil: success
		attempts int
	}{
		{"create", create, nil, nil, 1},
		{"create after nothing happened", create, []storagetest.Outcome{fail, fail}, nil, 3},
		{"create given up", create, []storagetest.Outcome{fail, fail, fail, fail}, storagetest.ErrInjected, 4},
		{"create exists", again, nil, storage.ErrExists, 1},
		{"create applied but unknown", create, []storagetest.Outcome{applied}, storage.ErrUnknown, 1},
		{"create late", create, []storagetest.Outcome{fail, late}, storage.ErrUnknown, 2},
		{"create bad key", badKey, nil, storage.ErrKey, 1},
		{"get", get, []storagetest.Outcome{fail, fail, fail}, nil, 4},
		{"get damaged", getDamaged, nil, storage.ErrDamaged, 1},
		{"get missing", missing, []storagetest.Outcome{fail}, fs.ErrNotExist, 2},
		{"list", list, []storagetest.Outcome{fail}, nil, 2},
		{"delete", remove, []storagetest.Outcome{fail, applied, late}, nil, 4},
		{"delete stays unknown", remove, []storagetest.Outcome{late, fail, fail, fail}, storage.ErrUnknown, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				below := mem.New()
				if err := below.Create(t.Context(), "old", nil); err != nil {
					t.Fatal(err)
				}
				faults := storagetest.NewFaults(broken{below}, 1)
				faults.Plan(func(c storagetest.Call) storagetest.Outcome {
					if c.N <= len(test.outcomes) {
						return test.outcomes[c.N-1]
					}
					return storagetest.Outcome{}
				})
				start := time.Now()
				err := test.op(storage.Retry(faults, storage.RetryOptions{Attempts: 4}))
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if n := faults.Calls(); n != test.attempts {
					t.Errorf("%d attempts, want %d", n, test.attempts)
				}
				// Pauses of 100, 200, 400 ms, of which half is drawn.
				least := []time.Duration{0, 50, 150, 350}[test.attempts-1] * time.Millisecond
				if took := time.Since(start); took < least || took > 2*least {
					t.Errorf("took %v, want %v to %v", took, least, 2*least)
				}
			})
		})
	}
}

// TestRetryTime: an attempt has a time limit, and no attempt begins after the
// caller's context is over.
func TestRetryTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := storagetest.NewFaults(mem.New(), 1)
		faults.Plan(func(c storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Hour}
		})
		b := storage.Retry(faults, storage.RetryOptions{Attempts: 3, Timeout: time.Second})
		if _, err := b.Get(t.Context(), "key", 0, -1); !errors.Is(err, context.DeadlineExceeded) || faults.Calls() != 3 {
			t.Errorf("Get: %v after %d attempts, want the time-out of the third", err, faults.Calls())
		}
		if err := b.Create(t.Context(), "key", nil); !errors.Is(err, storage.ErrUnknown) || faults.Calls() != 4 {
			t.Errorf("Create: %v after %d attempts, want ErrUnknown of the only one", err, faults.Calls()-3)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond) // in the first pause
		defer cancel()
		b = storage.Retry(faults, storage.RetryOptions{First: time.Minute, Max: time.Minute, Timeout: time.Second})
		start := time.Now()
		if _, err := b.List(ctx, "", "", 1); err == nil || faults.Calls() != 5 || time.Since(start) != 1100*time.Millisecond {
			t.Errorf("List: %v after %d attempts and %v, want one, and the end of the context", err, faults.Calls()-4, time.Since(start))
		}
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := storagetest.NewFaults(mem.New(), 1)
		faults.Plan(func(c storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Second}
		})
		b := storage.Limit(faults, 2)
		for i := range 4 {
			go b.Create(context.Background(), fmt.Sprintf("key/%d", i), nil)
		}
		synctest.Wait()
		if n := faults.Calls(); n != 2 {
			t.Errorf("%d calls at the same time, want 2", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Create(ctx, "late", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("Create that waits for its turn too long: %v, want the end of the context and no ErrUnknown", err)
		}
		time.Sleep(1500 * time.Millisecond)
		if n := faults.Calls(); n != 4 {
			t.Errorf("%d calls after the first two ended, want 4", n)
		}
		time.Sleep(time.Second)
	})
}

func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	faults := storagetest.NewFaults(mem.New(), 1)
	b := storage.Metrics(faults, set, "main")
	b.Create(t.Context(), "key", []byte("12345"))
	b.Create(t.Context(), "key", []byte("12345"))
	b.Get(t.Context(), "key", 1, 3)
	b.Get(t.Context(), "none", 0, -1)
	b.List(t.Context(), "", "", 10)
	faults.Plan(storagetest.Nth(6, storagetest.Outcome{Fate: storagetest.Late}))
	b.Delete(t.Context(), "key")
	faults.Plan(storagetest.Nth(7, storagetest.Outcome{Fate: storagetest.Fail}))
	b.Delete(t.Context(), "key")

	var text strings.Builder
	set.WritePrometheus(&text)
	for _, want := range []string{
		`weir_bucket_requests_total{bucket="main",op="create",result="ok"} 1`,
		`weir_bucket_requests_total{bucket="main",op="create",result="exists"} 1`,
		`weir_bucket_requests_total{bucket="main",op="get",result="ok"} 1`,
		`weir_bucket_requests_total{bucket="main",op="get",result="missing"} 1`,
		`weir_bucket_requests_total{bucket="main",op="list",result="ok"} 1`,
		`weir_bucket_requests_total{bucket="main",op="delete",result="unknown"} 1`,
		`weir_bucket_requests_total{bucket="main",op="delete",result="error"} 1`,
		`weir_bucket_bytes_total{bucket="main",op="create"} 5`,
		`weir_bucket_bytes_total{bucket="main",op="get"} 3`,
		`weir_bucket_request_seconds_count{bucket="main",op="create"} 2`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &text)
		}
	}
}

// closer is a bucket that counts how often it was closed.
type closer struct {
	storage.Bucket
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestClose(t *testing.T) {
	c := &closer{Bucket: mem.New()}
	b := storage.Retry(storage.Limit(storage.Metrics(storage.Prefix(c, "p"), metrics.NewSet(), "c"), 1), storage.RetryOptions{})
	if err := storage.Close(b); err != nil || c.closed != 1 {
		t.Errorf("Close through all decorators: %v, closed %d times", err, c.closed)
	}
	if err := storage.Close(mem.New()); err != nil {
		t.Errorf("Close of a bucket that has nothing to close: %v", err)
	}
}
