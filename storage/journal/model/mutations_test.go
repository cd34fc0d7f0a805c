package model

import "testing"

// mutation is a world in which one rule is broken, and the fault that follows.
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
	slow3    = world{epochs: 3, slots: 1, nodes: 2, depth: 1, saves: 2, slowList: true}
	followed = world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, follow: true}
	replayed = world{epochs: 2, slots: 1, nodes: 1, depth: 1, saves: 1, replay: true}
	level2   = world{epochs: 2, slots: 2, nodes: 2, depth: 2, level2: true}
	yielding = world{epochs: 2, slots: 2, nodes: 2, depth: 2, saves: 1, yields: true}
	keeping  = world{epochs: 2, slots: 2, nodes: 2, depth: 1, saves: 1, keeps: true}
	keptRead = world{epochs: 1, slots: 2, nodes: 1, depth: 1, saves: 1, keeps: true, replay: true}
	blind    = world{epochs: 1, slots: 1, nodes: 1, depth: 1, saves: 2, replay: true, slowList: true}
)

// breaking returns w with the given rules broken.
func (w world) breaking(m mutations) world {
	w.mutations = m
	return w
}

var allMutations = []mutation{
	{"ClaimUnread", pair.breaking(mutations{claimUnread: true}), falseForeign},
	{"ResumeByNode", pair.breaking(mutations{resumeByNode: true}), lost},
	{"SealNewestOnly", three.breaking(mutations{sealNewestOnly: true}), split},
	{"HoleIsEnd", pair.breaking(mutations{holeIsEnd: true}), split},
	{"ListedOnly", pair.breaking(mutations{listedOnly: true}), split},
	{"SealBeyond", pipeline.breaking(mutations{sealBeyond: true}), split},
	{"SealUnread", pair.breaking(mutations{sealUnread: true}), split},
	{"NoSecondList", saved.breaking(mutations{noSecondList: true}), split},
	{"NoReload", lively.breaking(mutations{noReload: true}), stuck},
	{"DifferIsCorrupt", saved3.breaking(mutations{differIsCorrupt: true}), falseCorrupt},
	{"MissingCorrupt", saved3.breaking(mutations{missingCorrupt: true}), falseCorrupt},
	{"UnsealedHeader", pair.breaking(mutations{unsealedHeader: true}), split},
	{"HeaderLate", pair.breaking(mutations{headerLate: true}), lost},

	{"AckOutOfOrder", pipeline.breaking(mutations{ackOutOfOrder: true}), lost},
	{"AckDuplicate", pair.breaking(mutations{ackDuplicate: true}), lost},
	{"UnknownIsDone", pair.breaking(mutations{unknownIsDone: true}), lost},
	{"ExistsIsMine", pair.breaking(mutations{existsIsMine: true}), lost},
	{"ReuseSlot", pair.breaking(mutations{reuseSlot: true}), refused},
	{"SaveUnacked", saved.breaking(mutations{saveUnacked: true}), split},
	{"SaveUnheaded", saved.breaking(mutations{saveUnheaded: true}), split},
	{"KeepUnacked", followed.breaking(mutations{keepUnacked: true}), badRead},

	{"OpenUnacked", level2.breaking(mutations{openUnacked: true}), falseCorrupt},
	{"CloseUnacked", level2.breaking(mutations{closeUnacked: true}), falseCorrupt},

	{"YieldUnacked", yielding.breaking(mutations{yieldUnacked: true}), lost},
	{"YieldShows", yielding.breaking(mutations{yieldShows: true}), falseCorrupt},
	{"ConfirmBlind", yielding.breaking(mutations{confirmBlind: true}), staleRead},
	{"HeaderAsked", yielding.breaking(mutations{headerAsked: true}), staleRead},
	{"FlyingUnread", yielding.breaking(mutations{flyingUnread: true}), staleRead},

	{"DeleteSeals", saved.breaking(mutations{deleteSeals: true}), lost},
	{"DeleteEarly", saved.breaking(mutations{deleteEarly: true}), lost},
	{"DeleteBeyond", saved.breaking(mutations{deleteBeyond: true}), lost},
	{"SweepBlind", slow.breaking(mutations{sweepBlind: true}), split},

	{"RemoveBeyond", keeping.breaking(mutations{removeBeyond: true}), lost},
	{"RemoveNoTombstone", keptRead.breaking(mutations{removeNoTombstone: true}), incomplete},
	{"RemoveUnacked", keeping.breaking(mutations{removeUnacked: true}), gone},
	{"AdoptDropped", keeping.breaking(mutations{adoptDropped: true}), gone},

	{"ReaderTrusts", followed.breaking(mutations{readerTrusts: true}), badRead},
	{"NoHeaderWay", followed.breaking(mutations{noHeaderWay: true}), badRead},
	{"ReplayOnce", replayed.breaking(mutations{replayOnce: true}), incomplete},
	{"ReplayLists", blind.breaking(mutations{replayLists: true}), incomplete},
	{"StartUnread", blind.breaking(mutations{startUnread: true}), incomplete},
	{"TombstoneUnread", blind.breaking(mutations{tombstoneUnread: true}), incomplete},
	{"CutFirst", blind.breaking(mutations{cutFirst: true}), incomplete},
	{"TrustUnclear", blind.breaking(mutations{trustUnclear: true}), incomplete},
	{"NoTombstone", blind.breaking(mutations{noTombstone: true}), incomplete},

	{"Overwrites", pair.breaking(mutations{overwrites: true}), lost},
	{"StaleList", saved.breaking(mutations{staleList: true}), split},
	{"Echoes", blind.breaking(mutations{echoes: true}), incomplete},
}

// TestMutations breaks one rule at a time: the search must find the harm, and
// print the shortest way to it.
func TestMutations(t *testing.T) {
	for _, m := range allMutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			control := m.world
			control.mutations = mutations{}
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

// TestSupersededUnread is one of the mutations, in a world that takes long to search to its
// end: SlowLists/ThreeEpochs is its control.
func TestSupersededUnread(t *testing.T) {
	if tooLarge(medium) {
		t.Skip("not with the race detector")
	}
	w := slow3.breaking(mutations{supersededUnread: true})
	r := newSearch(&w).run()
	r.tell(t)
	if r.faults != falseCorrupt {
		t.Errorf("%v, expected was %v (%v)", r.faults, falseCorrupt, r)
	}
}

// TestSpare breaks the rules that are not needed for safety: they find what
// is lost in a bucket that breaks its promises, or save work.
func TestSpare(t *testing.T) {
	all := mutations{noRecheck: true, noCompare: true, noWitness: true, vanishedHole: true, noStop: true}
	for _, test := range []struct {
		name string
		size size
		world
	}{
		{"NoRecheck", small, saved3.breaking(mutations{noRecheck: true})},
		{"NoCompare", small, saved3.breaking(mutations{noCompare: true})},
		{"NoWitness", small, saved3.breaking(mutations{noWitness: true})},
		{"VanishedHole", small, saved3.breaking(mutations{vanishedHole: true})},
		{"NoStop", small, saved3.breaking(mutations{noStop: true})},
		{"All", small, saved3.breaking(all)},
		{"All/Replay", medium, world{epochs: 2, slots: 1, nodes: 2, depth: 1, saves: 1, replay: true, mutations: all}},
		{"All/TwoSlots", medium, world{epochs: 3, slots: 2, nodes: 2, depth: 1, saves: 1, standby: true, mutations: all}},
		{"All/ThreeNodes", large, world{epochs: 3, slots: 2, nodes: 3, depth: 2, saves: 2, standby: true, mutations: all}},
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
