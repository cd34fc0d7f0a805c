package model

// reduce maps all states that no later step can tell apart to one.
// It returns where each node was before. TestReduction compares the result with
// a search without reductions.
func (w *world) reduce(s *state) (order [maxNodes]uint8) {
	if w.plain && !w.unreduced {
		last := s.last()
		var ends [maxEpochs + 1]int
		for e := 1; e <= int(s.claims); e++ {
			ends[e-1] = s.end(e, last)
			w.reduceEpoch(s, e, last, ends[e-1])
		}
		for i := range s.nodes {
			switch {
			case !w.slow(i):
				w.reduceNode(s, i, &ends)
			case w.reader(i):
				w.reduceReader(s, &s.nodes[i])
			}
		}
		if !w.slowList {
			w.forget(s, last)
		}
	}
	return w.sort(s)
}

// end returns the slot of the SEAL of epoch e that no node will ever delete, or a
// slot after all others.
func (s *state) end(e, last int) int {
	if e < last {
		return s.epoch(last).head.cut(e)
	}
	for slot, o := 0, s.epoch(e); slot < 7; slot++ {
		if at(e, slot) >= s.newest && o.cell(slot) == seal && !s.early(e, slot) {
			return slot
		}
	}
	return 7
}

// early reports whether the SEAL in a slot is the owner's, and one of the slots before it
// may still end the epoch.
func (s *state) early(e, seal int) bool {
	o := s.epoch(e)
	if seal != int(o.own) || o.flags&ownSealed == 0 {
		return false
	}
	slot := 0
	if s.newest.epoch() == e {
		slot = s.newest.slot()
	}
	return o.free(slot) != seal
}

// reduceEpoch drops what is, or may arrive, at the end and after it. It cannot
// hide the slots before, and no checkpoint reaches beyond it.
func (w *world) reduceEpoch(s *state, e, last, end int) {
	o := s.epoch(e)
	o.cells &= 1<<(2*end+2) - 1
	o.seals &= 1<<end - 1
	o.opens &= 1<<(3*end) - 1
	o.drops &= 1<<end - 1
	o.adopts &= 1<<end - 1
	o.sent = uint8(min(int(o.sent), entries(end)))
	if int(o.own) > end || int(o.own) == end && o.flags&ownSealed == 0 {
		o.own, o.owned = 0, 0
		o.flags &^= ownSealed
	}
	if o.flags&begun == 0 && (end == 0 || e < last) {
		o.flags, o.head = 0, 0
	}
	if e < last {
		o.acked = 0 // checked when the later epoch began, and when it was acknowledged
	}
	switch {
	case w.slowList:
	case w.replay:
		w.reduceSaves(s, e)
	case e < s.newest.epoch():
		o.saves = 0
	case e == s.newest.epoch():
		o.saves &^= 1<<(s.newest.slot()+1) - 1
	}
}

// reduceSaves drops older checkpoints if no replay stands on one, and their owner
// needs no tombstone for them.
func (w *world) reduceSaves(s *state, e int) {
	o := s.epoch(e)
	keep := false // an owner needs them
	for i := range w.nodes {
		n := &s.nodes[i]
		keep = keep || int(n.epoch) == e && (n.stage == owning || n.stage == heading)
	}
	for slot := 1; slot <= w.slots+1 && at(e, slot) < s.newest; slot++ {
		if p := at(e, slot); p <= s.tombstone || !keep && s.nodes[w.nodes].start != p {
			o.saves &^= 1 << slot
			o.there &^= 1 << slot
		}
	}
}

// reduceNode drops what the node will not use again.
func (w *world) reduceNode(s *state, i int, ends *[maxEpochs + 1]int) {
	n := &s.nodes[i]
	stale := s.newest > n.start
	if w.reader(i) {
		w.reduceReader(s, n)
		stale = false
	}
	switch n.stage {
	case idle, following, doubting:
		return
	case owning:
		end := ends[n.epoch-1]
		n.sent = uint8(min(int(n.sent), entries(end)))
		n.known &= 1<<end - 1
		if !w.replay {
			n.start = 0
		}
		return
	case heading:
		if ends[n.epoch-1] == 0 {
			w.die(n) // it can only find the SEAL
			return
		}
		n.at = 0
		if !w.replay {
			n.start = 0
		}
		return
	case listing, relisting, missing, differing:
		if w.superseded(s, i, s.newest) {
			w.die(n)
			return
		}
		if stale { // it will forget everything
			n.at, n.view, n.look = 0, 0, 0
		}
	}
	if stale {
		n.start = 0
	}
	if e := n.at.epoch(); n.ahead != 0 && n.at.slot() >= ends[e-1] {
		n.ahead = 0
	}
}

