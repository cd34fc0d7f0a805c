package model

// own is what an owner may do. It stops acknowledging by dying: one that meets a
// SEAL and goes on all the same waits for a slot that will never be its own.
func (w *world) own(s *state, x *steps, i int) {
	n := &s.nodes[i]
	acked := n.at.slot() - 1
	if int(n.sent) < w.slots && int(n.sent)-acked < w.depth {
		next := &x.fork(s, sends, i, at(int(n.epoch), int(n.sent)+1)).state
		next.nodes[i].write(next)
	}
	for slot := acked + 1; slot <= int(n.sent); slot++ {
		if n.known>>slot&1 == 0 {
			w.hear(s, x, i, slot)
		}
	}
	p := n.at
	if w.saveUnacked {
		p = at(int(n.epoch), int(n.sent)+1)
	}
	w.save(s, x, sendsSave, i, p)
	if w.slowList && (w.sweepBlind || s.claims == n.epoch) {
		// It removes what is older than the newest that it knows, having found
		// no claim above its own after that had become durable.
		known := n.start
		if s.newest.epoch() == int(n.epoch) {
			known = s.newest
		}
		if known > max(s.doomed, origin) {
			x.fork(s, sweeps, i, known).state.doomed = known
		}
	}
	if w.mayFollow(s) {
		p := n.at
		if w.keepUnacked {
			p = at(int(n.epoch), int(n.sent)+1)
		}
		x.fork(s, stepsDown, i, p).state.nodes[i] = node{stage: following, at: p, view: n.view}
	}
}

// write sends the next slot.
func (n *node) write(s *state) {
	n.sent++
	e := s.epoch(int(n.epoch))
	if n.alt>>n.sent&1 != 0 {
		e.alt |= 1 << n.sent
	} else {
		e.sent = max(e.sent, n.sent)
	}
}

// hear is the answer for a slot that flies: of this Create, which lands now, or
// of the Get after one that met ErrExists.
func (w *world) hear(s *state, x *steps, i, slot int) {
	n := &s.nodes[i]
	p := at(int(n.epoch), slot)
	c, mine := s.cell(p), data
	if n.alt>>slot&1 != 0 {
		mine = other
	}
	free := c == absent || w.overwrites
	switch {
	case free || c == mine || w.existsIsMine:
		next := &x.fork(s, hears, i, p).state
		if free {
			next.epoch(p.epoch()).put(slot, mine)
		}
		w.acknowledge(next, i, slot)
	case c != seal:
		next := x.fork(s, meetsForeign, i, p)
		next.faults = w.alarm(falseForeign)
		w.die(&next.state.nodes[i])
	}
	if c != absent {
		return
	}
	if w.reuseSlot && mine == data {
		next := &x.fork(s, reuses, i, p).state
		next.nodes[i].alt |= 1 << slot
		next.epoch(p.epoch()).alt |= 1 << slot
	}
	if w.unknownIsDone {
		w.acknowledge(&x.fork(s, assumes, i, p).state, i, slot)
	}
	if w.ackDuplicate {
		next := &x.fork(s, answers, i, p).state
		next.epoch(p.epoch()).ack(slot, mine)
	}
}

// acknowledge notes that a slot is durable, and acknowledges all that may be. To
// do so at once is the strictest: what is acknowledged is only ever held
// against others, and an owner that is slower can do less.
func (w *world) acknowledge(s *state, i, slot int) {
	n := &s.nodes[i]
	e := s.epoch(int(n.epoch))
	n.known |= 1 << slot
	for n.known>>n.at.slot()&1 != 0 {
		slot := n.at.slot()
		e.ack(slot, n.bytes(slot))
		n.known &^= 1 << slot
		n.at++
	}
	if w.ackOutOfOrder {
		e.ack(slot, n.bytes(slot))
	}
}

// bytes returns which bytes the owner sent last for a slot.
func (n *node) bytes(slot int) content {
	if n.alt>>slot&1 != 0 {
		return other
	}
	return data
}

// ack acknowledges the slots up to the given one.
func (e *epoch) ack(slot int, c content) {
	if slot > int(e.acked) {
		e.acked = uint8(slot)
	}
	if c == other {
		e.marks |= 1 << slot
	}
}

// readAlong is what a standby may do.
func (w *world) readAlong(s *state, x *steps, i int) {
	n := &s.nodes[i]
	if n.stage == doubting {
		w.doubt(s, x, i)
		return
	}
	if int(s.claims) < w.epochs {
		w.claim(s, x, i, n.at, n.view)
	}
	switch c := s.cell(n.at); {
	case c == absent && s.newest > n.at:
		w.loadAgain(s, x, i)
	case c == absent:
	case c == seal:
		x.fork(s, seesSeal, i, n.at).state.nodes[i].stage = doubting
	case n.at.slot() == 0 && c == data && !w.noHeaderWay && s.epoch(n.at.epoch()).head != n.view:
		if s.newest > n.at {
			w.loadAgain(s, x, i)
			return
		}
		next := x.fork(s, meetsCorrupt, i, n.at)
		next.faults = w.alarm(falseCorrupt)
		w.die(&next.state.nodes[i])
	default:
		x.fork(s, tails, i, n.at).state.nodes[i].at++
	}
}

// doubt is what a standby may do that has read a SEAL (rule 9).
func (w *world) doubt(s *state, x *steps, i int) {
	n := &s.nodes[i]
	if s.newest > n.at {
		w.loadAgain(s, x, i)
	} else {
		x.fork(s, believesList, i, n.at).state.nodes[i].believe()
	}
	next := n.at.nextEpoch()
	way := n.view.with(n.at.epoch(), n.at.slot())
	agrees := s.cell(next) == data && (w.noHeaderWay || s.epoch(next.epoch()).head == way)
	switch {
	case agrees:
		x.fork(s, believesHeader, i, n.at).state.nodes[i].believe()
	case w.readerTrusts:
		x.fork(s, believesUnread, i, n.at).state.nodes[i].believe()
	}
}

// loadAgain is the List of a standby that shows a checkpoint beyond its position.
func (w *world) loadAgain(s *state, x *steps, i int) {
	n := &x.fork(s, reloads, i, s.newest).state.nodes[i]
	*n = node{stage: following, at: s.newest, view: s.saved(s.newest.epoch())}
}

// believe goes on to the next epoch.
func (n *node) believe() {
	n.view = n.view.with(n.at.epoch(), n.at.slot())
	n.at = n.at.nextEpoch()
	n.stage = following
}
