package model

// steps are the steps that may follow a state.
type steps struct {
	all [128]step
	n   int
}

type step struct {
	state state
	action
	faults faults // of the step itself
	print  uint64 // fingerprint of state
}

// fork adds a step, which begins as a copy of s.
func (x *steps) fork(s *state, v verb, i int, p position) *step {
	next := &x.all[x.n]
	x.n++
	next.state = *s
	next.action = action{verb: v, node: uint8(i), pos: p}
	next.faults = sound
	return next
}

// reader reports whether the node i only reads.
func (w *world) reader(i int) bool { return i >= w.nodes }

// advance lets the node i take its next step if nothing comes between. What it
// sends takes effect at once, and it gets the answer. It reports false if there is nothing
// that it would do by itself.
func (w *world) advance(s *state, i int) (a action, f faults, ok bool) {
	n := &s.nodes[i]
	a = action{node: uint8(i), epoch: n.epoch, pos: n.at}
	switch n.stage {
	case relisting, asking:
		if w.reader(i) && !w.replayLists {
			return w.prove(s, i)
		}
		a, f = w.list(s, i, s.newest)
	case listing, missing, differing, stale:
		a, f = w.list(s, i, s.newest)
	case walking:
		a.verb = w.get(s, i)
	case rechecking:
		a.verb = w.recheck(s, i)
	case begunLater:
		a.verb = findsMissing
		if c := s.cell(n.at); c != absent {
			w.take(s, i, c)
			a.verb = getsAgain
		} else {
			w.stray(i, n, missing)
		}
	case sealing:
		a.pos = at(n.at.epoch(), int(n.look))
		a.verb = w.seal(s, i)
	case taken:
		a.verb = w.getTaken(s, i)
	case heading:
		a.verb, f = w.head(s, i)
	default:
		return a, sound, false
	}
	return a, f, true
}

// list is a List of checkpoints, of which newest is the newest that it shows, and
// what follows from it.
func (w *world) list(s *state, i int, newest position) (a action, f faults) {
	n := &s.nodes[i]
	n.seen = 0
	a = action{node: uint8(i), epoch: n.epoch, pos: n.at}
	switch n.stage {
	case listing:
		a.verb = w.listFirst(s, i, newest)
		a.pos = n.at
	case relisting:
		a.verb, f = w.relist(s, i, newest)
	default:
		a.verb, f = w.startOver(s, i, newest)
	}
	if a.verb == startsOver {
		a.pos = n.at
	}
	return a, f
}

// die ends the process. Only the requests that it has sent continue.
func (w *world) die(n *node) {
	epoch := n.epoch
	*n = node{}
	if w.resumeByNode {
		n.epoch = epoch
	}
}

// superseded reports whether the List shows a checkpoint of the node's own epoch
// or of a later one.
func (w *world) superseded(s *state, i int, newest position) bool {
	return !w.noStop && !w.reader(i) && newest.epoch() >= int(s.nodes[i].epoch)
}

// listFirst is the List before the walk, and the Get of the newest checkpoint.
// One step for both leaves no state out: a node that gets one that is not the
// newest any more is like one that got it in time and slept, and a node that finds it
// deleted lists again.
func (w *world) listFirst(s *state, i int, newest position) verb {
	n := &s.nodes[i]
	if w.superseded(s, i, newest) {
		w.die(n)
		return gives
	}
	if newest > n.start {
		w.load(s, i, newest)
	}
	n.walk()
	return lists
}

// load begins at a checkpoint. A reader that listed the claims before it was
// there goes on to its epoch.
func (w *world) load(s *state, i int, p position) {
	n := &s.nodes[i]
	n.start, n.at = p, p
	n.view = s.saved(p.epoch())
	n.have, n.ahead = 0, 0
	if w.reader(i) {
		n.epoch = max(n.epoch, uint8(p.epoch()+1))
	}
}

// walk goes on at the slot at, or ends at the node's own epoch.
func (n *node) walk() {
	n.stage, n.look = walking, 0
	if n.at.epoch() >= int(n.epoch) {
		n.stage = relisting
		n.have, n.ahead = 0, 0
	}
}

