package group

import (
	"slices"
	"time"
)

// rebalance begins to gather the members of the next generation, or, when that
// is going on, looks whether all are here.
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

// settle ends the wait of a group that starts from empty: consumers that are
// started together then share the first generation instead of rebalancing once
// for each of them. Each newcomer prolongs it.
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

// tryFinishJoin ends the gathering once every member waits in a Join, and nobody
// who was given an id is still on the way back with it.
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

// endJoin ends the gathering when its time is up. Who did not come is out; only
// static members keep their place until their session ends.
func (g *group) endJoin() {
	for _, m := range g.inOrder() {
		if m.join == nil && m.instance == "" {
			g.c.opts.Log.Info("group member missed a rebalance", "group", g.id, "member", m.id, "client", m.clientHost)
			g.forget(m, ErrUnknownMember)
		}
	}
	g.finishJoin()
}

// finishJoin makes the next generation and tells its members. It waits for
// commits of the last one that are still on their way to the bucket: none of them
// can land after a commit of the partition's next reader, and that one starts
// from what was committed.
func (g *group) finishJoin() {
	if g.flying > 0 {
		g.held = true
		return
	}
	g.held = false
	ms := g.inOrder()
	first := slices.IndexFunc(ms, func(m *member) bool { return m.join != nil })
	if first < 0 && len(ms) > 0 { // static members only, all away: nobody could lead
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

// finishSync stores the leader's assignments: the generation is stable, and
// everybody who asked gets its own.
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

// endSync removes those who joined and never asked for their assignment.
func (g *group) endSync() {
	silent := 0
	for _, m := range g.inOrder() {
		if !m.synced {
			g.c.opts.Log.Info("group member did not sync", "group", g.id, "member", m.id, "client", m.clientHost)
			g.forget(m, ErrUnknownMember)
			silent++
		}
	}
	if silent > 0 {
		g.rebalance()
	}
}

// startPhase sets the group's one timer; the last one's firing is void.
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
