package model

// next adds all steps that may follow s to x.
func (w *world) next(s *state, x *steps) {
	x.n = 0
	w.bucket(s, x)
	for i := range w.nodes {
		n := &s.nodes[i]
		switch n.stage {
		case idle:
			w.start(s, x, i)
			continue
		case following, doubting:
			w.readAlong(s, x, i)
		case owning:
			w.own(s, x, i)
		default:
			w.recover(s, x, i)
		}
		w.die(&x.fork(s, dies, i, 0).state.nodes[i])
	}
	if w.replay {
		w.replays(s, x, w.nodes)
	}
}

// bucket lets requests arrive that are under way. A Create that was sent can take effect
// whenever its name is free: late, after its answer was lost, or for the second
// time. If it is lost, it never takes effect.
func (w *world) bucket(s *state, x *steps) {
	if int(s.claims) < w.epochs {
		next := x.fork(s, strangerClaims, 0, 0)
		next.state.claims++
		next.epoch = next.state.claims
	}
	bound := w.bound(s)
	for e := 1; e <= int(s.claims); e++ {
		o := s.epoch(e)
		for slot := range w.slots + 2 {
			p := at(e, slot)
			free := o.cell(slot) == absent
			if free || w.overwrites {
				w.land(s, x, p)
			}
			if !free && w.deletable(s, p, bound) {
				w.delete(&x.fork(s, slotDeleted, 0, p).state, p, bound)
			}
			w.bucketSave(s, x, p)
		}
		if o.closer > o.closed {
			x.fork(s, closingLands, 0, at(e, int(o.closer))).state.epoch(e).closed = o.closer
		}
	}
}

// bucketSave lets the Create of checkpoint p arrive. Whether older checkpoints
// than the newest are there matters only if Lists are slow.
func (w *world) bucketSave(s *state, x *steps, p position) {
	e, bit := s.epoch(p.epoch()), uint8(1)<<p.slot()
	if e.saves&bit != 0 && e.there&bit == 0 {
		next := &x.fork(s, saveLands, 0, p).state
		next.newest = max(next.newest, p)
		if w.tracked() {
			next.epoch(p.epoch()).there |= bit
		} else {
			next.epoch(p.epoch()).saves &^= bit
		}
	}
	if e.there&bit != 0 && p < s.swept {
		x.fork(s, saveDeleted, 0, p).state.epoch(p.epoch()).there &^= bit
	}
}

// land stores in slot p what was sent for it.
func (w *world) land(s *state, x *steps, p position) {
	e, slot := s.epoch(p.epoch()), p.slot()
	switch {
	case slot == 0 && e.flags&headed != 0:
		next := x.fork(s, headerLands, 0, p).state.epoch(p.epoch())
		next.put(0, data)
		next.flags |= begun
	case slot > 0 && slot <= int(e.sent):
		x.fork(s, dataLands, 0, p).state.epoch(p.epoch()).put(slot, data)
	}
	if e.alt>>slot&1 != 0 {
		x.fork(s, otherLands, 0, p).state.epoch(p.epoch()).put(slot, other)
	}
	if slot > 0 && slot == int(e.own) {
		x.fork(s, ownSealLands, 0, p).state.epoch(p.epoch()).putOwn()
	}
	if e.seals>>slot&1 != 0 {
		x.fork(s, sealLands, 0, p).state.epoch(p.epoch()).put(slot, seal)
	}
}

// bound returns the checkpoint below which slots are deleted. Any node may delete them
// that knows that the checkpoint is durable; here it is enough that it is.
func (w *world) bound(s *state) position {
	if w.replay {
		return s.cut // where it matters who deletes what, knowing what
	}
	p := s.newest
	if !w.deleteEarly {
		return p
	}
	for e := 1; e <= int(s.claims); e++ {
		for slot := range w.slots + 2 {
			if s.epoch(e).saves>>slot&1 != 0 {
				p = max(p, at(e, slot))
			}
		}
	}
	return p
}

// deletable reports whether a node may have sent a Delete for the slot p: it
// is below a checkpoint and had DATA or a HEADER in it. The Delete removes what
// is there when it arrives. The SEAL's slot is never deleted.
func (w *world) deletable(s *state, p, bound position) bool {
	if w.keeps && p == piece {
		return s.removed
	}
	if p.epoch() >= bound.epoch() {
		return p < bound || w.deleteBeyond && p == bound
	}
	return w.deleteSeals || p.slot() != s.saved(bound.epoch()).cut(p.epoch())
}

// start adds the steps of an idle node.
func (w *world) start(s *state, x *steps, i int) {
	if n := &s.nodes[i]; w.resumeByNode && n.epoch != 0 && n.epoch == s.claims {
		next := x.fork(s, resumes, i, 0)
		next.epoch = n.epoch
		next.state.nodes[i] = node{stage: listing, epoch: n.epoch, start: origin, at: origin, alt: 0xfe}
	}
	if w.claimUnread && s.claims > 0 {
		next := x.fork(s, claimsTaken, i, 0)
		next.epoch = s.claims
		next.state.nodes[i] = node{stage: listing, epoch: s.claims, start: origin, at: origin, alt: 0xff}
	}
	if int(s.claims) < w.epochs {
		w.claim(s, x, i, origin, 0)
	}
	if w.standby && int(s.claims) < w.epochs {
		w.standbys(s, x, i)
	}
	if w.mayFollow(s) && s.claims > 0 {
		next := x.fork(s, follows, i, max(s.newest, origin))
		n := &next.state.nodes[i]
		*n = node{stage: following, at: origin}
		if s.newest > origin {
			n.at, n.view = s.newest, s.saved(s.newest.epoch())
		}
	}
}

