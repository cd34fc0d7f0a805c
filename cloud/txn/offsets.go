package txn

import (
	"context"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
)

// staging is offsets on their way to the log. Readers of stable offsets already have
// to wait for them: their group has allowed the commit, and may go on to its next
// generation.
type staging struct {
	group      string
	partitions []group.Partition
	size       int // bytes that the offsets add to the end
}

func stagingOf(r *group.CommitRequest) *staging {
	s := &staging{group: r.Group}
	for _, o := range r.Offsets {
		s.size += offsetSize(o)
		s.partitions = append(s.partitions, o.Partition)
	}
	return s
}

// addTo adds the partitions of a group.
func (s *staging) addTo(pending map[group.Partition]struct{}, name string) {
	if s.group != name {
		return
	}
	for _, p := range s.partitions {
		pending[p] = struct{}{}
	}
}

// CommitOffsets adds offsets of a group to the producer's transaction. They are
// durable when it returns a nil error, and are committed when the transaction is. The
// slice holds one result per offset: an offset with an error is not part of the
// transaction. The group checks membership as for any commit.
//
// Errors: those of AddPartitions, ErrNotInTransaction, and those of
// group.Coordinator.MayCommit.
func (c *Coordinator) CommitOffsets(ctx context.Context, r OffsetsRequest) ([]error, error) {
	t, s, size, err := c.startStaging(&r)
	if err != nil {
		return nil, err
	}
	keep, errs, err := allowed(c.groups, r.Commit)
	if err == nil && len(keep) > 0 {
		command := encodeStage(r.ID, c.now(), r.Commit.Group, keep)
		err = c.propose(ctx, "add offsets to transaction", []commitlog.Command{command}, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.staging, s)
	t.done(size)
	if err != nil {
		return nil, err
	}
	return errs, nil
}

// allowed returns the offsets that their group accepts, and a result for each offset.
func allowed(groups *group.Coordinator, r group.CommitRequest) (keep []group.Offset, errs []error, err error) {
	errs, err = groups.MayCommit(r)
	if err != nil {
		return nil, nil, err
	}
	for i, o := range r.Offsets {
		if errs[i] == nil {
			keep = append(keep, o)
		}
	}
	return keep, errs, nil
}

func (c *Coordinator) startStaging(r *OffsetsRequest) (*transaction, *staging, int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.enter(r.ID, r.Producer)
	if err != nil {
		return nil, nil, 0, err
	}
	if !r.Implicit && !t.hasGroup(r.Commit.Group) {
		return nil, nil, 0, ErrNotInTransaction
	}
	s := stagingOf(&r.Commit)
	size := t.lacks(nil, []string{r.Commit.Group}) + s.size
	if !c.fits(t, size) {
		return nil, nil, 0, ErrTooLarge
	}
	t.reserve(size)
	c.staging[s] = struct{}{}
	return t, s, size, nil
}

// Pending returns the partitions of a group in which a transaction may commit an
// offset. If the caller reads the group's offsets afterwards, it sees for all other
// partitions what transactions that had ended before have committed.
func (c *Coordinator) Pending(name string) map[group.Partition]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := make(map[group.Partition]struct{})
	for t := range c.open {
		for p := range t.groups[name] {
			pending[p] = struct{}{}
		}
	}
	for s := range c.staging {
		s.addTo(pending, name)
	}
	return pending
}
