package model

import (
	"os"
	"runtime/debug"
	"sync"
	"testing"
)

// size says when a world is searched. The race detector makes a search ten
// times slower.
type size int

const (
	small  size = iota // always
	medium             // not with the race detector, nor with -short
	large              // with WEIR_SOAK=1
)

func tooLarge(s size) bool {
	switch {
	case os.Getenv("WEIR_SOAK") == "1":
		return false
	case raceEnabled || testing.Short():
		return s > small
	}
	return s > medium
}

// worlds are the ones in which nothing may be wrong. In those without checkpoints
// nothing is deleted.
var worlds = []struct {
	name string
	size size
	world
}{
	{"Plain", small, world{epochs: 3, slots: 1, nodes: 3, depth: 2, live: true}},
	{"Plain/Readers", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, follow: true, replay: true, window: true}},
	{"Plain/Pipeline", medium, world{epochs: 3, slots: 3, nodes: 2, depth: 3, live: true}},
	{"Plain/ThreeNodes", medium, world{epochs: 3, slots: 2, nodes: 3, depth: 2}},

	{"Checkpoint", small, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1, live: true}},
	{"Checkpoint/Window", small, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 2, window: true, live: true}},
	{"Checkpoint/Pipeline", medium, world{epochs: 2, slots: 3, nodes: 2, depth: 3, saves: 2, live: true}},
	{"Checkpoint/Standby", medium, world{epochs: 3, slots: 1, nodes: 3, depth: 2, saves: 2, standby: true, window: true}},
	{"Checkpoint/TwoSlots", medium, world{epochs: 3, slots: 2, nodes: 2, depth: 2, saves: 1, live: true}},
	{"Checkpoint/ThreeNodes", medium, world{epochs: 3, slots: 2, nodes: 3, depth: 2, saves: 1}},
	{"Checkpoint/TwoSaves", large, world{epochs: 3, slots: 2, nodes: 3, depth: 2, saves: 2, standby: true, window: true}},
	{"Checkpoint/ThreeSlots", large, world{epochs: 3, slots: 3, nodes: 2, depth: 3, saves: 2}},
	{"Checkpoint/FourEpochs", large, world{epochs: 4, slots: 1, nodes: 2, depth: 1, saves: 2, standby: true, live: true}},

	{"Follower", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, follow: true, live: true}},
	{"Follower/TwoSlots", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 2, follow: true}},
	{"Follower/ThreeEpochs", medium, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1, follow: true}},
	{"Follower/Both", large, world{epochs: 3, slots: 2, nodes: 2, depth: 2, saves: 1, follow: true}},

	{"Replay", small, world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, replay: true, live: true}},
	{"Replay/TwoNodes", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true, live: true}},
	{"Replay/TwoSaves", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, replay: true}},
	{"Replay/TwoSlots", large, world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 2, replay: true}},
	{"Replay/ThreeEpochs", large, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true}},

	{"Level2", small, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1, level2: true, live: true}},
	{"Level2/Replay", small, world{epochs: 1, slots: 2, nodes: 1, depth: 2, saves: 1, level2: true, replay: true, live: true}},
	{"Level2/ThreeSlots", medium, world{epochs: 2, slots: 3, nodes: 2, depth: 3, saves: 1, level2: true, standby: true, window: true}},
	{"Level2/TwoEpochs", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, level2: true, replay: true}},
	{"Level2/ThreeEpochs", large, world{epochs: 3, slots: 2, nodes: 2, depth: 2, saves: 1, level2: true}},
	{"Level2/Kept", large, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 2, level2: true, keeps: true}},

	{"Yield", small, world{epochs: 3, slots: 1, nodes: 2, depth: 1, yields: true, live: true}},
	{"Yield/Follower", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, yields: true, follow: true, live: true}},
	{"Yield/Pipeline", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1, yields: true, live: true}},
	{"Yield/Level2", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, yields: true, level2: true, live: true}},
	{"Yield/ThreeSlots", large, world{epochs: 2, slots: 3, nodes: 2, depth: 3, saves: 1, yields: true, live: true}},
	{"Yield/Standby", large, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 2, yields: true, standby: true, window: true}},
	{"Yield/ThreeEpochs", large, world{epochs: 3, slots: 2, nodes: 2, depth: 2, saves: 1, yields: true}},
	{"Yield/Replay", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, yields: true, replay: true}},

	{"Kept", small, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1, keeps: true, live: true}},
	{"Kept/Replay", small, world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 2, keeps: true, replay: true, live: true}},
	{"Kept/Standby", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 2, keeps: true, standby: true, window: true}},
	{"Kept/SlowReplay", medium, world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 2, keeps: true, replay: true, slowList: true}},
	{"Kept/ThreeEpochs", large, world{epochs: 3, slots: 2, nodes: 2, depth: 1, saves: 1, keeps: true}},
	{"Kept/TwoOwners", large, world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 2, keeps: true, replay: true}},

	{"SlowLists", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, slowList: true, live: true}},
	{"SlowLists/TwoSlots", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 2, slowList: true}},
	{"SlowLists/ThreeSaves", large, world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 3, slowList: true, standby: true}},
	{"SlowLists/ThreeEpochs", large, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 2, slowList: true}},

	{"SlowReplay", small, world{epochs: 1, slots: 1, nodes: 1, depth: 1, saves: 2, replay: true, slowList: true, live: true}},
	{"SlowReplay/ThreeSaves", medium, world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 3, replay: true, slowList: true}},
	{"SlowReplay/TwoEpochs", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true, slowList: true}},
	{"SlowReplay/TwoSaves", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, replay: true, slowList: true}},
}

