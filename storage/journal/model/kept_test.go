package model

// piece is the slot that is kept in worlds that keep one: the first of the log. A state
// in which it is applied refers to it until an entry drops it.
const piece = origin + 1

// refers reports whether the state after the log before p refers to the piece; v says
// where the epochs before that of p end.
func (s *state) refers(v view, p position) (yes bool) {
	for e := 1; e <= p.epoch() && e <= int(s.claims); e++ {
		cut, o := v.cut(e), s.epoch(e)
		if e == p.epoch() {
			cut = p.slot()
		}
		for slot := 1; slot < cut; slot++ {
			yes = at(e, slot) == piece || o.adopts>>slot&1 != 0 || yes && o.drops>>slot&1 == 0
		}
	}
	return yes
}

// sendDrop is the next slot of an owner, with an entry that drops the piece, if that is
// referred to when all is applied that was sent before.
func (w *world) sendDrop(s *state, x *steps, i int) {
	n := &s.nodes[i]
	if !w.keeps {
		return
	}
	p := at(int(n.epoch), int(n.sent)+1)
	if s.refers(n.view, p) {
		next := &x.fork(s, drops, i, p).state
		next.nodes[i].write(next)
		next.epoch(p.epoch()).drops |= 1 << p.slot()
	}
	if w.adoptDropped && s.cell(piece) == data && n.has(piece) && !s.refers(n.view, n.at) {
		next := &x.fork(s, adopts, i, p).state
		next.nodes[i].write(next)
		next.epoch(p.epoch()).adopts |= 1 << p.slot()
	}
}

// has reports whether p is part of what the owner has acknowledged.
func (n *node) has(p position) bool {
	return p < n.at && (p.epoch() == n.at.epoch() || p.slot() < n.view.cut(p.epoch()))
}

// remove is what an owner may do whose acknowledged state does not refer to the piece any
// more, and which knows a checkpoint beyond it.
func (w *world) remove(s *state, x *steps, i int) {
	n := &s.nodes[i]
	end, known := n.at, s.newest
	if w.removeUnacked {
		end = at(int(n.epoch), int(n.sent)+1)
	}
	if w.replay {
		known = s.known(n)
	}
	if s.removed || !n.has(piece) || s.refers(n.view, end) || known <= piece && !w.removeBeyond {
		return
	}
	if w.replay && !w.removeNoTombstone && known > origin && s.tombstone < w.tombstoneAt(s, int(n.epoch), known) {
		return
	}
	x.fork(s, removes, i, piece).state.removed = true
}

// known returns the newest checkpoint that an owner knows to be durable.
func (s *state) known(n *node) position {
	if s.newest.epoch() == int(n.epoch) {
		return s.newest
	}
	return n.start
}