// reduceReader makes a replay whose start is gone one that knows it, or one that has just
// begun if Lists show the newest: it can only find out, and changes nothing
// before. One that has found its start again, just before it was deleted, goes on.
func (w *world) reduceReader(s *state, n *node) {
	p := n.start
	gone := p > origin && s.epoch(p.epoch()).saves>>p.slot()&1 == 0 && !s.there().has(p) && n.stage != asking
	switch {
	case n.stage == idle || n.stage == listing:
	case !gone && s.tombstone < p:
	case w.slowList:
		*n = node{stage: stale, start: p, epoch: n.epoch, known: n.known, seen: n.seen}
	default:
		*n = node{stage: listing, epoch: n.epoch, known: n.known}
	}
	if position(n.known) < s.newest && (n.stage == listing || position(n.known) < n.at) && !w.slowList {
		n.known = 0 // wherever it ends or starts again, that is before
	}
}

// forget drops the slots below the newest checkpoint, except the kept one. Once that is
// removed, a SEAL in its place means nothing.
func (w *world) forget(s *state, last int) {
	c := s.cell(piece)
	s.forget(last)
	if w.keeps && c == data {
		s.epoch(piece.epoch()).put(piece.slot(), data)
	}
}

// forget drops slots below the newest checkpoint, except the SEALs, if no node
// can come there any more.
func (s *state) forget(last int) {
	for e := 1; e <= s.newest.epoch(); e++ {
		o := s.epoch(e)
		slots := s.newest.slot()
		if e < s.newest.epoch() {
			slots = s.epoch(last).head.cut(e)
		}
		if o.gone > 0 && int(o.gone) <= slots && !s.visited(at(e, int(o.gone)-1)) {
			o.gone = 0
		}
		for slot := range slots {
			if (o.cell(slot) != absent || o.seals>>slot&1 != 0) && !s.visited(at(e, slot)) {
				o.put(slot, absent)
				o.seals &^= 1 << slot
			}
		}
	}
}

// visited reports whether a node may still get slot p.
func (s *state) visited(p position) bool {
	for i := range s.nodes {
		switch n := &s.nodes[i]; n.stage {
		case following, doubting:
			if n.at <= p {
				return true
			}
		case walking, rechecking, begunLater, sealing, taken:
			if n.at <= p && p.epoch() < int(n.epoch) {
				return true
			}
		case heading:
			if p == at(int(n.epoch), 0) {
				return true
			}
		case owning:
			if n.at <= p && p.epoch() == int(n.epoch) {
				return true
			}
		}
	}
	return false
}

// sort puts the nodes that write in an order, as they are interchangeable.
func (w *world) sort(s *state) (order [maxNodes]uint8) {
	for i := range order {
		order[i] = uint8(i)
	}
	for i := 1; i < w.nodes; i++ {
		for k := i; k > 0 && s.nodes[k].less(&s.nodes[k-1]); k-- {
			s.nodes[k], s.nodes[k-1] = s.nodes[k-1], s.nodes[k]
			order[k], order[k-1] = order[k-1], order[k]
		}
	}
	return order
}

func (n *node) less(m *node) bool {
	a, b := n.rank()
	c, d := m.rank()
	return a < c || a == c && b < d
}

func (n *node) rank() (a, b uint64) {
	a = uint64(n.stage) | uint64(n.epoch)<<8 | uint64(n.start)<<16 | uint64(n.at)<<24 | uint64(n.view)<<32 | uint64(n.look)<<48
	b = uint64(n.have) | uint64(n.ahead)<<8 | uint64(n.sent)<<16 | uint64(n.known)<<24 | uint64(n.alt)<<32
	return a, b
}
