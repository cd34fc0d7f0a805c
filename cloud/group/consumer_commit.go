package group

// mayCommitConsumer is mayCommit for a group of type Consumer. A member whose
// heartbeat has just brought it a newer epoch may still commit what it has had
// since the older one: it may not have seen the answer (KIP-1251).
func (g *group) mayCommitConsumer(r *CommitRequest) error {
	if r.Generation < 0 && g.state == Empty {
		return nil
	}
	m, ok := g.consumers.members[r.Member]
	if !ok {
		return ErrUnknownMember
	}
	stale := ErrIllegalGeneration
	if r.Epochs {
		stale = ErrStaleEpoch
	}
	switch {
	case r.Generation <= joinEpoch || r.Generation > m.epoch:
		return stale
	case r.Generation == m.epoch:
		return nil
	}
	for _, o := range r.Offsets {
		if since, ok := m.assigned[o.Partition]; !ok || r.Generation < since {
			return stale
		}
	}
	return nil
}

// MayFetch tells whether a member of a consumer group may be told where to read
// on: one with an older epoch may not have what it asks about any more. Nobody
// ("", a negative epoch) may always; groups of the other type do not ask who it is.
//
// Errors: ErrUnknownMember, ErrStaleEpoch, ErrClosed.
func (c *Coordinator) MayFetch(group, member string, epoch int32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return ErrClosed
	}
	g, ok := c.groups[group]
	if !ok || g.consumers == nil || member == "" && epoch < 0 {
		return nil
	}
	m, ok := g.consumers.members[member]
	switch {
	case !ok:
		return ErrUnknownMember
	case m.epoch != epoch:
		return ErrStaleEpoch
	}
	return nil
}

// land counts the commits on their way to the bucket, for each partition: its next
// reader begins where they end.
func (g *group) land(offsets []Offset, by int) {
	for _, o := range offsets {
		if g.landing[o.Partition] += by; g.landing[o.Partition] == 0 {
			delete(g.landing, o.Partition)
		}
	}
}
