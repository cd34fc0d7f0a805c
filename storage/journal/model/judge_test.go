package model

import "math/bits"

// faults is a set of states that must not be reached.
type faults uint16

const (
	lost          faults = 1 << iota // an entry was acknowledged, and a recovery does not find it
	split                            // an owner acknowledged an entry that a later owner does not have
	badRead                          // a reader has an entry that is not in the log
	staleRead                        // an owner was told that it owned the shard after another had begun
	incomplete                       // a replay lacks an entry that was acknowledged before it began
	refused                          // the log has an entry although its writer was told that it had failed
	gone                             // the state refers to a slot that was removed
	stuck                            // recovery does not end with an owner
	falseCorrupt                     // ErrCorrupt, although nothing is corrupt
	falseForeign                     // ErrForeign, although the bucket did not overwrite
	badCheckpoint                    // a checkpoint differs from what a replay finds at its position
	disagree                         // two recoveries find different logs
	unsealed                         // a SEAL that an owner relies on is not there

	sound faults = 0

	// harm has the faults that users would notice. The others lead to them.
	harm = badCheckpoint - 1
)

// String names the gravest fault.
func (f faults) String() string {
	names := [...]string{
		"LOST: something was acknowledged, and a recovery does not find it",
		"SPLIT: an owner acknowledged what a later owner does not have",
		"BAD READ: a reader has what is not in the log",
		"STALE: an owner is told that it owns the shard, after another has begun",
		"INCOMPLETE: a replay lacks what was acknowledged before it began",
		"REFUSED: the log holds what its writer was told had failed",
		"GONE: the state refers to a slot that was removed",
		"STUCK: recovery does not end with an owner",
		"FALSE ALARM: ErrCorrupt, and nothing is",
		"FALSE ALARM: ErrForeign, and nobody else may write there",
		"BAD CHECKPOINT: it is not what a replay finds at its position",
		"DISAGREE: two recoveries find different logs",
		"UNSEALED: a SEAL on which an owner relies is not there",
	}
	if f == sound {
		return "sound"
	}
	return names[bits.TrailingZeros16(uint16(f))]
}

// recovery is the log that a recovery finds if it runs now, in one step.
func (s *state) recovery() view {
	v, from := view(0), origin
	if s.newest > 0 {
		v, from = s.saved(s.newest.epoch()), s.newest
	}
	slot := from.slot()
	for e := from.epoch(); e <= int(s.claims); e++ {
		v = v.with(e, s.epoch(e).free(slot))
		slot = 0
	}
	return v
}

// judge looks for faults in a state. It compares what each node believes with
// what a recovery finds now.
func (w *world) judge(s *state) faults {
	found := s.recovery()
	last := s.last()
	f := sound
	for e := 1; e <= int(s.claims); e++ {
		f |= s.judgeEpoch(e, last, found)
		if w.shared() {
			f |= s.epoch(e).judgeBytes(w.reuseSlot)
		}
		if w.plain && e < last && s.epoch(e).cell(s.epoch(last).head.cut(e)) != seal {
			f |= unsealed
		}
	}
	if w.keeps && s.refers(found, at(int(s.claims)+1, 0)) && s.cell(piece) != data {
		f |= gone
	}
	if p := s.newest; p > 0 && p.epoch() < last && s.epoch(last).head.cut(p.epoch()) < p.slot() {
		f |= badCheckpoint
	}
	for i := range w.nodes {
		f |= s.judgeNode(&s.nodes[i], found)
	}
	return f
}

// judgeEpoch compares what was acknowledged in an epoch with what its successors
// have, and both with what a recovery finds. An epoch counts with its DATA: one
// that ends right after its HEADER has as much as one without a HEADER.
func (s *state) judgeEpoch(e, last int, found view) faults {
	acked, have, f := int(s.epoch(e).acked), entries(found.cut(e)), sound
	for b := e + 1; b <= last; b++ {
		if s.epoch(b).flags&begun == 0 {
			continue
		}
		theirs := entries(s.epoch(b).head.cut(e))
		if acked > theirs {
			f |= split
		}
		if theirs != have {
			f |= disagree
		}
	}
	if acked > have {
		f |= lost
	}
	return f
}

// judgeBytes looks for slots whose bytes are not those that were acknowledged,
// and for DATA of which the writer was told that it had failed.
func (e *epoch) judgeBytes(told bool) faults {
	f := sound
	for slot := 1; slot <= int(e.sent); slot++ {
		c, marked := e.cell(slot), e.marks>>slot&1 != 0
		if slot <= int(e.acked) && (c == data && marked || c == other && !marked) {
			f |= lost
		}
		if told && c == data && e.alt>>slot&1 != 0 {
			f |= refused
		}
	}
	return f
}

// judgeNode compares what an owner or a standby shows to others with the log.
func (s *state) judgeNode(n *node, found view) faults {
	switch n.stage {
	case owning:
		if n.at.slot() <= int(s.epoch(int(n.epoch)).acked) && n.alt>>1 != 0 {
			return lost // a second owner of the epoch lacks an entry that the first one acknowledged
		}
	case following, doubting:
		if !n.within(found) {
			return badRead
		}
	}
	return sound
}

// within reports whether what the node has read is the beginning of a log.
func (n *node) within(found view) bool {
	for e := 1; e < n.at.epoch(); e++ {
		if entries(n.view.cut(e)) != entries(found.cut(e)) {
			return false
		}
	}
	return entries(n.at.slot()) <= entries(found.cut(n.at.epoch()))
}

// judgeReplay looks for faults in the result of a replay.
func (s *state) judgeReplay(n *node) faults {
	switch {
	case !n.within(s.recovery()):
		return badRead
	case n.known != 0 && n.at <= position(n.known):
		return incomplete
	}
	return sound
}
