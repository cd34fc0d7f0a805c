package txn

import (
	"cmp"
	"slices"
	"time"
)

// List returns all transactional ids, in order.
func (c *Coordinator) List() ([]Listing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.serving {
		return nil, ErrClosed
	}
	all := make([]Listing, 0, len(c.ids))
	for _, t := range c.ids {
		if t.known() {
			all = append(all, t.listing())
		}
	}
	slices.SortFunc(all, func(a, b Listing) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Describe returns one transactional id, or ErrNotFound.
func (c *Coordinator) Describe(id string) (Description, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(id); err != nil {
		return Description{}, err
	}
	t, ok := c.ids[id]
	if !ok || !t.known() {
		return Description{}, ErrNotFound
	}
	return Description{
		Listing: t.listing(),
		Timeout: time.Duration(t.timeout) * time.Millisecond,
		Places:  sortedPlaces(&t.durable),
		Groups:  sortedGroups(&t.durable),
	}, nil
}

func (t *transaction) listing() Listing {
	l := Listing{ID: t.id, Producer: t.producer, State: t.state}
	if t.started != none {
		l.Started = time.UnixMilli(t.started)
	}
	return l
}
