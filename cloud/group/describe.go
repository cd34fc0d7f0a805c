package group

import (
	"bytes"
	"cmp"
	"slices"
)

// List returns all groups by name, including those that have only offsets.
func (c *Coordinator) List() ([]Listing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return nil, ErrClosed
	}
	all := make([]Listing, 0, len(c.groups))
	for _, g := range c.groups {
		all = append(all, g.listing())
	}
	slices.SortFunc(all, func(a, b Listing) int { return cmp.Compare(a.Group, b.Group) })
	return all, nil
}

func (g *group) listing() Listing {
	return Listing{Group: g.id, Type: g.typ(), ProtocolType: g.protocolType, State: g.status(), Members: g.size()}
}

// Describe returns one group. If there is none, it returns ErrUnknownGroup and a
// description with state Dead. It has no details for a group of type Consumer: see
// DescribeConsumer.
func (c *Coordinator) Describe(group string) (Description, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(group); err != nil {
		return Description{}, err
	}
	g, ok := c.groups[group]
	if !ok {
		return Description{Listing: Listing{Group: group, State: Dead}}, ErrUnknownGroup
	}
	d := Description{Listing: g.listing(), Protocol: g.protocol, Generation: g.generation, Leader: g.leader}
	for _, m := range g.inOrder() {
		d.Details = append(d.Details, MemberDescription{
			Identity:   Identity{m.id, m.instance},
			ClientID:   m.clientID,
			ClientHost: m.clientHost,
			Metadata:   bytes.Clone(m.metadata(g.protocol)),
			Assignment: bytes.Clone(m.assignment),
		})
	}
	return d, nil
}
