package model

// What format level 2 adds: DATA tells which slots before it were acknowledged when it was
// sent, and an owner that ends in good order leaves a CLOSING. A folder knows for a while
// what it has deleted. All that only ever shows that a slot is missing.

// open returns the slot up to which all were acknowledged when the given one was sent; -1:
// nothing says so.
func (e *epoch) open(slot int) int { return int(e.opens>>(3*slot)&7) - 1 }

// noteOpen notes what the DATA says that the owner has just sent.
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

// delete takes away what lies at p, below the checkpoint bound. Of a deletion behind the
// end of an epoch the bucket knows nothing: it may forget any.
func (w *world) delete(s *state, p, bound position) {
	e := s.epoch(p.epoch())
	e.put(p.slot(), absent)
	if w.level2 && p < bound && (p.epoch() == bound.epoch() || p.slot() < s.saved(bound.epoch()).cut(p.epoch())) {
		e.gone = max(e.gone, uint8(p.slot()+1))
	}
}
