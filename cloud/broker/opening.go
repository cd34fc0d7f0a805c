package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/stopwatch"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// In a cluster of several shards the topics are in shard 0, and each other shard has a copy
// of those of its partitions. Its owner opens a topic there before the first record, from
// what it knows of the catalogue, and follows changes (FollowCatalogue). It serves the
// shard only when it knows the catalogue up to the position that the shard's log has
// (AwaitCatalogue): a topic that an older catalogue does not have may be one of which this
// node has not heard yet. So absence never means that a topic was deleted; DropTopic says
// that.

// catalogue is what this node knows of the topics of the cluster.
type catalogue struct {
	at   journal.Position // the topics are from there, or later
	copy *Copy            // nil: they are in log
	log  machine.WaitingLog
}

// knownCatalogue returns what this node knows now. Errors: *NotOwnerError, ErrUnavailable.
func (b *Broker) knownCatalogue() (catalogue, error) {
	if v := b.view(); v != nil {
		return catalogue{at: v.Position, copy: v}, nil
	}
	c, err := b.catalogue()
	if err != nil {
		return catalogue{}, err
	}
	known := catalogue{log: c.Log}
	c.Log.Between(func(at journal.Position) { known.at = at })
	return known, nil
}

// all lists the topics.
func (c catalogue) all() []Topic {
	if c.copy != nil {
		return c.copy.topics
	}
	return c.log.Topics()
}

// byID returns a topic.
func (c catalogue) byID(id weir.TopicID) (Topic, bool) {
	if c.copy != nil {
		i, ok := c.copy.ids[id]
		return c.copy.at(i, ok)
	}
	return c.log.TopicByID(id)
}

// exists reports whether there is a topic, also one that is being deleted.
func (c catalogue) exists(id weir.TopicID) bool {
	if c.copy != nil {
		return c.copy.Exists(id)
	}
	_, known := c.log.TopicByID(id)
	return known || slices.ContainsFunc(c.log.Deletions(), func(d logstate.Deletion) bool { return d.Topic.ID == id })
}

// changed returns a channel that is closed when this node knows more of the catalogue.
func (b *Broker) changed() <-chan struct{} {
	b.noticing.Lock()
	defer b.noticing.Unlock()
	return b.notice
}

// notify closes the channels that changed has returned.
func (b *Broker) notify() {
	b.noticing.Lock()
	defer b.noticing.Unlock()
	close(b.notice)
	b.notice = make(chan struct{})
}

// tell returns when the other nodes know what has just changed in the catalogue, or after
// tellTime.
func (b *Broker) tell(ctx context.Context) {
	b.notify()
	if !b.Several() || b.o.Told == nil {
		return
	}
	c, err := b.knownCatalogue()
	if err != nil {
		return // another node owns the catalogue by now
	}
	defer stopwatch.Waiting(ctx)()
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	b.o.Told(ctx, c.at)
}

// tellTime is how long a change of the catalogue waits for other nodes.
const tellTime = time.Second

// openPause is how soon what could not be done is tried again, for a change of which this
// node is not told.
const openPause = 500 * time.Millisecond

