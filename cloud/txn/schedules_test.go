//go:build weirtest

package txn

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tried is what a schedule was, and what came of it.
type tried struct {
	wrong string
	sizes []int // number of choices at each step
	trace []string
}

// try runs one schedule in a bubble of fake time.
func try(t *testing.T, v variant, m Mutations, choose func(step, n int) int) (r tried) {
	synctest.Test(t, func(t *testing.T) {
		f, err := newFabric(v, m)
		if err != nil {
			t.Fatal(err)
		}
		r.wrong, err = f.play(func(n int) int {
			c := choose(len(r.sizes), n)
			r.sizes = append(r.sizes, n)
			return c
		})
		if err == nil {
			err = f.close()
		}
		if err != nil {
			t.Fatal(err)
		}
		r.trace = f.trace
	})
	return r
}

// explore runs all schedules that deviate from the plain one at most that often, until one
// is wrong or the time is over. It returns the wrong one and how many there were.
func explore(t *testing.T, v variant, m Mutations, deviations int, until time.Time) (tried, int) {
	count := 0
	var visit func(plan map[int]int, from, left int) tried
	visit = func(plan map[int]int, from, left int) tried {
		r := try(t, v, m, func(step, n int) int { return min(plan[step], n-1) })
		count++
		if r.wrong != "" || left == 0 {
			return r
		}
		for step := from; step < len(r.sizes); step++ {
			for c := 1; c < r.sizes[step]; c++ {
				if time.Now().After(until) {
					return tried{}
				}
				plan[step] = c
				if bad := visit(plan, step+1, left-1); bad.wrong != "" {
					return bad
				}
				delete(plan, step)
			}
		}
		return tried{}
	}
	return visit(make(map[int]int), 0, deviations), count
}

var variants = []variant{{txns: 2}, {txns: 2, crashes: true}, {txns: 2, v2: true}, {txns: 2, v2: true, crashes: true}}

// soak reports whether the large worlds are to be tried.
func soak() bool { return os.Getenv("WEIR_SOAK") != "" }

// TestSchedules: in all schedules that deviate from the plain one at two moments, by a
// message that is late or doubled or by another owner of a shard, no record of a committed
// transaction is lost, none of an aborted one is visible, and nothing is open for ever.
func TestSchedules(t *testing.T) {
	deviations := 1
	if soak() {
		deviations = 2
	}
	for _, v := range variants {
		bad, count := explore(t, v, Mutations{}, deviations, time.Now().Add(time.Hour))
		if bad.wrong != "" {
			t.Errorf("%v: %s\n%s", v, bad.wrong, strings.Join(bad.trace, "\n"))
		}
		t.Logf("%v: %d schedules", v, count)
	}
}

// TestRandomSchedules deviates wherever it likes.
func TestRandomSchedules(t *testing.T) {
	rounds := uint64(100)
	if soak() {
		rounds = 20_000
	}
	for _, v := range variants {
		v.txns = 3
		for seed := range rounds {
			if bad := wander(t, v, Mutations{}, seed); bad.wrong != "" {
				t.Fatalf("%v, seed %d: %s\n%s", v, seed, bad.wrong, strings.Join(bad.trace, "\n"))
			}
		}
	}
}

// wander runs a random schedule.
func wander(t *testing.T, v variant, m Mutations, seed uint64) tried {
	random := rand.New(rand.NewPCG(seed, 11))
	odds := 2 + random.IntN(10)
	return try(t, v, m, func(_, n int) int {
		if random.IntN(odds) > 0 {
			return 0
		}
		return random.IntN(n)
	})
}

// TestRulesOfSchedules: without any of the rules, some schedule goes wrong.
func TestRulesOfSchedules(t *testing.T) {
	for name, m := range map[string]Mutations{
		"NoNumber": {NoNumber: true}, "NoVerify": {NoVerify: true}, "NoRecheck": {NoRecheck: true}, "MarkEarly": {MarkEarly: true}, "NextEarly": {NextEarly: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(0); ; seed++ {
				v := variants[seed%uint64(len(variants))]
				v.txns = 3
				if bad := wander(t, v, m, seed); bad.wrong != "" {
					t.Logf("schedule %d, %v: %s", seed, v, bad.wrong)
					return
				}
				if seed > 3000 {
					t.Fatal("no schedule goes wrong")
				}
			}
		})
	}
}
