package group

import (
	"context"
	"slices"
	"time"
)

const maxName = 32767 // bytes of any name: the limit of strings in older versions of the protocol

// Join makes the caller a member of the group's next generation, and waits until that
// is complete. It returns ctx.Err() if ctx ends first. Then a member that was never
// told its id is removed, and any other has one session timeout to come back.
func (c *Coordinator) Join(ctx context.Context, r JoinRequest) (JoinResponse, error) {
	name := r.Group
	m, wait, now := c.startJoin(&r) // r, which may be large, is not used any more
	if wait == nil {
		return now.JoinResponse, now.err
	}
	select {
	case a := <-wait:
		return a.JoinResponse, a.err
	case <-ctx.Done():
		c.abandonJoin(name, m, wait)
		return JoinResponse{}, ctx.Err()
	}
}

// startJoin adds the member to the group. It returns a channel to wait on, or nil and
// the answer.
func (c *Coordinator) startJoin(r *JoinRequest) (*member, chan joinAnswer, joinAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.checkJoin(r); err != nil {
		return nil, nil, joinAnswer{err: err}
	}
	g, ok := c.groups[r.Group]
	switch {
	case ok:
	case r.Member != "":
		return nil, nil, joinAnswer{err: ErrUnknownMember}
	case len(c.groups) >= c.opts.MaxGroups:
		return nil, nil, joinAnswer{err: ErrTooManyGroups}
	default:
		g = c.newGroup(r.Group)
	}
	defer g.dropIdle()
	if !g.convert() || !g.accepts(r) {
		return nil, nil, joinAnswer{err: ErrInconsistentProtocol}
	}
	switch {
	case r.Member != "":
		return g.joinAgain(r)
	case r.Instance != "":
		return g.joinStatic(r)
	default:
		return g.joinNew(r)
	}
}

func (c *Coordinator) checkJoin(r *JoinRequest) error {
	if err := c.serving(r.Group); err != nil {
		return err
	}
	if max(len(r.Instance), len(r.ProtocolType)) > maxName || slices.ContainsFunc(r.Protocols, func(p Protocol) bool { return len(p.Name) > maxName }) {
		return ErrInvalidName
	}
	if c.bytes+protocolBytes(r.Protocols) > c.opts.MaxBytes {
		return ErrGroupFull
	}
	if r.Session < c.opts.MinSession || r.Session > c.opts.MaxSession {
		return ErrInvalidSession
	}
	if r.Rebalance <= 0 { // JoinGroup v0 has none: the session timeout is used
		r.Rebalance = r.Session
	}
	r.Rebalance = min(r.Rebalance, c.opts.MaxSession)
	return nil
}

// serving returns nil if the coordinator may answer for this group.
func (c *Coordinator) serving(group string) error {
	if c.closed || c.log == nil {
		return ErrClosed
	}
	if group == "" || len(group) > maxName {
		return ErrInvalidGroup
	}
	if c.elsewhere(group) {
		return ErrClosed
	}
	return nil
}

// joinNew adds a dynamic member. With RequireID it only returns an id to join again
// with, so that a client that retries after a time-out leaves no dead members
// (KIP-394).
func (g *group) joinNew(r *JoinRequest) (*member, chan joinAnswer, joinAnswer) {
	if len(g.members)+len(g.pending) >= g.c.opts.MaxMembers {
		return nil, nil, joinAnswer{err: ErrGroupFull}
	}
	id := newMemberID(r.ClientID)
	if r.RequireID {
		g.pending[id] = time.AfterFunc(r.Session, func() { g.c.expirePending(g, id) })
		return nil, nil, joinAnswer{JoinResponse: JoinResponse{Generation: -1, Member: id}, err: ErrMemberIDRequired}
	}
	m, wait := g.add(id, r)
	m.anonymous = true
	return m, wait, joinAnswer{}
}

// expirePending forgets an id with which no member has come back.
func (c *Coordinator) expirePending(g *group, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := g.pending[id]; c.closed || !ok {
		return
	}
	delete(g.pending, id)
	g.tryFinishJoin()
	g.dropIdle()
}