// await returns when this node may know more of the catalogue, or when ctx ends.
func await(ctx context.Context, changed <-chan struct{}) {
	timer := time.NewTimer(openPause)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// AwaitCatalogue returns nil when this node knows the catalogue up to a position. Errors:
// that of ctx.
func (b *Broker) AwaitCatalogue(ctx context.Context, at journal.Position) error {
	for ctx.Err() == nil {
		changed := b.changed()
		if c, err := b.knownCatalogue(); err == nil && !c.at.Before(at) {
			return nil
		}
		await(ctx, changed)
	}
	return ctx.Err()
}

// FollowCatalogue opens the topics of a shard that this node serves, and what changes of
// them, until ctx ends.
func (b *Broker) FollowCatalogue(ctx context.Context, s *shard.Shard) {
	for ctx.Err() == nil {
		changed := b.changed()
		if b.openAll(ctx, s) && b.forgetDropped(ctx, s) == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		await(ctx, changed)
	}
}

// forgetDropped makes a shard forget that it has dropped topics which the catalogue does
// not have any more.
func (b *Broker) forgetDropped(ctx context.Context, s *shard.Shard) error {
	c, err := b.knownCatalogue()
	if err != nil {
		return err
	}
	return s.Log.ForgetDropped(ctx, c.at, c.exists)
}

// openAll begins to open what a shard lacks. It reports whether that was nothing.
func (b *Broker) openAll(ctx context.Context, s *shard.Shard) (complete bool) {
	c, err := b.knownCatalogue()
	if err != nil {
		return false
	}
	complete = true
	for _, t := range c.all() {
		if !hidden(t) && b.has(s.ID, t) && differs(s.Log, t) {
			complete = false
			s.Log.SubmitOpen(ctx, t, c.at, func(error) {}) // after an error FollowCatalogue tries again, and the first append of the topic fails
		}
	}
	return complete
}

// has reports whether a shard has a partition of a topic.
func (b *Broker) has(id uint32, t Topic) bool {
	routes := &b.table.Load().routes
	for p := range min(t.Partitions, weir.Slices) {
		if routes[weir.SliceOf(t.ID, p)] == id {
			return true
		}
	}
	return false
}

// differs reports whether a log has another topic than the catalogue, or none.
func differs(log machine.WaitingLog, t Topic) bool {
	own, ok := log.TopicByID(t.ID)
	return !ok || own.Partitions < t.Partitions || !maps.Equal(own.Configs, t.Configs)
}

// opened returns a partition's topic as the log of its shard has it. If the log has not
// opened it yet, or does not have all of its partitions, opened begins that: what is passed
// to the log afterwards finds it.
func (b *Broker) opened(s *shard.Shard, id weir.TopicID, partition int32) (Topic, bool) {
	t, ok := s.Log.TopicByID(id)
	if ok && partition < t.Partitions || s.Part != shard.Data {
		return t, ok
	}
	c, err := b.knownCatalogue()
	if err != nil {
		return t, ok
	}
	known, exists := c.byID(id)
	if !exists || hidden(known) || partition < 0 || partition >= known.Partitions {
		return t, ok
	}
	s.Log.SubmitOpen(context.Background(), known, c.at, func(error) {}) // if it fails, so does what comes after it
	return known, true
}

// unopened reports whether err says that a partition does not exist although it does: its
// topic is not opened in the shard, so it is empty.
func (b *Broker) unopened(s *shard.Shard, id weir.TopicID, partition int32, err error) bool {
	if !errors.Is(err, ErrUnknownTopic) || s.Part != shard.Data {
		return false
	}
	t, failed := b.TopicByID(id)
	return failed == nil && partition >= 0 && partition < t.Partitions
}

// watchUnopened is Watch for a partition that may not be opened yet. It begins to open it.
func (b *Broker) watchUnopened(ctx context.Context, s *shard.Shard, id weir.TopicID, partition int32) (more <-chan struct{}, is bool) {
	if s.Part != shard.Data {
		return nil, false
	}
	if own, ok := s.Log.TopicByID(id); ok && partition < own.Partitions {
		return nil, false
	}
	c, err := b.knownCatalogue()
	if err != nil {
		return nil, false
	}
	t, ok := c.byID(id)
	if !ok || hidden(t) || partition < 0 || partition >= t.Partitions {
		return nil, false
	}
	open := make(chan struct{})
	s.Log.SubmitOpen(ctx, t, c.at, func(err error) {
		if err == nil {
			close(open)
		} // else the reader asks again when its time is over
	})
	return open, true
}

// open is opened for a caller that needs the topic to be durable in the shard. What cannot
// be opened is for the log to refuse.
func (b *Broker) open(ctx context.Context, s *shard.Shard, id weir.TopicID, partition int32) error {
	open, is := b.watchUnopened(ctx, s, id, partition)
	if !is {
		return nil
	}
	defer stopwatch.Waiting(ctx)()
	timer := time.NewTimer(openTime)
	defer timer.Stop()
	select {
	case <-open:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: %v is not open yet", ErrUnknownTopic, id)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openTime bounds open.
const openTime = 5 * time.Second
