package group

// Position is a committed offset without its metadata.
type Position struct {
	Partition
	Offset int64
}

// EachCommitted calls fn for each group that has committed offsets, with all of them
// in no particular order. fn must not keep them. Each group is locked by itself, so
// that no member waits for long, however many groups there are. Groups that are
// created meanwhile are left out.
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

// positions appends the committed offsets of a group to a slice.
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
