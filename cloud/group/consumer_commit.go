package group

// mayCommitConsumer is mayCommit for a group of type Consumer. A member that has just
// got a newer epoch may still commit its partitions with the older one: it may not
// have seen the answer to its heartbeat (KIP-1251).
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

// MayFetch returns nil if a member of a consumer group may fetch committed offsets. A
// member with an older epoch may no longer have the partitions that it asks about. A
// request without a member ("", a negative epoch) is always allowed, and so is any
// request in a classic group.
//
// Errors: ErrUnknownMember, ErrStaleEpoch, ErrClosed.
func (c *Coordinator) MayFetch(group, member string, epoch int32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil || c.elsewhere(group) {
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

// countInFlight adds to the number of commits on their way to the bucket, for each
// partition: its next reader must not start before their outcome is known.
func (g *group) countInFlight(offsets []Offset, by int) {
	for _, o := range offsets {
		if g.committing[o.Partition] += by; g.committing[o.Partition] == 0 {
			delete(g.committing, o.Partition)
		}
	}
}
