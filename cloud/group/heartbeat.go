package group

// Heartbeat is a member's sign of life. ErrRebalanceInProgress also counts as one; it
// tells the member to Join again.
func (c *Coordinator) Heartbeat(group string, generation int32, who Identity) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, m, err := c.member(group, generation, who)
	if err != nil {
		return err
	}
	m.touch()
	if g.state == PreparingRebalance {
		return ErrRebalanceInProgress
	}
	return nil
}

// Leave removes members at once, before their sessions end. A static member may be
// named by its instance id alone (KIP-345). Leave returns one result for each member,
// or one error for all.
func (c *Coordinator) Leave(group string, who []Identity) ([]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(group); err != nil {
		return nil, err
	}
	g, ok := c.groups[group]
	errs := make([]error, len(who))
	for i, w := range who {
		if !ok {
			errs[i] = ErrUnknownMember
			continue
		}
		errs[i] = g.leave(w)
	}
	if ok {
		g.dropIdle()
	}
	return errs, nil
}

func (g *group) leave(who Identity) error {
	switch g.typ() {
	case Consumer:
		return g.removeStatic(who)
	case Share:
		return ErrUnknownMember // for this protocol
	}
	if t, ok := g.pending[who.Member]; ok && who.Instance == "" {
		t.Stop()
		delete(g.pending, who.Member)
		g.tryFinishJoin()
		return nil
	}
	if who.Instance != "" && who.Member == "" {
		who.Member = g.instances[who.Instance]
	}
	m, err := g.find(who)
	if err != nil {
		return err
	}
	g.remove(m, ErrUnknownMember)
	return nil
}
