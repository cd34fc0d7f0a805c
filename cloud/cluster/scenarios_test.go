package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scenario is something that happens to a cluster of many nodes and shards.
type scenario struct {
	play   func(w *world, nodes []*host)
	settle time.Duration // before that; default: a third of long
	last   time.Duration // that it is watched; default: half of long
	late   bool          // the last node is not there before

	claims  func(had []int) int // the most takeovers; had is how many shards each node had. Default: none
	moves   int                 // the most
	asks    int                 // questions in the bucket, at most; -1: any number
	gap     time.Duration       // the longest that a shard may be without an owner; 0: any
	uneven  bool                // the loads need not be even at the end
	spread  int                 // by how much they may differ; 0: 1
	lost    int                 // claims that another node was faster with; 0: any number
	nodes   int                 // default: that of the test
	roles   []Roles             // of the nodes
	empty   string              // a node that has nothing at the end
	before  func(w *world)
	mutated mutations
}

func none([]int) int { return 0 }

// of returns the shards of some nodes.
func of(nodes ...int) func([]int) int {
	return func(had []int) (n int) {
		for _, i := range nodes {
			n += had[i]
		}
		return n
	}
}

// cluster is many nodes in S3-like latencies.
func cluster(t *testing.T, shards uint32, seed uint64) *world {
	w := newWorld(t, shards, seed)
	w.takeover, w.latency, w.tail = 2*time.Second, 40*time.Millisecond, true
	w.recovery = 300 * time.Millisecond
	w.idle = func(shard uint32) bool { return shard%4 == 0 }
	return w
}

// run plays the scenario and returns what was not as it should be.
func (s scenario) run(t *testing.T, nodes int, shards uint32, seed uint64) (faults []string) {
	if s.nodes > 0 {
		nodes = s.nodes
	}
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, shards, seed)
		w.mutations = s.mutated
		defer w.end()
		w.roles = make(map[string]Roles)
		for i, r := range s.roles {
			w.roles[fmt.Sprint("n", i)] = r
		}
		if s.before != nil {
			s.before(w)
		}
		var all []*host
		for i := range nodes {
			if s.late && i == nodes-1 {
				break
			}
			all = append(all, w.start(fmt.Sprint("n", i)))
			time.Sleep(w.random(2 * time.Second / time.Duration(nodes)))
		}
		time.Sleep(cmp.Or(s.settle, long()/3))
		f := w.figures()
		if f.none > 0 {
			faults = append(faults, fmt.Sprintf("after the start %d shards have no owner", f.none))
		}
		had := make([]int, nodes)
		for i := range had {
			had[i] = f.loads[fmt.Sprint("n", i)]
		}
		if s.play == nil { // only a cold start
			had[0] = int(shards)
		} else {
			s.play(w, all)
			time.Sleep(cmp.Or(s.last, long()/2))
			f = w.figures()
		}
		t.Logf("%+v", f)
		faults = append(faults, s.judge(w, f, had)...)
	})
	return faults
}

func (s scenario) judge(w *world, f figures, had []int) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if most := s.claims(had); f.claims > most {
		fault("%d takeovers, want %d at most", f.claims, most)
	}
	if s.empty != "" && f.loads[s.empty] > 0 {
		fault("%s has %d shards, and should have none", s.empty, f.loads[s.empty])
	}
	if f.moves > s.moves {
		fault("%d moves, want %d at most", f.moves, s.moves)
	}
	if s.lost > 0 && f.lost > s.lost {
		fault("%d claims in vain, want %d at most", f.lost, s.lost)
	}
	if s.gap > 0 && f.gap > s.gap {
		fault("a shard had no owner for %v, want %v at most", f.gap, s.gap)
	}
	if f.none > 0 {
		fault("%d shards have no owner at the end", f.none)
	}
	if s.asks >= 0 && f.asks > s.asks {
		fault("%d questions in the bucket, want %d at most", f.asks, s.asks)
	}
	if f.wrong > 0 {
		fault("%d shards are owned by nodes without the roles for them", f.wrong)
	}
	least, highest := 1<<30, 0
	for name, n := range f.loads {
		if w.roles[name].Has(RoleLog) {
			least, highest = min(least, n), max(highest, n)
		}
	}
	if highest-least > max(1, s.spread) && !s.uneven {
		fault("the shards are not even: %v", f.loads)
	}
	return faults
}

// long is how long a network stays cut.
func long() time.Duration {
	return map[bool]time.Duration{true: 5 * time.Minute, false: time.Minute}[soaks()]
}

// within plays something at a random moment of a second.
func within(w *world, d time.Duration) { time.Sleep(w.random(d)) }

