package model

import "fmt"

// world is one model: the numbers of its parts, what the nodes do besides the
// usual, and which rules they keep.
type world struct {
	epochs int // claims that succeed
	slots  int // slots of DATA in each epoch
	nodes  int // number of nodes that write
	depth  int // slots in flight at once
	saves  int // checkpoints that are written

	follow  bool // a node, one at a time, may read along before it claims, and an owner step down and keep what it has
	standby bool // nodes may claim from where such a node may stand, without showing it before
	replay  bool // one more node replays the log, again and again
	window  bool // a walk reads one slot ahead
	level2  bool // owners write at format level 2, and the bucket knows for a while what it deleted: more shows that a slot is missing
	yields  bool // owners go on under a higher claim, and yield with a SEAL of their own
	keeps   bool // the first slot is kept until an entry drops it, and then removed

	// Lists of checkpoints take time: one may miss a checkpoint that appears
	// and an older one that is deleted while it runs. In a world with a replay
	// that is so for its Lists alone. Little is reduced then.
	slowList bool

	live bool // from every state each node alone comes to an end, and a new claim to an owner

	unreduced bool // no reductions: states that no step can tell apart are different states
	mutations

	plain bool // set by explore: no rule is broken that the reductions rely on
}

func (w *world) String() string {
	s := fmt.Sprintf("%d epochs, %d slots, %d nodes, depth %d, %d checkpoints", w.epochs, w.slots, w.nodes, w.depth, w.saves)
	for _, o := range []struct {
		on   bool
		name string
	}{{w.follow, "follow"}, {w.standby, "standby"}, {w.replay, "replay"}, {w.window, "window"}, {w.yields, "yield"}, {w.keeps, "kept"}, {w.level2, "level 2"}, {w.slowList, "slow Lists"}, {w.live, "liveness"}, {w.unreduced, "unreduced"}} {
		if o.on {
			s += ", " + o.name
		}
	}
	return s
}

// mutations names what a test breaks on purpose. The zero value keeps every rule.
// Where storage/journal has a field of the same name it means the same, but that
// differIsCorrupt is two here.
type mutations struct {
	claimUnread     bool // a claim that meets ErrExists counts as made
	resumeByNode    bool // a node that died goes on under its claim, if that is the newest
	sealNewestOnly  bool // of the earlier epochs only the newest one gets a SEAL
	holeIsEnd       bool // a missing slot ends an epoch without a SEAL
	listedOnly      bool // an epoch is passed over if nothing of it is listed
	sealBeyond      bool // the SEAL goes after the last slot that is there, not into the first hole
	sealUnread      bool // a SEAL that meets ErrExists counts as placed
	noSecondList    bool // the checkpoints are not listed again before the header
	noReload        bool // a node that finds a newer checkpoint goes on from its position
	differIsCorrupt bool // a header that does not agree is taken for damage, without a List
	missingCorrupt  bool // so is a slot that is missing before an epoch that has begun
	unsealedHeader  bool // the header is written before all epochs are sealed
	headerLate      bool // slots are written before the header is durable

	ackOutOfOrder bool // a slot is acknowledged as soon as it is durable itself
	ackDuplicate  bool // a duplicate is answered from a slot in flight
	unknownIsDone bool // an unknown outcome counts as success
	existsIsMine  bool // a slot that meets ErrExists counts as written
	reuseSlot     bool // a slot of which a Get finds nothing counts as failed, and is used again
	saveUnacked   bool // a checkpoint holds slots that are still flying
	saveUnheaded  bool // a checkpoint is written before the header is durable
	keepUnacked   bool // an owner that steps down keeps slots that were flying

	openUnacked  bool // DATA says that all slots before it were acknowledged
	closeUnacked bool // an owner leaves a CLOSING behind slots that are not acknowledged

	yieldUnacked bool // an owner that yields takes slots in flight for acknowledged
	yieldShows   bool // the SEAL of an owner is taken for what comes after all slots before it
	confirmBlind bool // an owner that expects a claim does not look whether its holder is the owner
	headerAsked  bool // it looks for that one's header
	flyingUnread bool // it does not look for a SEAL in the place of slots in flight

	deleteSeals      bool // SEALs below a checkpoint are deleted like DATA
	deleteEarly      bool // DATA is deleted as soon as the checkpoint has been sent
	deleteBeyond     bool // the slot at the checkpoint is deleted, too
	supersededUnread bool // a claimant takes what is missing for lost, and there is a higher claim
	sweepBlind       bool // older checkpoints are deleted without looking for a higher claim

	removeBeyond      bool // the kept slot is removed while it is not below a checkpoint
	removeNoTombstone bool // the kept slot is removed while older checkpoints are there
	removeUnacked     bool // the kept slot is removed when the entry that drops it has only been sent
	adoptDropped      bool // a slot that was dropped is kept again, since it is still there

	readerTrusts    bool // a reader trusts every SEAL
	noHeaderWay     bool // headers do not contain the way: a reader trusts a SEAL if there is a next header
	replayOnce      bool // a replay trusts the end that it comes to
	replayLists     bool // a replay trusts the end after a List of the checkpoints
	startUnread     bool // a replay does not check that its start is still there
	tombstoneUnread bool // a replay does not look for tombstones

	cutFirst     bool // slots are deleted while older checkpoints of the epoch are there
	trustUnclear bool // slots are deleted when one of those may take effect again, with no tombstone
	noTombstone  bool // slots are deleted with no tombstone for the checkpoints of earlier epochs

	// Of the bucket.
	overwrites bool // a Create replaces what is there
	staleList  bool // a List may lack what was created before it began
	echoes     bool // a Create may land again that has returned nil

	// Safety does not need these: worlds without them are sound (TestSpare).
	noRecheck    bool // no claimant looks for headers of later epochs before it seals
	noCompare    bool // no walk compares the header's way with its own
	noWitness    bool // no walk looks at the slots after a hole
	vanishedHole bool // a slot that was taken and has disappeared is a hole again
	noStop       bool // a checkpoint of a later epoch does not end an attempt
}

// tracked reports whether it matters which checkpoints are there, besides the
// newest.
func (w *world) tracked() bool { return w.slowList || w.replay }

// slow reports whether the Lists of node i take time.
func (w *world) slow(i int) bool { return w.slowList && (!w.replay || w.reader(i)) }

// kept reports whether the rules that the reductions rely on are kept.
func (m mutations) kept() bool {
	m.noRecheck, m.noCompare, m.noWitness, m.vanishedHole, m.noStop = false, false, false, false, false
	return m == mutations{}
}

// alarms reports whether the mutation is one that the code detects at work, as
// ErrCorrupt or ErrForeign. In the others whoever detects something just stops,
// so that the search continues with what happens where no node does.
func (m mutations) alarms() bool {
	return m.kept() || m.claimUnread || m.reuseSlot || m.differIsCorrupt || m.missingCorrupt || m.saveUnheaded ||
		m.openUnacked || m.closeUnacked || m.yieldShows || m.supersededUnread
}

// shared reports whether two kinds of bytes may be written to one slot.
func (m mutations) shared() bool { return m.claimUnread || m.resumeByNode || m.reuseSlot }
