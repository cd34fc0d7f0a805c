package model

// What format level 2 adds: DATA tells which slots before it were acknowledged when it was
// sent, and an owner that ends in good order leaves a CLOSING. A folder knows for a while
// what it has deleted. All of this can only show that a slot is missing.

// open returns the slot up to which all were acknowledged when the given one was sent, or -1
// if nothing says so.
func (e *epoch) open(slot int) int { return int(e.opens>>(3*slot)&7) - 1 }

// noteOpen records what the DATA that the owner has just sent says.
func (w *world) noteOpen(s *state, i int) {
	n := &s.nodes[i]
	if !w.level2 {
		return
	}
	acked := n.at.slot() - 1
	if w.openUnacked {
		acked = int(n.sent) - 1
	}
	s.epoch(int(n.epoch)).opens |= uint16(acked+1) << (3 * n.sent)
}

// close ends an owner all of whose slots are acknowledged.
func (w *world) close(s *state, x *steps, i int) {
	n := &s.nodes[i]
	p := at(int(n.epoch), int(n.sent)+1)
	next := &x.fork(s, closes, i, p).state
	next.epoch(p.epoch()).closer = uint8(p.slot())
	w.die(&next.nodes[i])
}

// delete removes the object at p, below the checkpoint bound. The bucket may forget a
// deletion at any time, and knows of none after the end of an epoch.
func (w *world) delete(s *state, p, bound position) {
	e := s.epoch(p.epoch())
	e.put(p.slot(), absent)
	if w.level2 && p < bound && (p.epoch() == bound.epoch() || p.slot() < s.saved(bound.epoch()).cut(p.epoch())) {
		e.gone = max(e.gone, uint8(p.slot()+1))
	}
}
