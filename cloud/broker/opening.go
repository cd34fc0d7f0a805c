package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/stopwatch"
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
	at   journal.Position // the topics are from there
	copy *Copy            // nil: they are in log
	log  machine.WaitingLog
}

// lookUp calls look with what this node knows now. Nothing of that changes until look
// returns, so look must not wait for a log. Errors: *NotOwnerError, ErrUnavailable.
func (b *Broker) lookUp(look func(catalogue)) error {
	if v := b.view(); v != nil {
		look(catalogue{at: v.Position, copy: v})
		return nil
	}
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	c.Log.Between(func(at journal.Position) { look(catalogue{at: at, log: c.Log}) })
	return nil
}

// reached returns the position up to which this node knows the catalogue. Errors: those of
// lookUp.
func (b *Broker) reached() (at journal.Position, err error) {
	err = b.lookUp(func(c catalogue) { at = c.at })
	return at, err
}

// CatalogueReached returns the position up to which this node knows the catalogue. Errors:
// ErrNotOwner, ErrUnavailable.
func (b *Broker) CatalogueReached() (journal.Position, error) { return b.reached() }

// find returns the topic of a partition, and a position of the catalogue where it is like
// that. It reports whether there is such a partition as far as this node knows.
func (b *Broker) find(id weir.TopicID, partition int32) (t Topic, at journal.Position, ok bool) {
	err := b.lookUp(func(c catalogue) {
		t, ok = c.byID(id)
		at = c.at
	})
	return t, at, err == nil && ok && !hidden(t) && partition >= 0 && partition < t.Partitions
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

// existing returns what reports whether there is a topic, also one that is being deleted.
func (c catalogue) existing() func(weir.TopicID) bool {
	if c.copy != nil {
		return c.copy.Exists
	}
	ids := make(map[weir.TopicID]bool)
	for _, t := range c.log.Topics() {
		ids[t.ID] = true
	}
	for _, d := range c.log.Deletions() {
		ids[d.Topic.ID] = true
	}
	return func(id weir.TopicID) bool { return ids[id] }
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

// Tell returns when the other nodes know what has just changed in the catalogue, or after
// tellTime. Every door calls it before it answers a change: of topics, settings, users,
// permissions and quotas. It returns at once if this node does not own the catalogue.
func (b *Broker) Tell(ctx context.Context) {
	b.notify()
	if !b.Several() || b.o.Told == nil {
		return
	}
	at, err := b.reached()
	if err != nil {
		return // another node owns the catalogue by now
	}
	defer stopwatch.Waiting(ctx)()
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	b.o.Told(ctx, at)
}

// tellTime is how long a change of the catalogue waits for other nodes.
const tellTime = 2 * time.Second

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
		if known, err := b.reached(); err == nil && !known.Before(at) {
			return nil
		}
		await(ctx, changed)
	}
	return ctx.Err()
}

// FollowCatalogue opens the topics of a shard that this node serves, and what changes of
// them, until ctx ends. failed is called for each topic that could not be opened, each time.
func (b *Broker) FollowCatalogue(ctx context.Context, s *shard.Shard, failed func(topic string, err error)) {
	for ctx.Err() == nil {
		changed := b.changed()
		if b.dropAbsent(ctx, s) == nil && b.openAll(ctx, s, failed) && b.forgetDropped(ctx, s) == nil {
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
	var at journal.Position
	var exists func(weir.TopicID) bool
	if err := b.lookUp(func(c catalogue) { at, exists = c.at, c.existing() }); err != nil {
		return err
	}
	return s.Log.ForgetDropped(ctx, at, exists)
}

// openAll opens what a shard lacks. It reports whether that was nothing.
func (b *Broker) openAll(ctx context.Context, s *shard.Shard, failed func(topic string, err error)) (complete bool) {
	var at journal.Position
	var all []Topic
	if err := b.lookUp(func(c catalogue) { at, all = c.at, c.all() }); err != nil {
		return false
	}
	all = slices.DeleteFunc(slices.Clone(all), func(t Topic) bool { return hidden(t) || !b.has(s.ID, t) || !differs(s.Log, t) })
	answers := make([]chan error, len(all))
	for i, t := range all {
		answers[i] = make(chan error, 1)
		s.Log.SubmitOpen(ctx, t, at, func(err error) { answers[i] <- err })
	}
	for i, t := range all {
		select {
		case err := <-answers[i]:
			if err != nil && !errors.Is(err, ErrBehind) && ctx.Err() == nil && s.Log.Err() == nil { // what is behind is opened from what this node knows next
				failed(t.Name, err)
			}
		case <-ctx.Done():
			return false
		}
	}
	return len(all) == 0
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
// to the log afterwards finds it. behind, which may be nil, is true when the log has not
// opened it because this node knows more by now.
func (b *Broker) opened(s *shard.Shard, id weir.TopicID, partition int32) (t Topic, ok bool, behind *atomic.Bool) {
	t, ok = s.Log.TopicByID(id)
	if ok && partition < t.Partitions || s.Part != shard.Data {
		return t, ok, nil
	}
	known, at, exists := b.find(id, partition)
	if !exists {
		return t, ok, nil
	}
	behind = new(atomic.Bool)
	s.Log.SubmitOpen(context.Background(), known, at, func(err error) { behind.Store(errors.Is(err, ErrBehind)) }) // if it fails, so does what comes after it
	return known, true, behind
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
	t, at, ok := b.find(id, partition)
	if !ok {
		return nil, false
	}
	open := make(chan struct{})
	s.Log.SubmitOpen(ctx, t, at, func(err error) {
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
