package model

// own adds the steps of an owner. It stops acknowledging by dying: one that finds a
// SEAL and goes on waits for a slot that will never be its own.
func (w *world) own(s *state, x *steps, i int) {
	n := &s.nodes[i]
	acked := n.at.slot() - 1
	if int(n.sent) < w.slots && int(n.sent)-acked < w.depth && n.look == 0 {
		next := &x.fork(s, sends, i, at(int(n.epoch), int(n.sent)+1)).state
		next.nodes[i].write(next)
		w.noteOpen(next, i)
		w.sendDrop(s, x, i)
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
	if w.tracked() {
		w.cleanUp(s, x, i)
	}
	if w.keeps {
		w.remove(s, x, i)
	}
	if w.level2 && n.look == 0 && (int(n.sent) == acked || w.closeUnacked) {
		w.close(s, x, i)
	}
	if w.yields {
		w.yield(s, x, i)
	}
	if w.mayFollow(s) {
		p := n.at
		if w.keepUnacked {
			p = at(int(n.epoch), int(n.sent)+1)
		}
		x.fork(s, stepsDown, i, p).state.nodes[i] = node{stage: following, at: p, view: n.view}
	}
}

// cleanUp adds the steps of an owner that deletes slots before the newest
// checkpoint that it knows.
func (w *world) cleanUp(s *state, x *steps, i int) {
	n := &s.nodes[i]
	known := s.known(n)
	if known > max(s.swept, origin) && (w.sweepBlind || s.claims == n.epoch) {
		// It has found no claim above its own after known had become durable.
		x.fork(s, deletesSaves, i, known).state.swept = known
	}
	if !w.replay {
		return
	}
	e := s.epoch(int(n.epoch))
	for slot := s.newestOf(int(n.epoch)) + 1; slot <= w.slots+1; slot++ {
		if bit := uint8(1) << slot; e.saves&bit != 0 && e.there&bit == 0 {
			p := at(int(n.epoch), slot)
			next := &x.fork(s, hearsSave, i, p).state
			next.newest = max(next.newest, p)
			next.epoch(int(n.epoch)).there |= bit
			if w.echoes {
				next.epoch(int(n.epoch)).clear |= bit
			} else {
				next.epoch(int(n.epoch)).saves &^= bit
			}
		}
	}
	if known <= origin || w.follow && known == n.start {
		return // there is none, or only one from the time as a standby
	}
	switch p := w.tombstoneAt(s, int(n.epoch), known); {
	case s.tombstone < p:
		x.fork(s, writesTombstone, i, p).state.tombstone = p
	case s.cut < known:
		x.fork(s, truncates, i, known).state.cut = known
	}
}

// tombstoneAt returns the newest checkpoint before known, or a place after it, that
// may be there or come back once the owner of the epoch deletes slots before
// known. The tombstone must be there first.
func (w *world) tombstoneAt(s *state, epoch int, known position) position {
	if known.epoch() < epoch {
		return known - 1
	}
	var p position
	if !w.noTombstone {
		p = at(epoch, 0)
	}
	e := s.epoch(epoch)
	for slot := 1; slot < known.slot(); slot++ {
		if (e.saves&^e.clear)>>slot&1 != 0 && !w.trustUnclear || e.there>>slot&1 != 0 && !w.cutFirst {
			p = at(epoch, slot)
		}
	}
	return p
}

// newestOf returns the slot of the newest checkpoint of the epoch that ever was
// durable, 0 if there was none.
func (s *state) newestOf(epoch int) int {
	if s.newest.epoch() == epoch {
		return s.newest.slot()
	}
	return 0
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

// hear is the answer for a slot in flight: of this Create, which takes effect now, or
// of the Get after a Create that got ErrExists.
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
// do so at once is the strictest case: acknowledged slots are only compared
// with other nodes' logs, and a slower owner can do less.
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

// bytes returns which bytes the owner last sent for a slot.
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

// readAlong adds the steps of a standby.
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

// doubt adds the steps of a standby that has read a SEAL (rule 9).
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