// get is the Get of the next slot, or the answer that was read ahead.
func (w *world) get(s *state, i int) verb {
	n := &s.nodes[i]
	c := s.cell(n.at)
	if n.have != 0 {
		c = n.have - 1
	}
	if c != absent {
		return w.take(s, i, c)
	}
	n.have, n.ahead = 0, 0
	older := n.at.epoch()+1 < int(n.epoch)
	if !w.reader(i) && (w.holeIsEnd || w.sealNewestOnly && older || w.listedOnly && n.at.slot() == 0) {
		n.pass()
		return passesHole
	}
	n.look = uint8(n.at.epoch() + 1)
	if w.noRecheck || !older {
		w.end(s, i)
	} else {
		n.stage = rechecking
	}
	return meetsHole
}

// take applies what lies in the slot at.
func (w *world) take(s *state, i int, c content) verb {
	n := &s.nodes[i]
	n.stage, n.look = walking, 0
	if c == seal {
		n.pass()
		return passesSeal
	}
	if n.at.slot() == 0 && c == data && !w.noCompare && s.epoch(n.at.epoch()).head != n.view {
		n.have, n.ahead = 0, 0
		w.stray(i, n, differing)
		return findsDifferent
	}
	n.at++
	n.have, n.ahead = n.ahead, 0
	return gets
}

// pass continues with the next epoch.
func (n *node) pass() {
	n.view = n.view.with(n.at.epoch(), n.at.slot())
	n.at = n.at.nextEpoch()
	n.have, n.ahead = 0, 0
	n.walk()
}

// recheck asks whether a later epoch has begun: then something is missing at the hole.
func (w *world) recheck(s *state, i int) verb {
	n := &s.nodes[i]
	if c := s.cell(at(int(n.look), 0)); c == data || c == other {
		n.stage, n.look = begunLater, 0
		return findsBegun
	}
	if n.look++; n.look >= n.epoch {
		w.end(s, i)
	}
	return findsNotBegun
}

// end takes the slot at as the end of its epoch, unless something shows that it was
// there. A reader has found the end of the log; a claimant sends a SEAL.
func (w *world) end(s *state, i int) {
	n := &s.nodes[i]
	if !w.noWitness && w.witness(s, n.at) {
		w.stray(i, n, missing)
		return
	}
	if w.reader(i) {
		n.stage, n.look = relisting, 0
		return
	}
	e, slot := s.epoch(n.at.epoch()), n.at.slot()
	if w.sealBeyond {
		for k := w.slots; k > slot; k-- {
			if e.cell(k) != absent {
				slot = k + 1
				break
			}
		}
	}
	e.seals |= 1 << slot
	n.look = uint8(slot)
	n.stage = sealing
}

// witness reports whether there is a hole at p now, and an object after it shows that
// there was none: a claimant's SEAL, or anything if it is that of the HEADER; the owner's
// SEAL, or at level 2 DATA, that was sent when the slot was acknowledged; at level 2 a
// CLOSING, or that the bucket knows of a deletion.
func (w *world) witness(s *state, p position) bool {
	e := s.epoch(p.epoch())
	if e.cell(p.slot()) != absent {
		return false
	}
	for slot := p.slot() + 1; slot <= w.slots+1; slot++ {
		own := slot == int(e.own) && e.flags&ownSealed != 0 && !w.yieldShows
		if own && int(e.owned) < p.slot() && p.slot() > 0 {
			continue
		}
		if c := e.cell(slot); c == seal || c != absent && (p.slot() == 0 || e.open(slot) >= p.slot()) {
			return true
		}
	}
	return int(e.closed) > p.slot() || int(e.gone) > p.slot()
}

// stray notes that the node found a state that is possible only with a newer checkpoint.
func (w *world) stray(i int, n *node, next stage) {
	n.stage = next
	if w.reader(i) && !w.replayLists {
		n.stage, n.look = relisting, 1
	}
}

// prove is how a reader makes sure that nothing had been deleted from
// its start on when it came to the end, or to what would be damage: it gets its
// start again, and then lists the tombstones, in two steps.
func (w *world) prove(s *state, i int) (a action, f faults, ok bool) {
	n := &s.nodes[i]
	a = action{node: uint8(i), epoch: n.epoch, pos: n.start}
	if n.stage == relisting && n.start > origin && !w.replayOnce && !w.startUnread {
		n.stage, a.verb = asking, findsStart
		if !s.there().has(n.start) {
			n.stage, n.look, a.verb = stale, 0, missesStart
		}
		return a, sound, true
	}
	switch {
	case s.tombstone >= n.start && !w.replayOnce && !w.tombstoneUnread:
		n.stage, n.look, a.verb = stale, 0, findsTombstone
		return a, sound, true
	case n.look == 1:
		a.verb, a.pos, f = meetsCorrupt, n.at, w.alarm(falseCorrupt)
	default:
		a.verb, a.pos, f = ends, n.at, s.judgeReplay(n)
	}
	w.die(n)
	return a, f, true
}