// mayFollow reports whether a node may begin to read along. One at a time is
// enough, because it changes nothing.
func (w *world) mayFollow(s *state) bool {
	for i := range w.nodes {
		if n := s.nodes[i].stage; n == following || n == doubting {
			return false
		}
	}
	return w.follow
}

// claim takes the next epoch, from the position of the claimant. A claimant that is
// too late has lost only a number: it is like one that has not begun.
func (w *world) claim(s *state, x *steps, i int, from position, way view) {
	v := claims
	if from > origin {
		v = claimsStanding
	}
	next := x.fork(s, v, i, from)
	next.state.claims++
	next.epoch = next.state.claims
	next.state.nodes[i] = node{stage: listing, epoch: next.epoch, start: from, at: from, view: way}
}

// standbys lets a node claim from every position that a standby may have read to: as
// far as there are slots, and not before the newest checkpoint, where it would
// be like any other. The slots that it has read cannot have been deleted.
func (w *world) standbys(s *state, x *steps, i int) {
	p, way := origin, view(0)
	if s.newest > p {
		p, way = s.newest, s.saved(s.newest.epoch())
	}
	for {
		switch s.cell(p) {
		case absent:
			return
		case seal:
			way = way.with(p.epoch(), p.slot())
			p = p.nextEpoch()
		default:
			p++
		}
		w.claim(s, x, i, p, way)
	}
}

// recover adds the steps of a claimant, and of a reader in its replay.
func (w *world) recover(s *state, x *steps, i int) {
	n := &s.nodes[i]
	lists := n.stage == listing || n.stage == missing || n.stage == differing || n.stage == stale ||
		n.stage == relisting && (w.replayLists || !w.reader(i))
	if w.slow(i) && lists {
		w.listSlowly(s, x, i)
		return
	}
	next := x.fork(s, begins, i, 0)
	next.action, next.faults, _ = w.advance(&next.state, i)
	switch n.stage {
	case walking:
		if w.window && n.ahead == 0 {
			x.fork(s, readsAhead, i, n.at).state.nodes[i].ahead = s.cell(n.at+1) + 1
		}
		if w.unsealedHeader && !w.reader(i) {
			m := &x.fork(s, headsEarly, i, n.at).state
			m.nodes[i].view = n.view.with(n.at.epoch(), n.at.slot())
			m.nodes[i].send(m)
		}
	case relisting:
		if last := &x.all[x.n-1]; w.headerLate && last.verb == listsClean {
			next := x.fork(&last.state, ownsEarly, i, 0)
			next.epoch = n.epoch
			next.state.nodes[i].own(&next.state)
		}
		if w.staleList {
			m := &x.fork(s, listsClean, i, 0).state
			m.nodes[i].send(m)
		}
	case heading:
		if w.saveUnheaded {
			w.save(s, x, savesEarly, i, at(int(n.epoch), 1))
		}
	}
}

// listSlowly is a List of checkpoints that takes its time. It shows those that
// were there before it began and still are when it ends; of those that came or
// went meanwhile any, or none. One that shows less than is known is repeated.
func (w *world) listSlowly(s *state, x *steps, i int) {
	n := &s.nodes[i]
	there := s.there()
	if n.seen == 0 {
		x.fork(s, beginsList, i, 0).state.nodes[i].seen = there | underWay
		return
	}
	newest := (n.seen & there).top()
	for {
		next := x.fork(s, begins, i, newest)
		if newest < n.start && n.start > origin || n.stage == stale && newest <= n.start {
			next.verb = listsLess
			next.state.nodes[i].seen = 0
		} else {
			next.action, next.faults = w.list(&next.state, i, newest)
		}
		for newest++; newest <= s.newest && !there.has(newest); newest++ {
		}
		if newest > s.newest {
			return
		}
	}
}

// save sends a checkpoint, if that can change anything: one that is older than the
// newest matters only where they are tracked.
func (w *world) save(s *state, x *steps, v verb, i int, p position) {
	old := p <= s.newest && (!w.tracked() || p.epoch() == s.newest.epoch())
	if e := s.epoch(p.epoch()); s.left == 0 || old || e.saves>>p.slot()&1 != 0 {
		return
	}
	next := &x.fork(s, v, i, p).state
	next.left--
	next.epoch(p.epoch()).saves |= 1 << p.slot()
}

// replays adds the steps of the node that only reads. It lists the claims first.
func (w *world) replays(s *state, x *steps, i int) {
	if s.nodes[i].stage != idle {
		w.recover(s, x, i)
		return
	}
	if s.claims == 0 {
		return
	}
	next := x.fork(s, replays, i, 0)
	next.epoch = s.claims + 1
	n := &next.state.nodes[i]
	*n = node{stage: listing, epoch: s.claims + 1, start: origin, at: origin}
	if last := s.last(); last > 0 {
		// What was acknowledged in older epochs is before this one's header.
		n.known = uint8(at(last, int(s.epoch(last).acked)))
	}
}
