package model

import "testing"

// mutation is a world in which one rule is broken, and what comes of it.
type mutation struct {
	name string
	world
	harm faults
}

// The worlds are the smallest that do.
var (
	pair     = world{epochs: 2, slots: 1, nodes: 2, depth: 1}
	pipeline = world{epochs: 2, slots: 2, nodes: 2, depth: 2}
	three    = world{epochs: 3, slots: 1, nodes: 2, depth: 1}
	saved    = world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1}
	saved3   = world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 1}
	lively   = world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, live: true}
	slow     = world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 2, slowList: true}
	followed = world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, follow: true}
	replayed = world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, replay: true}
	level2   = world{epochs: 2, slots: 2, nodes: 2, depth: 2, level2: true}
	keeping  = world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 1, keeps: true}
	keptRead = world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 1, keeps: true, replay: true}
	blind    = world{epochs: 1, slots: 1, nodes: 1, depth: 1, saves: 2, replay: true, slowList: true}
)

// breaking returns w with the given rules broken.
func (w world) breaking(r rules) world {
	w.rules = r
	return w
}

var mutations = []mutation{
	{"ClaimUnread", pair.breaking(rules{claimUnread: true}), falseForeign},
	{"ResumeByNode", pair.breaking(rules{resumeByNode: true}), lost},
	{"SealNewestOnly", three.breaking(rules{sealNewestOnly: true}), split},
	{"HoleIsEnd", pair.breaking(rules{holeIsEnd: true}), split},
	{"ListedOnly", pair.breaking(rules{listedOnly: true}), split},
	{"SealBeyond", pipeline.breaking(rules{sealBeyond: true}), split},
	{"SealUnread", pair.breaking(rules{sealUnread: true}), split},
	{"NoSecondList", saved.breaking(rules{noSecondList: true}), split},
	{"NoReload", lively.breaking(rules{noReload: true}), stuck},
	{"DifferIsCorrupt", saved3.breaking(rules{differIsCorrupt: true}), falseCorrupt},
	{"MissingCorrupt", saved3.breaking(rules{missingCorrupt: true}), falseCorrupt},
	{"UnsealedHeader", pair.breaking(rules{unsealedHeader: true}), split},
	{"HeaderLate", pair.breaking(rules{headerLate: true}), lost},

	{"AckOutOfOrder", pipeline.breaking(rules{ackOutOfOrder: true}), lost},
	{"AckDuplicate", pair.breaking(rules{ackDuplicate: true}), lost},
	{"UnknownIsDone", pair.breaking(rules{unknownIsDone: true}), lost},
	{"ExistsIsMine", pair.breaking(rules{existsIsMine: true}), lost},
	{"ReuseSlot", pair.breaking(rules{reuseSlot: true}), refused},
	{"SaveUnacked", saved.breaking(rules{saveUnacked: true}), split},
	{"SaveUnheaded", saved.breaking(rules{saveUnheaded: true}), split},
	{"KeepUnacked", followed.breaking(rules{keepUnacked: true}), badRead},

	{"OpenUnacked", level2.breaking(rules{openUnacked: true}), falseCorrupt},
	{"CloseUnacked", level2.breaking(rules{closeUnacked: true}), falseCorrupt},

	{"DeleteSeals", saved.breaking(rules{deleteSeals: true}), lost},
	{"DeleteEarly", saved.breaking(rules{deleteEarly: true}), lost},
	{"DeleteBeyond", saved.breaking(rules{deleteBeyond: true}), lost},
	{"SweepBlind", slow.breaking(rules{sweepBlind: true}), split},

	{"RemoveBeyond", keeping.breaking(rules{removeBeyond: true}), lost},
	{"RemoveNoTombstone", keptRead.breaking(rules{removeNoTombstone: true}), incomplete},
	{"RemoveUnacked", keeping.breaking(rules{removeUnacked: true}), gone},
	{"AdoptDropped", keeping.breaking(rules{adoptDropped: true}), gone},

	{"ReaderTrusts", followed.breaking(rules{readerTrusts: true}), badRead},
	{"NoHeaderWay", followed.breaking(rules{noHeaderWay: true}), badRead},
	{"ReplayOnce", replayed.breaking(rules{replayOnce: true}), incomplete},
	{"ReplayLists", blind.breaking(rules{replayLists: true}), incomplete},
	{"StartUnread", blind.breaking(rules{startUnread: true}), incomplete},
	{"TombstoneUnread", blind.breaking(rules{tombstoneUnread: true}), incomplete},
	{"CutFirst", blind.breaking(rules{cutFirst: true}), incomplete},
	{"TrustUnclear", blind.breaking(rules{trustUnclear: true}), incomplete},
	{"NoTombstone", blind.breaking(rules{noTombstone: true}), incomplete},

	{"Overwrites", pair.breaking(rules{overwrites: true}), lost},
	{"StaleList", saved.breaking(rules{staleList: true}), split},
	{"Echoes", blind.breaking(rules{echoes: true}), incomplete},
}

// TestMutations breaks one rule at a time: the search must find the harm, and
// tells the shortest way to it.
func TestMutations(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			control := m.world
			control.rules = rules{}
			if r := newSearch(&control).run(); r.faults != sound {
				t.Fatalf("%v is not sound to begin with: %v", &control, r.faults)
			}
			first := newSearch(&m.world).run()
			r := newSearch(&m.world)
			r.want = harm
			r.run()
			t.Logf("%v; first sign after %d steps: %v", &m.world, len(first.trace), first.faults)
			t.Logf("after %d steps: %v", len(r.trace), r.faults)
			r.tell(t)
			if r.faults&m.harm == 0 {
				t.Errorf("%v, expected was %v (%v)", r.faults, m.harm, r)
			}
		})
	}
}

// TestSpare breaks the rules that are there for other reasons than safety: what
// is lost in a bucket that breaks its promises is found, and work is saved.
func TestSpare(t *testing.T) {
	all := rules{noRecheck: true, noCompare: true, noWitness: true, vanishedHole: true, noStop: true}
	for _, test := range []struct {
		name string
		size size
		world
	}{
		{"NoRecheck", small, saved3.breaking(rules{noRecheck: true})},
		{"NoCompare", small, saved3.breaking(rules{noCompare: true})},
		{"NoWitness", small, saved3.breaking(rules{noWitness: true})},
		{"VanishedHole", small, saved3.breaking(rules{vanishedHole: true})},
		{"NoStop", small, saved3.breaking(rules{noStop: true})},
		{"All", small, saved3.breaking(all)},
		{"All/Replay", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true, rules: all}},
		{"All/TwoSlots", medium, world{epochs: 3, slots: 2, nodes: 2, depth: 1, saves: 1, standby: true, rules: all}},
		{"All/ThreeNodes", large, world{epochs: 3, slots: 2, nodes: 3, depth: 2, saves: 2, standby: true, rules: all}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if tooLarge(test.size) {
				t.Skipf("%v: WEIR_SOAK=1 runs it", &test.world)
			}
			t.Parallel()
			r := newSearch(&test.world).run()
			t.Logf("%v: %v", &test.world, r)
			r.report(t)
		})
	}
}