// startOver is the List of a node that found an impossible state. It is possible only if
// there is a checkpoint that the node does not know.
func (w *world) startOver(s *state, i int, newest position) (verb, faults) {
	n := &s.nodes[i]
	deaf := w.differIsCorrupt && n.stage == differing || w.missingCorrupt && n.stage == missing
	switch {
	case w.superseded(s, i, newest):
		w.die(n)
		return gives, sound
	case n.stage == stale && newest <= n.start:
		return listsLess, sound
	case newest <= n.start && s.claims > n.epoch && !w.reader(i) && !w.supersededUnread:
		w.die(n) // the owner above deletes checkpoints without regard to this node
		return gives, sound
	case newest <= n.start || deaf:
		w.die(n)
		return meetsCorrupt, w.alarm(falseCorrupt)
	}
	w.reload(s, i, newest)
	return startsOver, sound
}

// reload starts over from the newest checkpoint.
func (w *world) reload(s *state, i int, newest position) {
	if !w.noReload {
		w.load(s, i, newest)
	}
	s.nodes[i].walk()
}

// alarm returns f if alarms count.
func (w *world) alarm(f faults) faults {
	if w.alarms() {
		return f
	}
	return sound
}

// seal creates the SEAL that was sent.
func (w *world) seal(s *state, i int) verb {
	n := &s.nodes[i]
	e, slot := s.epoch(n.at.epoch()), int(n.look)
	if e.cell(slot) == absent || w.overwrites {
		e.put(slot, seal)
		n.pass()
		return creates
	}
	if w.sealUnread {
		n.pass()
		return believesUnread
	}
	n.stage, n.look = taken, 0
	return meetsTaken
}

// getTaken reads the object that was there before the SEAL.
func (w *world) getTaken(s *state, i int) verb {
	n := &s.nodes[i]
	if c := s.cell(n.at); c != absent {
		w.take(s, i, c)
		return getsAgain
	}
	if w.vanishedHole {
		w.end(s, i)
		return meetsHole
	}
	n.stage = listing
	return vanishes
}

// relist is the List after the walk.
func (w *world) relist(s *state, i int, newest position) (verb, faults) {
	n := &s.nodes[i]
	skip := w.noSecondList && !w.reader(i)
	switch {
	case !skip && w.superseded(s, i, newest):
		w.die(n)
		return gives, sound
	case !skip && newest > n.start:
		w.reload(s, i, newest)
		return startsOver, sound
	case w.reader(i):
		f := s.judgeReplay(n)
		w.die(n)
		return ends, f
	}
	n.send(s)
	return listsClean, sound
}

// send sends the header: from then on it may take effect.
func (n *node) send(s *state) {
	e := s.epoch(int(n.epoch))
	if n.alt&1 == 0 {
		e.head = n.view.before(int(n.epoch))
		e.flags |= headed
	} else {
		e.alt |= 1
	}
	n.stage = heading
}

// head creates the header that was sent.
func (w *world) head(s *state, i int) (verb, faults) {
	n := &s.nodes[i]
	e := s.epoch(int(n.epoch))
	mine := data
	if n.alt&1 != 0 {
		mine = other
	}
	switch c := e.cell(0); {
	case c == absent || w.overwrites:
		e.put(0, mine)
	case c == seal && !w.existsIsMine:
		w.die(n)
		return gives, sound
	case c != mine && c != seal:
		w.die(n)
		return meetsForeign, w.alarm(falseForeign)
	}
	n.own(s)
	return owns, sound
}

// own begins the epoch.
func (n *node) own(s *state) {
	s.epoch(int(n.epoch)).flags |= begun
	*n = node{stage: owning, epoch: n.epoch, start: n.start, at: at(int(n.epoch), 1), view: n.view, alt: n.alt}
}
