package redis_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/storagetest"
)

// wantAgreement checks that every key of tried names an object that is whole
// and listed, or one that is neither there nor listed. It returns those that
// are there.
func wantAgreement(t *testing.T, b storage.Bucket, tried []string, size int) []string {
	t.Helper()
	listed, err := b.List(t.Context(), "", "", len(tried)+1)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range tried {
		got, err := b.Get(t.Context(), key, 0, -1)
		switch missing := errors.Is(err, fs.ErrNotExist); {
		case err != nil && !missing:
			t.Errorf("Get: %v", err)
		case missing == slices.Contains(listed, key):
			t.Errorf("%s: listed %v, missing %v", key, !missing, missing)
		case !missing && string(got) != string(storagetest.Content(key, size)):
			t.Errorf("Get(%s): %d bytes that nobody wrote", key, len(got))
		}
	}
	return listed
}

// TestKill: the server is killed while eight writers are at work. What was
// acknowledged is there when it is back, and nothing is there by half.
func TestKill(t *testing.T) {
	const writers, size = 8, 20_000
	server := redistest.Start(t)
	b := mustOpen(t, server.NewBucket(t))
	var tried, acked []string
	for round := range 3 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		enough := make(chan struct{}, writers*1000)
		for w := range writers {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("%d/%d/%04d", round, w, i)
					err := b.Create(t.Context(), key, storagetest.Content(key, size))
					mu.Lock()
					tried = append(tried, key)
					if err == nil {
						acked = append(acked, key)
					}
					mu.Unlock()
					if err != nil {
						return
					}
					enough <- struct{}{}
				}
			})
		}
		for range 60 {
			<-enough
		}
		server.Kill(t)
		wg.Wait()
		server.Restart(t)

		there := wantAgreement(t, b, tried, size)
		for _, key := range acked {
			if !slices.Contains(there, key) {
				t.Errorf("%s was acknowledged and is gone", key)
			}
		}
		t.Logf("round %d: %d tried, %d acknowledged, %d there", round, len(tried), len(acked), len(there))
	}
}

// TestTorn: a file that ends anywhere inside a transaction, as a crash leaves
// it, holds all of the transaction or nothing.
func TestTorn(t *testing.T) {
	const size = 300
	server := redistest.Start(t)
	b := mustOpen(t, server.NewBucket(t))
	var tried []string
	for i := range 12 {
		key := fmt.Sprintf("torn/%02d", i)
		tried = append(tried, key)
		if err := b.Create(t.Context(), key, storagetest.Content(key, size)); err != nil {
			t.Fatal(err)
		}
	}
	left := len(tried)
	for _, cut := range []int64{1, 12, 20, 100, 250, 60, 50, 333} {
		server.Kill(t)
		cutFile(t, server, cut)
		server.Restart(t)
		there := len(wantAgreement(t, b, tried, size))
		if there >= left+1 || there < left-1 {
			t.Errorf("%d objects are left after %d bytes were cut off, there were %d", there, cut, left)
		}
		left = there
	}
	if left == len(tried) || left == 0 {
		t.Errorf("%d of %d objects are left: the cuts were not where they should be", left, len(tried))
	}
}

// cutFile cuts the end off the append-only file.
func cutFile(t *testing.T, server *redistest.Server, n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		// Before Redis 7 it was one file.
		files = []string{filepath.Join(server.Dir, "appendonly.aof")}
	}
	slices.Sort(files)
	file := files[len(files)-1]
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()-n); err != nil {
		t.Fatal(err)
	}
}

// TestCloseWhileBusy: Close ends the calls that wait for an answer.
func TestCloseWhileBusy(t *testing.T) {
	server := redistest.Start(t)
	b, err := redis.Open(t.Context(), server.NewBucket(t))
	if err != nil {
		t.Fatal(err)
	}
	// The server answers nobody for a while.
	if err := admin(t, server).Do(t.Context(), "CLIENT", "PAUSE", "600000", "WRITE").Err(); err != nil {
		t.Fatal(err)
	}
	created := make(chan error, 1)
	go func() { created <- b.Create(t.Context(), "key", nil) }()
	eventually(t, "the call at the server", func() bool {
		info, err := admin(t, server).Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:1")
	})
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-created; !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Create: %v, want ErrUnknown", err)
	}
	if err := b.Create(t.Context(), "key", nil); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Create after Close: %v, want an error that says nothing happened", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
