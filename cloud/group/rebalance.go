package group

import (
	"slices"
	"time"
)

// rebalance begins to gather the members of the next generation. If that is under
// way, it checks whether all are here.
func (g *group) rebalance() {
	if g.state == PreparingRebalance {
		g.tryFinishJoin()
		return
	}
	fresh := g.state == Empty
	g.endPhase()
	g.state = PreparingRebalance
	for _, m := range g.members {
		m.answerSync(SyncResponse{}, ErrRebalanceInProgress)
	}
	if delay := g.c.opts.InitialDelay; fresh && delay > 0 {
		g.settling = true
		g.settled = time.Now().Add(g.patience())
		g.startPhase(delay, (*group).settle)
		return
	}
	g.startPhase(g.patience(), (*group).endJoin)
	g.tryFinishJoin()
}

// settle lets a group that starts empty wait for more members. Consumers that are
// started together then share the first generation, instead of rebalancing once for
// each of them. Each new member prolongs the wait.
func (g *group) settle() {
	if delay := g.c.opts.InitialDelay; g.newcomers && time.Until(g.settled) > delay {
		g.newcomers = false
		g.startPhase(delay, (*group).settle)
		return
	}
	g.settling = false
	g.startPhase(max(time.Until(g.settled), 0), (*group).endJoin)
	g.tryFinishJoin()
}

// tryFinishJoin ends the gathering when every member waits in a Join, and no member
// that was given an id still has to come back with it.
func (g *group) tryFinishJoin() {
	if g.state != PreparingRebalance || g.settling || len(g.pending) > 0 {
		return
	}
	for _, m := range g.members {
		if m.join == nil {
			return
		}
	}
	g.finishJoin()
}

// endJoin ends the gathering when its time is up. Members that did not come are
// removed; static members keep their place until their session ends.
func (g *group) endJoin() {
	for _, m := range g.inOrder() {
		if m.join == nil && m.instance == "" {
			g.c.opts.Log.Info("group member removed: it did not rejoin in a rebalance", "group", g.id, "member", m.id, "address", m.clientHost)
			g.forget(m, ErrUnknownMember)
		}
	}
	g.finishJoin()
}

// finishJoin makes the next generation and tells its members. It first waits for
// commits of the last generation that are on their way to the bucket: the next reader
// of a partition starts at what was committed, and none of them may be written after one of
// its commits.
func (g *group) finishJoin() {
	if g.inFlight > 0 {
		g.held = true
		return
	}
	g.held = false
	ms := g.inOrder()
	first := slices.IndexFunc(ms, func(m *member) bool { return m.join != nil })
	if first < 0 && len(ms) > 0 { // all are static members that are away: there is no leader
		g.startPhase(g.patience(), (*group).endJoin)
		return
	}
	g.endPhase()
	g.generation++
	if len(ms) == 0 {
		g.state, g.protocol, g.leader = Empty, "", ""
		return
	}
	g.state = CompletingRebalance
	g.protocol = g.choose()
	if m, ok := g.members[g.leader]; !ok || m.join == nil {
		g.leader = ms[first].id
	}
	for _, m := range ms {
		g.assign(m, nil)
		m.synced = m.join == nil // a static member that is away does not know of this generation
		if m.join != nil {
			m.join <- joinAnswer{JoinResponse: g.joined(m)}
			m.join, m.anonymous = nil, false
			m.touch()
		}
	}
	g.startPhase(g.patience(), (*group).endSync)
}

// finishSync stores the leader's assignments. The generation is stable, and each
// member that has asked gets its own.
func (g *group) finishSync(assignments map[string][]byte) {
	g.state = Stable
	for id, m := range g.members {
		g.assign(m, assignments[id])
		if m.sync != nil {
			m.answerSync(g.assigned(m), nil)
			m.touch()
		}
	}
}

// endSync removes members that joined and did not ask for their assignment.
func (g *group) endSync() {
	silent := 0
	for _, m := range g.inOrder() {
		if !m.synced {
			g.c.opts.Log.Info("group member removed: it did not sync after a rebalance", "group", g.id, "member", m.id, "address", m.clientHost)
			g.forget(m, ErrUnknownMember)
			silent++
		}
	}
	if silent > 0 {
		g.rebalance()
	}
}

// startPhase sets the group's one timer; the previous one has no effect any more.
func (g *group) startPhase(d time.Duration, then func(*group)) {
	g.endPhase()
	phase := g.phase
	g.timer = time.AfterFunc(d, func() {
		g.c.mu.Lock()
		defer g.c.mu.Unlock()
		if g.phase == phase && !g.c.closed {
			then(g)
			g.dropIdle()
		}
	})
}

func (g *group) endPhase() {
	g.phase++
	if g.timer != nil {
		g.timer.Stop()
	}
}
