package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/shard"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// In a cluster of several shards a topic is deleted in two steps. When the catalogue says
// that it is being deleted, it is not found any more, and its name is not free yet. When
// every other shard has dropped it, the catalogue forgets it. A crash in between leaves a
// deletion that the next owner of the catalogue goes on with: FinishDeletions.

const (
	// deletionTime is how long DeleteTopic waits for the other shards, dropTime how long
	// one of them may take, and nameTime how long CreateTopic waits for a name.
	deletionTime = 30 * time.Second
	dropTime     = 5 * time.Second
	nameTime     = 10 * time.Second
)

// deleteEverywhere is DeleteTopic in a cluster of several shards. After an error of ctx, or
// if it takes too long, the deletion goes on. If another call has begun it, this one waits
// until it has ended, too, and returns ErrUnknownTopic: a topic is deleted once.
func (b *Broker) deleteEverywhere(ctx context.Context, c *shard.Shard, id weir.TopicID) error {
	_, begun := c.Log.DeletingTopic(ctx, id)
	if begun != nil && !errors.Is(begun, ErrTopicDeleting) {
		return translate(begun)
	}
	b.notify()
	ctx, cancel := context.WithTimeoutCause(ctx, deletionTime, fmt.Errorf("%w: another shard has not dropped the topic yet, which goes on", context.DeadlineExceeded))
	defer cancel()
	for {
		changed := b.changed()
		if !slices.ContainsFunc(c.Log.Deletions(), func(d logstate.Deletion) bool { return d.Topic.ID == id }) {
			if begun != nil {
				return fmt.Errorf("%w: %v", ErrUnknownTopic, id)
			}
			return nil
		}
		if err := c.Log.Err(); err != nil {
			return translate(err)
		}
		if await(ctx, changed); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// FinishDeletions ends the deletions that the catalogue lists, until ctx ends. It is for
// the owner of the catalogue. failed is called for each attempt that did not end one.
func (b *Broker) FinishDeletions(ctx context.Context, c *shard.Shard, failed func(topic string, err error)) {
	for ctx.Err() == nil {
		changed := b.changed()
		left := false
		for _, d := range c.Log.Deletions() {
			if err := b.finishDeletion(ctx, c, d); err != nil && ctx.Err() == nil {
				left = true
				failed(d.Topic.Name, err)
			}
		}
		if left {
			await(ctx, changed)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// finishDeletion makes every shard drop a topic, and then the catalogue forget it. It fails
// if the cluster gets more shards meanwhile: they may have got slices of the topic.
func (b *Broker) finishDeletion(ctx context.Context, c *shard.Shard, d logstate.Deletion) error {
	limited, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	_, shards := b.Map()
	errs := make([]error, shards)
	var wg sync.WaitGroup
	for id := range uint32(shards) {
		if id == catalogueShard {
			continue
		}
		wg.Go(func() {
			if err := b.dropIn(limited, id, d); err != nil {
				errs[id] = fmt.Errorf("shard %d: %w", id, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, now := b.Map(); now != shards {
		return fmt.Errorf("%w: there are %d shards now, and %d of them were asked", ErrUnavailable, now, shards)
	}
	err := c.Log.DeleteTopic(ctx, d.Topic.ID)
	b.notify()
	if err == nil && c.Part == shard.Whole {
		err = errors.Join(c.Groups.ForgetTopic(ctx, d.Topic.ID, d.Topic.Name), translateShare(c.Shares.ForgetTopic(ctx, d.Topic.ID)))
	}
	return translate(err)
}

// dropIn makes the owner of a shard drop a topic.
func (b *Broker) dropIn(ctx context.Context, id uint32, d logstate.Deletion) error {
	s := b.table.Load().shards[id]
	if s.own != nil || s.owner.Name == "" || b.o.Drop == nil {
		return b.DropTopic(ctx, id, d.Topic.ID, d.At)
	}
	return b.o.Drop(ctx, s.owner, id, d.Topic.ID, d.At)
}

// DropTopic removes a topic with its records, and the offsets of groups in it, from a shard
// that this node serves. at is the position of the catalogue at which it is being deleted.
// It is durable on return, and may be repeated.
func (b *Broker) DropTopic(ctx context.Context, id uint32, topic weir.TopicID, at journal.Position) error {
	s, err := b.table.Load().shards[id].serving()
	if err != nil {
		return err
	}
	if s.Part != shard.Data {
		return fmt.Errorf("%w: shard %d has no topics of its own", ErrUnsupported, id)
	}
	if err := s.Log.DropTopic(ctx, topic, at); err != nil {
		return translate(err)
	}
	return errors.Join(s.Groups.ForgetTopic(ctx, topic, ""), translateShare(s.Shares.ForgetTopic(ctx, topic)))
}

// dropAbsent makes a shard that this node serves drop topics which the catalogue does not
// have any more, and did not tell the shard: they were deleted while their slices were on
// the way to it. This node knows the catalogue at least as far as the shard does, so what it
// does not have is deleted, and not new.
func (b *Broker) dropAbsent(ctx context.Context, s *shard.Shard) error {
	var at journal.Position
	var exists func(weir.TopicID) bool
	if err := b.lookUp(func(c catalogue) { at, exists = c.at, c.existing() }); err != nil {
		return err
	}
	topics := s.Log.Topics()
	if at.Before(s.Log.CataloguePosition()) { // which is that of all these topics
		return nil
	}
	var errs error
	for _, t := range topics {
		if !hidden(t) && !t.Recovered() && !exists(t.ID) {
			errs = errors.Join(errs, b.DropTopic(ctx, s.ID, t.ID, at))
		}
	}
	return errs
}
