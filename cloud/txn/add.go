package txn

import (
	"context"
	"slices"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// AddPartitions adds partitions to the producer's transaction, and begins one if none
// is ongoing. Durable when it returns nil. The caller must make sure that the
// partitions exist.
//
// Errors: ErrInvalidID, ErrUnknownID, ErrFenced, ErrConcurrent, ErrTooLarge,
// ErrClosed, ErrUnavailable.
func (c *Coordinator) AddPartitions(ctx context.Context, id string, p Producer, places []state.Place) error {
	_, err := c.add(ctx, id, p, parts{places: places}, true)
	return err
}

// AddOffsets is AddPartitions for a group, whose offsets may then be committed with
// the transaction.
func (c *Coordinator) AddOffsets(ctx context.Context, id string, p Producer, group string) error {
	if group == "" || len(group) > maxName {
		return ErrInvalidID
	}
	_, err := c.add(ctx, id, p, parts{groups: []string{group}}, true)
	return err
}

// Verify answers another shard, which asks before anything becomes part of the
// transaction there. It returns the number of the producer's ongoing transaction. When
// err is nil, it is durable that p is part of it. With Implicit, p is added if it is
// not, and a transaction begins if none is ongoing.
//
// Errors: those of AddPartitions, ErrNotInTransaction.
func (c *Coordinator) Verify(ctx context.Context, p Part) (number uint64, err error) {
	if len(p.Group) > maxName {
		return 0, ErrInvalidID
	}
	of := parts{spans: true}
	if p.Group != "" {
		of.groups = []string{p.Group}
	} else {
		of.places = []state.Place{p.Place}
	}
	return c.add(ctx, p.ID, p.Producer, of, p.Implicit)
}

// parts are what may become part of a transaction.
type parts struct {
	places []state.Place
	groups []string
	spans  bool // some of it lies in another shard
}

// add makes sure that parts are part of the producer's transaction. Without new, they
// must be already. It returns the number of the transaction, if it spans shards.
func (c *Coordinator) add(ctx context.Context, id string, p Producer, of parts, new bool) (number uint64, err error) {
	of.spans = of.spans || c.span(&of)
	c.mu.Lock()
	t, err := c.enter(id, p)
	size := 0
	if err == nil {
		size = t.lacks(of.places, of.groups)
		number = t.spanning()
		switch {
		case size > 0 && !new:
			err = ErrNotInTransaction
		case size > 0 && !c.fits(t, size):
			err = ErrTooLarge
		}
	}
	if err != nil || size == 0 && (t.spans || !of.spans) {
		c.mu.Unlock()
		return number, err
	}
	t.reserve(size)
	c.mu.Unlock()

	entry := encodeAdd(id, c.now(), of.places, of.groups...)
	if of.spans {
		entry = encodeSpan(id, c.now(), number, of.places, of.groups...)
	}
	err = c.propose(ctx, "add to transaction", []commitlog.Command{entry}, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	t.done(size)
	return number, err
}

// span reports whether some of the parts lie in another shard.
func (c *Coordinator) span(of *parts) bool {
	return c.opts.Shards != nil && (slices.ContainsFunc(of.places, func(p state.Place) bool { return c.opts.elsewhere(weir.SliceOf(p.Topic, p.Partition)) }) ||
		slices.ContainsFunc(of.groups, func(name string) bool { return c.opts.elsewhere(weir.SliceOfGroup(name)) }))
}

// spanning returns the number that the ongoing transaction has, or gets when it begins to
// span shards.
func (t *transaction) spanning() uint64 {
	if t.spans {
		return t.number
	}
	return t.number + 1
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
