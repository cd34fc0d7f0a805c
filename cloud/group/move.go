package group

import (
	"context"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// A group moves to another shard with its slice. Its committed offsets go with it; members
// and timers do not: its members find the new coordinator, and begin anew there.

// CloseSlices makes the coordinator answer ErrClosed for the groups in those slices, as the
// coordinator of another shard is about to have them. It returns nil when no change of
// theirs is on its way to the log. Errors: ctx's; then they are closed all the same.
func (c *Coordinator) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	return c.gate.Close(ctx, set)
}

// OpenSlices undoes CloseSlices: the groups have not moved.
func (c *Coordinator) OpenSlices(set weir.SliceSet) { c.gate.Open(set) }

// elsewhere reports whether a group has left, or is about to.
func (c *Coordinator) elsewhere(group string) bool {
	return c.gate.Closed(weir.SliceOfGroup(group))
}

// SliceOf returns the slice of the group that an entry is about; false: it is about a topic, or
// all groups. It implements state.Sliced.
func (c *Coordinator) SliceOf(kind uint16, body []byte) (weir.Slice, bool) {
	d := coding.NewDecoder(body)
	version, name := d.Byte(), d.String()
	switch kind {
	case kindCommit, kindDeleteOffsets, kindDeleteGroup:
		return weir.SliceOfGroup(name), version == bodyVersion && !d.Bad()
	}
	return 0, false
}

// Export returns the committed offsets of the groups in those slices, nil if there are
// none. Equal states give equal bytes. The offsets topic is not for several shards: the
// offsets that commits have there are left out.
func (c *Coordinator) Export(set weir.SliceSet) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]map[Partition]Offset)
	for name, g := range c.groups {
		if len(g.offsets) > 0 && set.Has(weir.SliceOfGroup(name)) {
			all[name] = g.offsets
		}
	}
	if len(all) == 0 {
		return nil
	}
	return encodeSnapshot(saved{offsets: all})
}

// Import adds groups that Export of another shard's coordinator gave. With an error
// (ErrCorrupt) nothing has changed.
func (c *Coordinator) Import(body []byte) error {
	s, err := decodeSnapshot(body)
	if err != nil {
		return err
	}
	if s.counted != nil {
		return ErrCorrupt
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.offsets)) {
		g, ok := c.groups[name]
		if !ok {
			g = c.newGroup(name)
		}
		g.offsets = s.offsets[name]
		if c.history.counting {
			c.countAll(g)
		}
	}
	return nil
}

// Remove forgets the groups in those slices. Requests that wait get ErrClosed.
func (c *Coordinator) Remove(set weir.SliceSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, g := range c.groups {
		if !set.Has(weir.SliceOfGroup(name)) {
			continue
		}
		g.shut()
		c.bytes -= g.bytes()
		clear(g.members) // a timer that fires now finds nobody
		clear(g.pending)
		if g.consumers != nil {
			clear(g.consumers.members)
		}
		if g.sharers != nil {
			clear(g.sharers.members)
		}
		delete(c.groups, name)
	}
}

// bytes returns the group's part of Coordinator.bytes.
func (g *group) bytes() int {
	n := 0
	for _, m := range g.members {
		n += protocolBytes(m.protocols) + len(m.assignment)
	}
	if cs := g.consumers; cs != nil {
		n += cs.charged
		for _, m := range cs.members {
			n += m.size()
		}
	}
	if ss := g.sharers; ss != nil {
		n += ss.charged
		for _, m := range ss.members {
			n += subscriptionSize(m.topics)
		}
	}
	return n
}