// joinStatic adds a static member, or gives it the place of its instance id and
// fences the member that had it before. In a stable group this causes no rebalance.
func (g *group) joinStatic(r *JoinRequest) (*member, chan joinAnswer, joinAnswer) {
	m, ok := g.members[g.instances[r.Instance]]
	if !ok {
		if len(g.members)+len(g.pending) >= g.c.opts.MaxMembers {
			return nil, nil, joinAnswer{err: ErrGroupFull}
		}
		m, wait := g.add(newMemberID(r.Instance), r)
		return m, wait, joinAnswer{}
	}
	before := g.leader
	m.answer(ErrFencedInstance)
	g.rename(m, newMemberID(r.Instance))
	g.update(m, r)
	m.touch()
	if g.state == Stable && g.choose() == g.protocol {
		a := g.joined(m)
		if r.SkipLeader {
			a.SkipAssignment = g.leader == m.id
		} else {
			// Before v9 a member cannot be told to keep the assignment, so it is told that
			// another member leads.
			a.Leader, a.Members = before, nil
		}
		return nil, nil, joinAnswer{JoinResponse: a}
	}
	wait := m.awaitJoin()
	g.rebalance()
	return m, wait, joinAnswer{}
}

func (g *group) rename(m *member, id string) {
	delete(g.members, m.id)
	if g.leader == m.id {
		g.leader = id
	}
	m.id = id
	g.members[id] = m
	g.instances[m.instance] = id
}

// joinAgain handles the Join of a member that has an id: it answers a rebalance,
// comes back with the id that it was given, wants another rebalance, or has missed an
// answer.
func (g *group) joinAgain(r *JoinRequest) (*member, chan joinAnswer, joinAnswer) {
	if t, ok := g.pending[r.Member]; ok && r.Instance == "" {
		t.Stop()
		delete(g.pending, r.Member)
		m, wait := g.add(r.Member, r)
		return m, wait, joinAnswer{}
	}
	m, err := g.find(Identity{r.Member, r.Instance})
	if err != nil {
		return nil, nil, joinAnswer{err: err}
	}
	m.touch()
	unchanged := m.same(r.Protocols)
	missed := g.state == CompletingRebalance && unchanged
	idle := g.state == Stable && unchanged && g.leader != m.id
	if missed || idle {
		m.session, m.rebalance = r.Session, r.Rebalance
		return nil, nil, joinAnswer{JoinResponse: g.joined(m)}
	}
	g.update(m, r)
	wait := m.awaitJoin()
	g.rebalance()
	return m, wait, joinAnswer{}
}

// add makes a new member that waits for the next generation.
func (g *group) add(id string, r *JoinRequest) (*member, chan joinAnswer) {
	if len(g.members) == 0 {
		g.protocolType = r.ProtocolType
	}
	m := &member{id: id, instance: r.Instance, arrival: g.arrivals}
	g.arrivals++
	g.update(m, r)
	g.members[id] = m
	if m.instance != "" {
		g.instances[m.instance] = id
	}
	g.watch(m)
	g.newcomers = true
	wait := m.awaitJoin()
	g.rebalance()
	return m, wait
}

// joined returns the answer to the Join of a member of the current generation.
func (g *group) joined(m *member) JoinResponse {
	r := JoinResponse{
		Generation:   g.generation,
		ProtocolType: g.protocolType,
		Protocol:     g.protocol,
		Leader:       g.leader,
		Member:       m.id,
	}
	if g.leader == m.id {
		for _, o := range g.inOrder() {
			r.Members = append(r.Members, JoinedMember{o.id, o.instance, o.metadata(g.protocol)})
		}
	}
	return r
}

// abandonJoin is called when the caller no longer waits for the answer.
func (c *Coordinator) abandonJoin(name string, m *member, wait chan joinAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.groups[name]
	if c.closed || !ok || g.members[m.id] != m || m.join != nil && m.join != wait {
		return
	}
	m.join = nil // it may have just been answered; then this changes nothing
	if m.anonymous {
		g.remove(m, ErrUnknownMember)
		g.dropIdle()
		return
	}
	m.touch()
}
