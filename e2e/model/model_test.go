package model

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// workers is how many schedules run side by side.
const workers = 2

func simulated(w *world, no int) disk {
	return newCard(w.s.seed+uint64(no), w.s.frame, w.mutations.card)
}

// soak is how long the random search runs.
func soak(d time.Duration) time.Duration {
	if os.Getenv("WEIR_SOAK") == "1" {
		return 60 * d
	}
	return d
}

// seedOf returns WEIR_SEED.
func seedOf(t *testing.T) (uint64, bool) {
	s := os.Getenv("WEIR_SEED")
	if s == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("WEIR_SEED: %v", err)
	}
	return seed, true
}

// onDisk is the real local buffer in a directory of its own, in memory where
// there is such a place.
func onDisk(w *world, no int) disk {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "weir-model-")
	if err != nil {
		panic(err)
	}
	return newWalCard(dir, w.s.seed+uint64(no))
}

// TestLocalBuffer runs random schedules over the real edge/wal.
func TestLocalBuffer(t *testing.T) { search(t, draw, onDisk, soak(2*time.Second)) }

// TestModel runs random schedules over the simulated card.
func TestModel(t *testing.T) { search(t, draw, simulated, soak(4*time.Second)) }

// TestShards runs random schedules of several shards, doors and owners.
func TestShards(t *testing.T) { search(t, drawSeveral, simulated, soak(4*time.Second)) }

func search(t *testing.T, draw func(uint64, []op) schedule, newDisk func(*world, int) disk, d time.Duration) {
	if seed, ok := seedOf(t); ok {
		replay(t, draw(seed, nil), mutations{}, newDisk)
		return
	}
	base := rand.Uint64()
	t.Logf("schedules from seed %d on; WEIR_SEED=… runs one", base+1)
	began := time.Now()
	var next atomic.Uint64
	t.Run("search", func(t *testing.T) {
		for i := range workers {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for time.Since(began) < d && !t.Failed() {
					s := draw(base+next.Add(1), nil)
					if _, err := run(t, s, mutations{}, newDisk); err != nil {
						report(t, s, err, mutations{}, newDisk)
					}
				}
			})
		}
	})
	n := next.Load()
	t.Logf("%d schedules, %.0f per second", n, float64(n)/time.Since(began).Seconds())
}

// report shrinks a schedule that failed and prints how it goes.
func report(t *testing.T, s schedule, err error, m mutations, newDisk func(*world, int) disk) {
	t.Helper()
	t.Errorf("WEIR_SEED=%d: %v", s.seed, err)
	small := shrink(s, kindOf(err), func(s schedule) error {
		_, err := run(t, s, m, newDisk)
		return err
	})
	t.Logf("smallest schedule that fails like this: %v", small)
	replay(t, small, m, newDisk)
}

// replay runs one schedule often, and prints how it goes when it fails.
func replay(t *testing.T, s schedule, m mutations, newDisk func(*world, int) disk) {
	s.trace = true
	for i := range 300 {
		lines, err := run(t, s, m, newDisk)
		if err == nil {
			continue
		}
		t.Errorf("run %d: %v", i+1, err)
		for _, line := range lines {
			t.Log(line)
		}
		return
	}
	t.Log("300 runs, all sound")
}
