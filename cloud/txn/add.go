package txn

import (
	"context"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// AddPartitions adds partitions to the producer's transaction, and begins one if none
// is ongoing. Durable when it returns nil. The caller must make sure that the
// partitions exist.
//
// Errors: ErrInvalidID, ErrUnknownID, ErrFenced, ErrConcurrent, ErrTooLarge,
// ErrClosed, ErrUnavailable.
func (c *Coordinator) AddPartitions(ctx context.Context, id string, p Producer, places []state.Place) error {
	return c.add(ctx, id, p, places, nil)
}

// AddOffsets is AddPartitions for a group, whose offsets may then be committed with
// the transaction.
func (c *Coordinator) AddOffsets(ctx context.Context, id string, p Producer, group string) error {
	if group == "" || len(group) > maxName {
		return ErrInvalidID
	}
	return c.add(ctx, id, p, nil, []string{group})
}

func (c *Coordinator) add(ctx context.Context, id string, p Producer, places []state.Place, groups []string) error {
	c.mu.Lock()
	t, err := c.enter(id, p)
	size := 0
	if err == nil {
		if size = t.lacks(places, groups); size > 0 && !c.fits(t, size) {
			err = ErrTooLarge
		}
	}
	if err != nil || size == 0 {
		c.mu.Unlock()
		return err
	}
	t.reserve(size)
	c.mu.Unlock()

	err = c.propose(ctx, "add to transaction", []commitlog.Command{encodeAdd(id, c.now(), places, groups...)}, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	t.done(size)
	return err
}

// lacks returns how many bytes the end would grow by, for the places and groups that
// are not durably part of the ongoing transaction.
func (t *transaction) lacks(places []state.Place, groups []string) int {
	size := 0
	for _, p := range places {
		if !t.has(p) {
			size += placeSize
		}
	}
	for _, name := range groups {
		if !t.hasGroup(name) {
			size += groupSize(name)
		}
	}
	return size
}

func (t *transaction) has(p state.Place) bool {
	_, ok := t.places[p]
	return ok
}

func (t *transaction) hasGroup(name string) bool {
	_, ok := t.groups[name]
	return ok
}
