package group

// Stats is what all groups come to, those with offsets only included.
type Stats struct {
	Groups  map[State]int // how many are in each state; 0 for those that none is in
	Members int
}

// Stats counts the groups.
func (c *Coordinator) Stats() (Stats, error) {
	s := Stats{Groups: map[State]int{Empty: 0, PreparingRebalance: 0, CompletingRebalance: 0, Stable: 0, Reconciling: 0}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return s, ErrClosed
	}
	for _, g := range c.groups {
		s.Groups[g.status()]++
		s.Members += g.size()
	}
	return s, nil
}

// Position is a committed offset without what was said about it.
type Position struct {
	Partition
	Offset int64
}

// EachCommitted calls fn for each group that has committed offsets, with all of
// them in no order; they are fn's during the call. Groups are held still one by one,
// so that however many there are, no member waits for long; those that come
// meanwhile are left out.
func (c *Coordinator) EachCommitted(fn func(group string, committed []Position)) error {
	c.mu.Lock()
	names := make([]string, 0, len(c.groups))
	for name, g := range c.groups {
		if len(g.offsets) > 0 {
			names = append(names, name)
		}
	}
	c.mu.Unlock()
	var committed []Position
	for _, name := range names {
		var err error
		if committed, err = c.positions(name, committed[:0]); err != nil {
			return err
		}
		if len(committed) > 0 {
			fn(name, committed)
		}
	}
	return nil
}

// positions appends what a group has committed.
func (c *Coordinator) positions(name string, to []Position) ([]Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return nil, ErrClosed
	}
	if g, ok := c.groups[name]; ok {
		for p, o := range g.offsets {
			to = append(to, Position{p, o.Offset})
		}
	}
	return to, nil
}