// scenarios are the twelve of the model, with its bounds.
func scenarios() map[string]scenario {
	const second = time.Second
	return map[string]scenario{
		"start": {claims: of(0), moves: 6},
		"crash": {asks: -1, claims: of(1), moves: 4, gap: 6 * second, play: func(w *world, n []*host) { within(w, second); n[1].kill() }},
		"second crash": {asks: -1, claims: func(had []int) int { return 2*had[1] + had[2] + 4 }, moves: 9, gap: 12 * second, play: func(w *world, n []*host) {
			within(w, second)
			n[1].kill()
			within(w, 6*second)
			n[2].kill()
		}},
		"restart": {asks: -1, claims: of(1), moves: 9, gap: 6 * second, play: func(w *world, n []*host) {
			n[1].kill()
			within(w, 8*second)
			n[1].boot()
		}},
		"join":  {late: true, claims: none, moves: 8, gap: 2 * second, play: func(w *world, n []*host) { w.start("n3") }},
		"drain": {asks: 6, claims: none, moves: 8, gap: 3 * second, play: func(w *world, n []*host) { n[1].stop() }},
		"rolling restart": {asks: -1, claims: none, moves: 60, gap: 3 * second, play: func(w *world, n []*host) {
			for _, h := range n {
				h.stop()
				time.Sleep(2 * second)
				h.boot()
				time.Sleep(20 * second)
			}
		}},
		"pause": {asks: -1, claims: of(1), moves: 9, gap: 6 * second, play: func(w *world, n []*host) {
			n[1].freeze()
			time.Sleep(second)
			within(w, 20*second)
			n[1].resume()
		}},
		"pair":    {last: long(), claims: none, play: func(w *world, n []*host) { w.part("n0", "n1", errLost) }},
		"one way": {last: long(), claims: none, play: func(w *world, n []*host) { w.separate("n0", "n1", errLost) }},
		"island": {asks: -1, uneven: true, last: long(), claims: func([]int) int { return 20 }, moves: 2, play: func(w *world, n []*host) {
			for _, h := range n[1:] {
				w.part("n0", h.name, errLost)
			}
		}},
		"halves": {asks: -1, uneven: true, last: long(), claims: func([]int) int { return 24 }, moves: 4, play: func(w *world, n []*host) {
			for i, a := range n {
				for _, b := range n[i+1:] {
					if a.name[1]%2 != b.name[1]%2 {
						w.part(a.name, b.name, errLost)
					}
				}
			}
		}},
		"chaos": {asks: -1, last: 2 * time.Minute, claims: func([]int) int { return 40 }, moves: 90, play: chaos},
	}
}

// chaos lets five faults come within a minute, and in a long round twelve.
func chaos(w *world, nodes []*host) {
	began := time.Now()
	for range map[bool]int{true: 12, false: 5}[soaks()] {
		a, b := nodes[w.random(time.Duration(len(nodes)))], nodes[w.random(time.Duration(len(nodes)))]
		at, lasts := w.random(8*time.Second), w.random(10*time.Second)
		time.Sleep(at)
		switch w.random(3) {
		case 0:
			a.kill()
			time.Sleep(lasts)
			a.boot()
		case 1:
			w.part(a.name, b.name, errLost)
			time.Sleep(lasts)
			w.part(a.name, b.name, nil)
		case 2:
			a.stop()
			time.Sleep(lasts)
			a.boot()
		}
	}
	w.t.Logf("faults for %v", time.Since(began))
}

