package group

import (
	"fmt"
	"slices"
)

// DescribeConsumer returns one group of type Consumer. It returns ErrUnknownGroup if
// there is none, or if the group is of the other type.
func (c *Coordinator) DescribeConsumer(group string) (ConsumerDescription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(group); err != nil {
		return ConsumerDescription{}, err
	}
	g, ok := c.groups[group]
	switch {
	case !ok:
		return ConsumerDescription{}, ErrUnknownGroup
	case g.consumers == nil:
		return ConsumerDescription{}, notOfType(group, Consumer)
	}
	d := ConsumerDescription{Listing: g.listing(), Epoch: g.generation, TargetEpoch: g.generation, Assignor: g.consumers.assignor}
	for _, m := range g.consumers.inOrder() {
		d.Details = append(d.Details, ConsumerMember{
			Identity:   Identity{m.id, m.instance},
			Rack:       m.rack,
			Epoch:      m.epoch,
			ClientID:   m.clientID,
			ClientHost: m.clientHost,
			Topics:     slices.Clone(m.topics),
			Pattern:    m.pattern,
			Reads:      slices.Clone(m.reads),
			Assigned:   m.everything(),
			Target:     slices.Clone(m.target),
		})
	}
	return d, nil
}

// notOfType returns the error for a group that is not of the type that a request
// needs.
func notOfType(group string, typ Type) error {
	return fmt.Errorf("%w: %q is not a %s group", ErrUnknownGroup, group, typ)
}
