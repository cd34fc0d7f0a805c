package group

import "context"

// Sync returns the caller's assignment as soon as the leader's Sync has brought it.
// It returns ctx.Err() if ctx ends first.
func (c *Coordinator) Sync(ctx context.Context, r SyncRequest) (SyncResponse, error) {
	m, wait, now := c.startSync(&r)
	if wait == nil {
		return now.SyncResponse, now.err
	}
	select {
	case a := <-wait:
		return a.SyncResponse, a.err
	case <-ctx.Done():
		c.abandonSync(m, wait)
		return SyncResponse{}, ctx.Err()
	}
}

func (c *Coordinator) startSync(r *SyncRequest) (*member, chan syncAnswer, syncAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, m, err := c.member(r.Group, r.Generation, Identity{r.Member, r.Instance})
	if err != nil {
		return nil, nil, syncAnswer{err: err}
	}
	if r.ProtocolType != "" && r.ProtocolType != g.protocolType || r.Protocol != "" && r.Protocol != g.protocol {
		return nil, nil, syncAnswer{err: ErrInconsistentProtocol}
	}
	m.touch()
	switch g.state {
	case PreparingRebalance:
		return nil, nil, syncAnswer{err: ErrRebalanceInProgress}
	case Stable:
		m.synced = true
		return nil, nil, syncAnswer{SyncResponse: g.assigned(m)}
	}
	if g.leader == m.id && c.bytes+assignedBytes(r.Assignments) > c.opts.MaxBytes {
		return nil, nil, syncAnswer{err: ErrGroupFull}
	}
	m.synced = true
	wait := m.awaitSync()
	if g.leader == m.id {
		g.finishSync(r.Assignments)
	}
	return m, wait, syncAnswer{}
}

func assignedBytes(assignments map[string][]byte) int {
	n := 0
	for _, a := range assignments {
		n += len(a)
	}
	return n
}

// member returns the member of the group's current generation that a request names,
// or an error that says why there is none.
func (c *Coordinator) member(name string, generation int32, who Identity) (*group, *member, error) {
	if err := c.serving(name); err != nil {
		return nil, nil, err
	}
	g, ok := c.groups[name]
	if !ok {
		return nil, nil, ErrUnknownMember
	}
	m, err := g.find(who)
	if err != nil {
		return nil, nil, err
	}
	if generation != g.generation {
		return nil, nil, ErrIllegalGeneration
	}
	return g, m, nil
}

func (g *group) assigned(m *member) SyncResponse {
	return SyncResponse{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: append([]byte{}, m.assignment...)}
}

func (c *Coordinator) abandonSync(m *member, wait chan syncAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.sync == wait {
		m.sync = nil
		m.touch()
	}
}