// further are scenarios that are not the model's.
func further() map[string]scenario {
	const second = time.Second
	return map[string]scenario{
		// n2 does not hear n0, and nobody else does when n1 is gone: what n0 takes over it
		// cannot serve before it has read a long log.
		"slow recovery": {nodes: 3, asks: -1, uneven: true, claims: of(1), moves: 9, play: func(w *world, n []*host) {
			w.part("n0", "n2", errLost)
			time.Sleep(30 * second)
			w.figures()
			w.recovery = 3 * second
			n[1].kill()
		}},
		// A node runs for a while and stands still for longer than the takeover time, again
		// and again.
		"stutter": {asks: -1, uneven: true, claims: func([]int) int { return 12 }, moves: 40, play: func(w *world, n []*host) {
			for range 12 {
				n[1].freeze()
				time.Sleep(9 * second / 2)
				n[1].resume()
				time.Sleep(15 * second)
			}
		}},
		// The cut lasts: n1 has its part of three nodes, up to 6, and n0 what n2 and n3 have over.
		"pair, one starts again": {asks: 4, spread: 4, claims: none, moves: 9, play: func(w *world, n []*host) {
			w.part("n0", "n1", errLost)
			time.Sleep(5 * second)
			n[0].stop()
			n[0].boot()
		}},
		// It lives, and does not have what it claims.
		"unable": {asks: -1, uneven: true, settle: 50 * second, before: func(w *world) { w.unable = "n1" },
			claims: func(had []int) int { return had[0] + 16 }, moves: 12, gap: 15 * second / 2},
		"all stop, others start": {asks: 16, claims: func(had []int) int { return had[0] + had[1] + had[2] + had[3] }, moves: 16, gap: 7 * second / 2, play: func(w *world, n []*host) {
			var wg sync.WaitGroup
			for _, h := range n {
				wg.Go(h.stop)
			}
			wg.Wait()
			w.figures()
			for i := range n {
				w.start(fmt.Sprint("m", i))
			}
		}},
		"lost questions": {asks: -1, last: long(), claims: none, moves: 0, play: func(w *world, n []*host) {
			w.mu.Lock()
			w.loss = 0.1
			w.mu.Unlock()
		}},
		// The others do not talk to a revoked node, which goes on and does not know it.
		"revoked": {asks: -1, uneven: true, empty: "n1", claims: of(1), moves: 9, gap: 4 * second, play: func(w *world, n []*host) {
			w.mu.Lock()
			w.revoked = "n1"
			w.mu.Unlock()
			for _, h := range n {
				if h.name != "n1" {
					w.part(h.name, "n1", errLost)
					h.manager().Expel()
				}
			}
		}},
		"roles, start":              {nodes: 5, roles: tiers(), claims: of(0), moves: 8},
		"roles, a log node crashes": {nodes: 5, roles: tiers(), asks: -1, claims: of(2), moves: 4, gap: 6 * second, play: func(w *world, n []*host) { within(w, second); n[2].kill() }},
		"roles, a log node drains":  {nodes: 5, roles: tiers(), asks: 6, claims: none, moves: 12, gap: 3 * second, play: func(w *world, n []*host) { n[2].stop() }},
		// n4 can have the catalogue, too.
		"roles, the catalogue's node crashes": {nodes: 5, roles: tiers(), asks: -1, claims: of(1), moves: 4, gap: 6 * second, play: func(w *world, n []*host) { within(w, second); n[1].kill() }},
		// Doors are left alone for a while, and a log node comes.
		"roles, all but doors stop": {nodes: 3, roles: []Roles{RoleDoor, RoleDoor, RoleMeta | RoleLog}, asks: -1, claims: of(2), moves: 0, play: func(w *world, n []*host) {
			n[2].stop()
			time.Sleep(30 * second)
			if f := w.figures(); f.none != int(w.shards) {
				w.t.Errorf("%d of %d shards have no owner", f.none, w.shards)
			}
			for _, door := range n[:2] {
				if missing := door.life.manager.Missing(); missing != RoleMeta|RoleLog {
					w.t.Errorf("%s misses the roles %v", door.name, missing)
				}
			}
			n[2].boot()
			time.Sleep(10 * second)
			if missing := n[0].life.manager.Missing(); missing != 0 {
				w.t.Errorf("%s misses the roles %v", n[0].name, missing)
			}
		}},
		// A node that answers the others and does not reach the bucket.
		"no bucket": {asks: -1, uneven: true, claims: of(1), moves: 2, gap: 10 * second, play: func(w *world, n []*host) {
			w.separate("n1", "bucket", errLost)
		}},
	}
}

// tiers are the roles of a door, a node for the catalogue, and three log nodes, of which
// the last can have the catalogue, too.
func tiers() []Roles {
	return []Roles{RoleDoor, RoleMeta, RoleLog, RoleLog | RoleDoor, RoleLog | RoleMeta}
}

// TestScenarios plays what may happen to a cluster of 4 nodes and 16 shards, with the
// bounds of the model that placement was designed with.
func TestScenarios(t *testing.T) {
	all := scenarios()
	maps.Copy(all, further())
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			for round := range rounds(20) {
				for _, fault := range s.run(t, 4, 16, uint64(round)) {
					t.Error(fault)
				}
			}
		})
	}
}

// TestLargeScenarios plays them with 16 nodes and 64 shards.
func TestLargeScenarios(t *testing.T) {
	if !soaks() {
		t.Skip("only in long rounds")
	}
	for name, s := range scenarios() {
		switch name {
		case "start", "crash", "join", "drain", "pair", "pause":
		default:
			continue
		}
		s.moves *= 8
		if name == "join" {
			s.play = func(w *world, _ []*host) { w.start("n15") }
		}
		t.Run(name, func(t *testing.T) {
			for round := range rounds(3) {
				for _, fault := range s.run(t, 16, 64, uint64(round)) {
					t.Error(fault)
				}
			}
		})
	}
}
