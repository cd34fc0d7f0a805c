package model

import "math/bits"

// Sizes of the largest world. The search copies and hashes states by the
// million, so everything in them is a small number.
const (
	maxEpochs = 4
	maxNodes  = 4
)

// position names a slot; positions are in the order of the log.
type position uint8

func at(epoch, slot int) position      { return position(epoch<<3 | slot) }
func (p position) epoch() int          { return int(p >> 3) }
func (p position) slot() int           { return int(p & 7) }
func (p position) nextEpoch() position { return at(p.epoch()+1, 0) }

// origin is the position at which the log begins.
const origin = position(1 << 3)

// content is what is stored under the name of a slot.
type content uint8

const (
	absent content = iota
	data           // in slot 0 the HEADER, else DATA
	other          // the same slot from another node or with other bytes: only in mutations
	seal           // from any node: see README.md
)

// view says where epochs end: for each the slot of its SEAL, which is the number
// of slots before it. Three bits per epoch.
type view uint16

func (v view) cut(epoch int) int { return int(v >> (3 * (epoch - 1)) & 7) }

func (v view) with(epoch, slot int) view {
	return v.before(epoch) | view(slot)<<(3*(epoch-1))
}

// before forgets the given epoch and those after it.
func (v view) before(epoch int) view { return v & (1<<(3*(epoch-1)) - 1) }

// entries is how many DATA slots an epoch has that ends at slot cut.
func entries(cut int) int { return max(cut-1, 0) }

// epoch is what the bucket has of one epoch, and what may still arrive there.
// A Create that was sent once may take effect at any later time, and again after a
// Delete. Nothing cancels it.
type epoch struct {
	cells  uint16 // contents of the slots, two bits each
	head   view   // what the HEADER says that was sent: the epochs before this one
	sent   uint8  // DATA was sent for slots 1 to sent
	alt    uint8  // slots for which `other` was sent as well; slot 0 is bit 0
	seals  uint8  // slots for which a SEAL was sent
	saves  uint8  // checkpoints that were sent and have not landed; where they are tracked, that may land, for the first time or again
	acked  uint8  // slots 1 to acked were acknowledged
	marks  uint8  // of these, the ones with the bytes of `other`
	flags  uint8
	clear  uint8  // checkpoints whose Create was answered and may land again all the same: only in a mutation
	there  uint8  // where checkpoints are tracked: those that are there
	opens  uint16 // at level 2: for each slot of DATA, the slot up to which all were acknowledged when it was sent, three bits each
	closer uint8  // the slot of the CLOSING that was sent
	closed uint8  // and has landed
	gone   uint8  // the bucket knows of a deletion in slot gone-1; 0: of none
	drops  uint8  // slots of DATA that drop the kept slot
	adopts uint8  // that keep it again: only in a mutation
	own    uint8  // the slot of the SEAL that the owner sent, 0: none
	owned  uint8  // that SEAL: the slots up to here were acknowledged when it was sent
}

const (
	headed    = 1 << iota // a HEADER was sent
	begun                 // it was durable at some time, or a node acted as if it were
	ownSealed             // the SEAL in the slot own is the owner's
)

func (e *epoch) cell(slot int) content { return content(e.cells >> (2 * slot) & 3) }

func (e *epoch) put(slot int, c content) {
	e.cells = e.cells&^(3<<(2*slot)) | uint16(c)<<(2*slot)
}

// free returns the first slot from slot on that does not hold an entry.
func (e *epoch) free(slot int) int {
	for c := e.cell(slot); c == data || c == other; c = e.cell(slot) {
		slot++
	}
	return slot
}

// stage is how far a node is.
type stage uint8

const (
	idle       stage = iota
	following        // a standby or a fenced owner reads along
	doubting         // it has read a SEAL that it does not trust yet
	listing          // has claimed: lists the checkpoints
	walking          // gets slots
	rechecking       // found a hole: gets the header of the epoch look, a later one
	begunLater       // that header is there: gets the slot again
	missing          // that header is not there: lists the checkpoints
	differing        // found a header that came another way: lists the checkpoints
	sealing          // has sent a SEAL
	taken            // got ErrExists: gets the object that is there
	relisting        // is at the end: lists the checkpoints again; a reader gets its start again
	asking           // a reader: lists the tombstones
	stale            // a reader whose start is gone: lists the checkpoints until there is a newer one
	heading          // has sent its header
	owning
)

// node is a process: one that writes, or one that only reads (the last of a
// world with a replay). In a crash it loses all of this.
type node struct {
	stage stage
	epoch uint8    // of its claim; of one that only reads, the one above the newest that it listed
	start position // of the checkpoint that it works from, or its own
	at    position // the next slot to take; of an owner, to acknowledge
	view  view     // the epochs before at
	look  uint8    // rechecking: the epoch whose header is asked for; sealing: the slot; of a reader at its end: 1 if that is damage; of an owner: 1 if it has yielded, 2 if it knows that its SEAL is durable
	have  content  // what was read ahead of the slot at, plus one; 0: nothing
	ahead content  // the same of the slot behind it
	sent  uint8    // of an owner: the last slot that it sent
	known uint8    // of an owner: durable slots, by bit; of a reader: what was acknowledged before it began
	alt   uint8    // slots that it writes with other bytes, by bit
	seen  saves    // with slow Lists: one is under way, and these were there when it began
}

// state is the bucket, with everything that is on its way to it, and the nodes.
type state struct {
	epochs    [maxEpochs + 1]epoch // one more, for a fresh claim or one who waits there
	nodes     [maxNodes]node
	claims    uint8    // the newest claim: they are dense, and never deleted
	newest    position // the newest checkpoint that ever was durable
	left      uint8    // checkpoints that may still be written
	swept     position // where checkpoints are tracked: older ones than this may be deleted
	tombstone position // with a replay: the newest tombstone
	cut       position // with a replay: slots before it may be deleted
	removed   bool     // the kept slot may be deleted
}

// epoch returns the epoch of the given number.
func (s *state) epoch(number int) *epoch { return &s.epochs[number-1] }

// cell returns what lies at p.
func (s *state) cell(p position) content { return s.epoch(p.epoch()).cell(p.slot()) }

// last returns the newest epoch that has begun, 0 if none has.
func (s *state) last() int {
	for e := int(s.claims); e > 0; e-- {
		if s.epoch(e).flags&begun != 0 {
			return e
		}
	}
	return 0
}

// saves is a set of checkpoints: four bits for slots 1 to 4 of each epoch.
type saves uint16

// underWay is set in node.seen.
const underWay saves = 1 << 15

// there returns the checkpoints that are there.
func (s *state) there() (v saves) {
	for e := 1; e <= int(s.claims); e++ {
		v |= saves(s.epoch(e).there>>1) << (4 * (e - 1))
	}
	return v
}

// top returns the newest of them, or 0 if there is none.
func (v saves) top() position {
	i := bits.Len16(uint16(v &^ underWay))
	if i == 0 {
		return 0
	}
	return at((i-1)/4+1, (i-1)%4+1)
}

// has reports whether p is one of them.
func (v saves) has(p position) bool {
	return p.epoch() >= 1 && p.slot() >= 1 && p.slot() <= 4 && v>>(4*(p.epoch()-1)+p.slot()-1)&1 != 0
}

// saved returns the view in a checkpoint of the given epoch. Its owner
// came to it by the header's way.
func (s *state) saved(epoch int) view { return s.epoch(epoch).head }
