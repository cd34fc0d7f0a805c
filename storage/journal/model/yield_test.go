package model

// putOwn stores the SEAL that the owner sent.
func (e *epoch) putOwn() {
	e.put(int(e.own), seal)
	e.flags |= ownSealed
}

// yield adds the steps of an owner that hands over: it goes on under a higher claim, and
// then ends its epoch with a SEAL of its own.
func (w *world) yield(s *state, x *steps, i int) {
	n := &s.nodes[i]
	e, p := s.epoch(int(n.epoch)), at(int(n.epoch), int(n.sent)+1)
	switch {
	case n.look == 0:
		next := &x.fork(s, yields, i, p).state
		m := &next.nodes[i]
		m.look = 1
		o := next.epoch(int(n.epoch))
		o.own, o.owned = uint8(p.slot()), uint8(n.at.slot()-1)
		for slot := n.at.slot(); w.yieldUnacked && slot <= int(n.sent); slot++ {
			w.acknowledge(next, i, slot)
		}
		w.confirm(s, x, i)
	case n.look == 1 && (s.cell(p) == absent || s.cell(p) == seal && e.flags&ownSealed != 0):
		next := &x.fork(s, hearsYield, i, p).state
		next.epoch(int(n.epoch)).putOwn()
		next.nodes[i].look = 2
	}
}

// confirm is an owner that asks whether it still owns the shard, when there is one higher
// claim, and goes on.
func (w *world) confirm(s *state, x *steps, i int) {
	n := &s.nodes[i]
	if s.claims != n.epoch+1 {
		return
	}
	first, last := n.at.slot(), int(n.sent)+1
	switch {
	case w.confirmBlind:
		first = last + 1
	case w.headerAsked:
		if s.cell(at(int(s.claims), 0)) != absent {
			return
		}
		first = last + 1
	case w.flyingUnread:
		first = last
	}
	for slot := first; slot <= last; slot++ {
		if s.cell(at(int(n.epoch), slot)) == seal {
			return
		}
	}
	next := x.fork(s, confirms, i, 0)
	if s.last() > int(n.epoch) {
		next.faults = staleRead
	}
}
