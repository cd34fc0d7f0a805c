package absence

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/hdfs/hdfstest"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// seed returns WEIR_SEED, or a random number.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("WEIR_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	t.Logf("WEIR_SEED=%d", n)
	return n
}

// workers is how many cells are played at once: most of them wait.
const workers = 8

// run plays cells and reports what is wrong with them.
func (w *world) run(t *testing.T, k kind, cells []cell, seed uint64) {
	t.Helper()
	began := time.Now()
	next := make(chan int)
	var mu sync.Mutex
	outcomes := map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				j, err := w.play(context.Background(), k, i, cells[i], w.untold(cells[i]), r)
				mu.Lock()
				if err != nil {
					t.Errorf("%s: %v", cells[i], err)
				} else {
					outcomes[j.outcome]++
					for _, p := range j.problems {
						t.Errorf("%s: %s", cells[i], p)
					}
				}
				mu.Unlock()
			}
		})
	}
	for i := range cells {
		next <- i
	}
	close(next)
	wg.Wait()
	t.Logf("%d cells in %v", len(cells), time.Since(began).Round(time.Millisecond))
	for outcome, n := range outcomes {
		t.Logf("%6d %s", n, outcome)
	}
}

// worlds makes one world for each ending.
func worlds(t *testing.T, make func(ending) home) map[ending]*world {
	t.Helper()
	all := map[ending]*world{}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, end := range endings() {
		w, err := build(ctx, make(end), end)
		if err != nil {
			t.Fatalf("make a world, %s: %v", end, err)
		}
		all[end] = w
	}
	return all
}

func singles(w *world) (cells []cell) {
	for _, d := range w.singles() {
		cells = append(cells, cell{d})
	}
	return cells
}

// pairs returns n random pairs of damages of two objects.
func pairs(w *world, n int, r *rand.Rand) (cells []cell) {
	all := w.singles()
	for len(cells) < n {
		a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
		if a.name != b.name {
			cells = append(cells, cell{a, b})
		}
	}
	return cells
}

// allPairs returns every pair of damages of two objects.
func allPairs(w *world) (cells []cell) {
	all := w.singles()
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.name != b.name {
				cells = append(cells, cell{a, b})
			}
		}
	}
	return cells
}

// TestMatrix plays the whole matrix: single damages and random pairs, and with WEIR_SOAK all
// pairs of files and many more on servers.
func TestMatrix(t *testing.T) {
	s := seed(t)
	dir := fast(t)
	objects := worlds(t, func(ending) home { return memory{mem.New()} })
	files := worlds(t, func(end ending) home { return folder(fmt.Sprint(dir, "/", end)) })
	for _, end := range endings() {
		t.Run("mem/"+string(end), func(t *testing.T) {
			r := rand.New(rand.NewPCG(s, 1))
			objects[end].run(t, inMemory(), append(singles(objects[end]), pairs(objects[end], 50, r)...), s)
		})
		t.Run("file/"+string(end), func(t *testing.T) {
			r := rand.New(rand.NewPCG(s, 2))
			w := files[end]
			drawn := pairs(w, 50, r)
			if soak() {
				drawn = allPairs(w)
			}
			w.run(t, inFolders(dir), append(singles(w), drawn...), s)
		})
	}
	for _, server := range servers() {
		t.Run(server.name, func(t *testing.T) {
			b, err := open.Open(t.Context(), server.url(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := storage.Close(b); err != nil {
					t.Error(err)
				}
			})
			r := rand.New(rand.NewPCG(s, 3))
			w := objects[killed]
			cells := singles(w)
			if soak() {
				cells = append(cells, pairs(w, 1000, r)...)
			}
			w.run(t, onServer(server.name, b), cells, s)
		})
	}
}

// onServers is a kind of bucket on a real server.
type onServers struct {
	name string
	url  func(testing.TB) string
}

// servers returns the kinds of buckets on servers that the matrix is played on.
func servers() []onServers {
	all := []onServers{{"redis", func(t testing.TB) string { return redistest.Start(t).NewBucket(t) }}}
	if soak() {
		all = append(all,
			onServers{"minio", func(t testing.TB) string { return s3test.Start(t).NewBucket(t) }},
			onServers{"mysql", func(t testing.TB) string { return mysqltest.Start(t).NewDatabase(t) }},
			onServers{"hdfs", func(t testing.TB) string { s := hdfstest.Start(t); return s.URL(s.NewFolder()) }})
	}
	return all
}
