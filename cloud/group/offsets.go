package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/weir"
)

// ErrUnavailable wraps the log's reason for not taking an entry: this node has
// lost the shard, or is stopping. Whether the entry will be seen is unknown.
var ErrUnavailable = errors.New("group log does not take entries") // NOT_COORDINATOR

// Commit stores offsets; they are durable when it returns a nil error. The slice
// holds one result per offset: an offset with an error was not stored. Commit does
// not stop when ctx is cancelled.
func (c *Coordinator) Commit(ctx context.Context, r CommitRequest) ([]error, error) {
	leave, ok := c.gate.Enter(weir.SliceOfGroup(r.Group))
	if !ok {
		return nil, ErrClosed
	}
	defer leave()
	g, log, err := c.startCommit(&r)
	if err != nil {
		return nil, err
	}
	now := c.opts.Now().UnixMilli()
	errs := make([]error, len(r.Offsets))
	keep := make([]Offset, 0, len(r.Offsets))
	for i, o := range r.Offsets {
		if len(o.Metadata) > c.opts.MaxMetadata {
			errs[i] = ErrMetadataTooLarge
			continue
		}
		o.CommittedAt = now
		keep = append(keep, o)
	}
	if len(keep) > 0 {
		// The caller's ctx does not bound it: finishJoin must know when it is
		// certain whether the entry was written.
		if err = log.Propose(context.WithoutCancel(ctx), kindCommit, encodeCommit(r.Group, now, keep)); err != nil {
			err = fmt.Errorf("commit offsets of group %q: %w: %w", r.Group, ErrUnavailable, err)
		}
	}
	c.endCommit(g, &r)
	if err != nil {
		return nil, err
	}
	return errs, nil
}

// startCommit decides whether the caller may commit, and counts the commit as in flight.
func (c *Coordinator) startCommit(r *CommitRequest) (*group, machine.Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(r.Group); err != nil {
		return nil, nil, err
	}
	g, ok := c.groups[r.Group]
	if !ok {
		if r.Generation >= 0 && r.Epochs {
			return nil, nil, ErrUnknownMember // an earlier owner may have known the member
		}
		if r.Generation >= 0 {
			return nil, nil, ErrIllegalGeneration
		}
		if len(c.groups) >= c.opts.MaxGroups {
			return nil, nil, ErrTooManyGroups
		}
		g = c.newGroup(r.Group)
	}
	if err := g.mayCommit(r); err != nil {
		return nil, nil, err
	}
	g.inFlight++
	g.countInFlight(r.Offsets, 1)
	return g, c.log, nil
}

func (g *group) mayCommit(r *CommitRequest) error {
	if g.consumers != nil {
		return g.mayCommitConsumer(r)
	}
	if r.Generation < 0 && g.state == Empty {
		return nil // a simple consumer or an admin tool
	}
	if r.Generation < 0 && r.Member == "" && r.Instance == "" {
		return ErrUnknownMember // while there are members, only they may commit
	}
	m, err := g.find(r.Identity)
	if err != nil {
		return err
	}
	if r.Generation != g.generation {
		return ErrIllegalGeneration
	}
	m.touch()
	if g.state == CompletingRebalance || g.held {
		return ErrRebalanceInProgress
	}
	return nil
}

func (c *Coordinator) endCommit(g *group, r *CommitRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.inFlight--
	g.countInFlight(r.Offsets, -1)
	if c.closed {
		return
	}
	if g.inFlight == 0 && g.held {
		g.finishJoin()
	}
	g.dropIdle()
}

// Offsets returns the committed offsets of the partitions that have one; of = nil
// means all partitions of the group. It returns only durable offsets. A group that
// does not exist has none.
func (c *Coordinator) Offsets(group string, of []Partition) ([]Offset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil || c.elsewhere(group) {
		return nil, ErrClosed
	}
	g, ok := c.groups[group]
	if !ok {
		return nil, nil
	}
	if of == nil {
		all := make([]Offset, 0, len(g.offsets))
		for _, o := range g.offsets {
			o.at = 0
			all = append(all, o)
		}
		slices.SortFunc(all, func(a, b Offset) int { return comparePartitions(a.Partition, b.Partition) })
		return all, nil
	}
	found := make([]Offset, 0, len(of))
	for _, p := range of {
		if o, ok := g.offsets[p]; ok {
			o.at = 0
			found = append(found, o)
		}
	}
	return found, nil
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
}

// Delete removes a group that has no members, with its offsets; durable when it
// returns nil.
func (c *Coordinator) Delete(ctx context.Context, group string) error {
	leave, ok := c.gate.Enter(weir.SliceOfGroup(group))
	if !ok {
		return ErrClosed
	}
	defer leave()
	log, err := c.startDelete(group, true)
	if err != nil {
		return err
	}
	return propose(ctx, log, "delete group", kindDeleteGroup, encodeName(group))
}

// DeleteOffsets removes committed offsets of a group; durable when it returns nil.
// The caller must make sure that no member reads these partitions.
func (c *Coordinator) DeleteOffsets(ctx context.Context, group string, of []Partition) error {
	leave, ok := c.gate.Enter(weir.SliceOfGroup(group))
	if !ok {
		return ErrClosed
	}
	defer leave()
	log, err := c.startDelete(group, false)
	if err != nil {
		return err
	}
	return propose(ctx, log, "delete offsets", kindDeleteOffsets, encodePartitions(group, of))
}

// ForgetTopic removes the offsets of all groups in a deleted topic; durable when it
// returns nil. A crash before it leaves offsets of a topic id that is never used
// again, which take room but do no harm. name is for readers of the offsets topic.
func (c *Coordinator) ForgetTopic(ctx context.Context, topic [16]byte, name string) error {
	c.mu.Lock()
	c.forgotten[topic] = name
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.forgotten, topic)
	}()
	log, closed := c.log, c.closed || c.log == nil
	known := false
	for _, g := range c.groups {
		for p := range g.offsets {
			known = known || p.Topic == topic
		}
	}
	c.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if !known {
		return nil
	}
	return propose(ctx, log, "forget topic", kindForgetTopic, encodeTopic(topic))
}

func (c *Coordinator) startDelete(group string, empty bool) (machine.Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(group); err != nil {
		return nil, err
	}
	g, ok := c.groups[group]
	if !ok {
		return nil, ErrUnknownGroup
	}
	if empty && (g.state != Empty || len(g.pending)+g.inFlight > 0) {
		return nil, ErrGroupNotEmpty
	}
	return c.log, nil
}

func propose(ctx context.Context, log machine.Log, what string, kind uint16, body []byte) error {
	if err := log.Propose(ctx, kind, body); err != nil {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return nil
}