// TestWorlds searches every world to its end.
func TestWorlds(t *testing.T) {
	var mu sync.Mutex
	var counts [verbs]uint64
	t.Run("world", func(t *testing.T) {
		for _, test := range worlds {
			t.Run(test.name, func(t *testing.T) {
				if tooLarge(test.size) {
					t.Skipf("%v: WEIR_SOAK=1 runs it", &test.world)
				}
				if test.size < large {
					t.Parallel()
				} else { // it needs all of the memory: little of it may be garbage
					defer debug.SetGCPercent(debug.SetGCPercent(20))
				}
				r := newSearch(&test.world).run()
				t.Logf("%v: %v", &test.world, r)
				r.report(t)
				mu.Lock()
				defer mu.Unlock()
				for v, n := range r.counts {
					counts[v] += n
				}
			})
		}
	})
	for v := begins + 1; v < claimsTaken; v++ {
		rare := v == otherLands || v == meetsCorrupt || v == meetsForeign || v == findsTombstone || v == listsLess && tooLarge(large)
		if counts[v] == 0 && !rare {
			t.Errorf("no world has a step like: %s", texts[v])
		}
	}
}

// report fails the test if the search ended with a fault.
func (r *search) report(t *testing.T) {
	t.Helper()
	if r.faults != sound {
		t.Error(r.faults)
		r.tell(t)
	}
}

// tell logs the steps that led to the fault.
func (r *search) tell(t *testing.T) {
	for i, line := range r.trace {
		t.Logf("%3d  %s", i+1, line)
	}
}

// TestReduction compares the search with one that leaves nothing out: the states
// that a search without reductions finds must be, reduced, exactly the same.
func TestReduction(t *testing.T) {
	for _, test := range []struct {
		name string
		size size
		world
	}{
		{"OneEpoch", small, world{epochs: 1, slots: 2, nodes: 1, depth: 2, saves: 1, follow: true, replay: true, window: true}},
		{"Claimants", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2}},
		{"TwoSlots", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1}},
		{"Window", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, window: true}},
		{"Standby", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, standby: true}},
		{"Replay", small, world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, replay: true}},
		{"Replay/TwoNodes", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true}},
		{"Follow", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, follow: true}},
		{"SlowReplay", small, world{epochs: 1, slots: 1, nodes: 1, depth: 1, saves: 2, replay: true, slowList: true}},
		{"SlowReplay/TwoNodes", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true, slowList: true}},
		{"Level2", large, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1, level2: true}},
		{"Level2/Replay", medium, world{epochs: 1, slots: 2, nodes: 1, depth: 2, saves: 1, level2: true, replay: true}},
		{"Yield", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, yields: true}},
		{"Yield/TwoSlots", large, world{epochs: 2, slots: 2, nodes: 2, depth: 2, yields: true}},
		{"Yield/Saves", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, yields: true}},
		{"Yield/Level2", large, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, yields: true, level2: true, follow: true}},
		{"Kept", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 1, keeps: true}},
		{"Kept/Replay", medium, world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 2, keeps: true, replay: true}},
		{"ThreeEpochs", medium, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1}},
		{"ThreeNodes", large, world{epochs: 3, slots: 1, nodes: 3, depth: 1, saves: 1, standby: true, window: true}},
		{"TwoSaves", large, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 2}},
		{"Pipeline", large, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 3, standby: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if tooLarge(test.size) {
				t.Skipf("%v: WEIR_SOAK=1 runs it", &test.world)
			}
			t.Parallel()
			raw := test.world
			raw.unreduced = true
			compareWorlds(t, &test.world, &raw, func(*state) {})
		})
	}
}

// TestStandby shows that claims from every place where a standby may be stand for
// standbys that get there: both worlds have the same states otherwise.
func TestStandby(t *testing.T) {
	for _, test := range []struct {
		name string
		size size
		world
	}{
		{"TwoSaves", small, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2}},
		{"TwoSlots", medium, world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1}},
		{"ThreeEpochs", large, world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if tooLarge(test.size) {
				t.Skipf("%v: WEIR_SOAK=1 runs it", &test.world)
			}
			t.Parallel()
			standby, follow := test.world, test.world
			standby.standby, follow.follow = true, true
			compareWorlds(t, &standby, &follow, func(s *state) {
				for i := range s.nodes {
					if n := &s.nodes[i]; n.stage == following || n.stage == doubting {
						*n = node{}
					}
				}
			})
		})
	}
}

// compareWorlds searches two worlds and checks that the states of the second
// one, after simplify and the reductions of the first, are those
// of the first.
func compareWorlds(t *testing.T, short, long *world, simplify func(*state)) {
	few := newSearch(short).run()
	few.report(t)
	many := newSearch(long)
	image := newSet()
	image.seed = few.seen.seed
	image.add(image.print(&state{left: uint8(short.saves)}))
	extra := 0
	many.visit = func(s *state) {
		c := *s
		simplify(&c)
		short.reduce(&c)
		p := image.print(&c)
		if image.add(p) && !few.seen.has(p) {
			extra++
		}
	}
	many.run()
	many.report(t)
	t.Logf("%d states stand for %d, of %v", few.states(), many.states(), long)
	if extra > 0 || image.n != few.states() {
		t.Errorf("%d states, but %d of %v: %d are not among them", few.states(), image.n, long, extra)
	}
}
