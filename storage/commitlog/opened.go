package commitlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// With more than one shard, shard 0 has the catalogue: the methods of catalogue.go are
// for its log, and so is DeletingTopic. The logs of the other shards follow with
// SubmitOpen and DropTopic. state/opened.go says why each of them has a position of the
// catalogue.

// openedLevel is the format level of the entries of this file.
const openedLevel = 2

// checkLevel returns an error if what this file does must not be written.
func (l *Log) checkLevel() error {
	if l.Level() < openedLevel {
		return fmt.Errorf("%w: topics of several shards need format level %d, the bucket is at %d", ErrUnsupported, openedLevel, l.Level())
	}
	return nil
}

// DeletingTopic begins to delete a topic: its name is taken, but no call returns the
// topic any more. This is durable on return. The other shards must drop the topic at the
// position that is returned, or a later one; DeleteTopic ends the deletion.
//
// Errors: ErrUnknownTopic; ErrTopicDeleting, with the position, if it has begun before.
func (l *Log) DeletingTopic(ctx context.Context, id weir.TopicID) (at journal.Position, err error) {
	if err := l.checkLevel(); err != nil {
		return at, err
	}
	_, err = ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		t := b.spec.topic(id)
		if t == nil {
			return struct{}{}, fmt.Errorf("%w: %v", ErrUnknownTopic, id)
		}
		x := b.spec.standing(id)
		if x.deleting {
			return struct{}{}, fmt.Errorf("%w: %q", ErrTopicDeleting, t.Name)
		}
		x.deleting = true
		b.spec.standings.set(b.spec.slot, id, x)
		b.put(state.KindTopicDeleting, state.EncodeTopicDeleting(id))
		return struct{}{}, nil
	})
	if err != nil && !errors.Is(err, ErrTopicDeleting) {
		return at, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.state.Topics[id]
	if t == nil { // somebody else has ended it
		return at, fmt.Errorf("%w: %v", ErrUnknownTopic, id)
	}
	return t.Deleting, err
}

// Deletions returns the topics whose deletion has begun and not ended, oldest first. An
// owner of shard 0 goes on with those that it finds.
func (l *Log) Deletions() []state.Deletion {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.Deletions()
}

// OpenTopic makes the topic what the catalogue says at a position: it exists, and has
// these partitions and settings. It is durable on return. It changes nothing if the log
// has the topic from a later position, or has it as it is.
//
// Errors: ErrUnknownTopic for a topic that was dropped; ErrBehind for one that may have
// been dropped and forgotten since that position; ErrTopicExists if another topic has the
// name; ErrInvalidPartitions for fewer than there are; ErrInvalidTopic.
func (l *Log) OpenTopic(ctx context.Context, t state.Topic, at journal.Position) error {
	answer := make(chan error, 1)
	l.SubmitOpen(ctx, t, at, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SubmitOpen is OpenTopic for a caller that does not wait: done is called exactly once,
// like that of Append. Calls of SubmitOpen, Append and Submit from one goroutine keep
// their order, so a batch for the topic can follow at once. ctx bounds the wait for room in
// line, and nothing else.
func (l *Log) SubmitOpen(ctx context.Context, t state.Topic, at journal.Position, done func(error)) {
	size, err := checkConfigs(t.Configs)
	if err == nil {
		err = l.checkOpen(t, at)
	}
	if err == nil {
		t.Configs = maps.Clone(t.Configs)
		err = l.line.push(ctx, request{
			size:   size,
			admit:  func(b *builder) { b.open(t, at, done) },
			refuse: done,
		})
	}
	if err != nil {
		done(err)
	}
}

// checkOpen returns an error for what cannot be opened whatever the state of the log.
func (l *Log) checkOpen(t state.Topic, at journal.Position) error {
	switch {
	case t.Partitions < 1 || t.Partitions > state.MaxPartitions:
		return fmt.Errorf("%w: %d is not in 1..%d", ErrInvalidPartitions, t.Partitions, state.MaxPartitions)
	case at.IsZero():
		return fmt.Errorf("%w: %q is opened without a position of the catalogue", state.ErrInvalidTopic, t.Name)
	}
	if err := state.CheckTopicName(t.Name); err != nil {
		return err
	}
	return l.checkLevel()
}

// open admits the opening of a topic.
func (b *builder) open(t state.Topic, at journal.Position, done func(error)) {
	changes, err := b.spec.opens(t, at)
	if err == nil && changes {
		if old := b.spec.topic(t.ID); old != nil && old.Name != t.Name { // a repair has named it
			b.spec.names.set(b.spec.slot, old.Name, weir.TopicID{})
		}
		b.spec.topics.set(b.spec.slot, t.ID, &t)
		b.spec.names.set(b.spec.slot, t.Name, t.ID)
		x := b.spec.standing(t.ID)
		x.opened = at
		b.spec.standings.set(b.spec.slot, t.ID, x)
		b.put(state.KindTopicOpened, state.EncodeTopicOpened(t, at))
	}
	b.slot.answers = append(b.slot.answers, func(lost error) {
		if lost != nil {
			done(lost)
			return
		}
		done(err)
	})
}

// opens reports whether it changes anything to open a topic.
func (s *speculation) opens(t state.Topic, at journal.Position) (changes bool, err error) {
	x, old, named := s.standing(t.ID), s.topic(t.ID), s.topicNamed(t.Name)
	switch {
	case !x.dropped.IsZero():
		return false, fmt.Errorf("%w: %q (%v) was dropped", ErrUnknownTopic, t.Name, t.ID)
	case old == nil && at.Before(s.forgotten):
		return false, fmt.Errorf("%w: %q (%v) is opened as of %v, and topics that were dropped are forgotten as of %v", ErrBehind, t.Name, t.ID, at, s.forgotten)
	case named != nil && named.ID != t.ID:
		return false, fmt.Errorf("%w: %q is %v, not %v", ErrTopicExists, t.Name, named.ID, t.ID)
	case old == nil:
		return true, nil
	case !x.opened.Before(at):
		return false, nil
	case old.Name != t.Name && !old.Recovered():
		return false, fmt.Errorf("%w: %v is %q, not %q", state.ErrInvalidTopic, t.ID, old.Name, t.Name)
	case t.Partitions < old.Partitions:
		return false, fmt.Errorf("%w: %d for topic %q, which has %d", ErrInvalidPartitions, t.Partitions, t.Name, old.Partitions)
	}
	return t.Name != old.Name || t.Partitions != old.Partitions || t.Created != old.Created || !maps.Equal(t.Configs, old.Configs), nil
}

// DropTopic removes a topic, with everything that DeleteTopic removes, and from then on
// refuses to open it. at is the position of the catalogue at which it is being deleted.
// The topic need not be open. It is durable on return. If the topic was dropped before,
// nothing changes. Errors: ErrMoving while slices of the topic are moved away, until that is
// settled.
func (l *Log) DropTopic(ctx context.Context, id weir.TopicID, at journal.Position) error {
	if err := l.checkLevel(); err != nil {
		return err
	}
	if at.IsZero() {
		return fmt.Errorf("%w: %v is dropped without a position of the catalogue", state.ErrInvalidTopic, id)
	}
	_, err := ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		if !b.spec.standing(id).dropped.IsZero() {
			return struct{}{}, nil
		}
		if t := b.spec.topic(id); t != nil {
			if err := b.spec.barredTopic(t); err != nil {
				return struct{}{}, err
			}
			b.spec.topics.set(b.spec.slot, id, nil)
			b.spec.names.set(b.spec.slot, t.Name, weir.TopicID{})
		}
		b.spec.standings.set(b.spec.slot, id, standing{dropped: at})
		b.put(state.KindTopicDropped, state.EncodeTopicDropped(id, at))
		return struct{}{}, nil
	})
	return err
}

// ForgetDropped forgets dropped topics of which the catalogue, at a position, says nothing
// any more: exists reports whether it has a topic or is deleting it. From then on only a
// node that knows the catalogue up to that position may serve the shard, and the log opens
// no topic that it does not have as of an earlier position. It is durable on return.
func (l *Log) ForgetDropped(ctx context.Context, at journal.Position, exists func(weir.TopicID) bool) error {
	l.mu.RLock()
	var ids []weir.TopicID
	for id, was := range l.state.Dropped {
		if was.Before(at) && !exists(id) {
			ids = append(ids, id)
		}
	}
	l.mu.RUnlock()
	if len(ids) == 0 {
		return nil
	}
	_, err := ask(ctx, l, len(ids)*len(weir.TopicID{}), func(b *builder) (struct{}, error) {
		left := slices.DeleteFunc(ids, func(id weir.TopicID) bool { return b.spec.standing(id).dropped.IsZero() })
		if len(left) == 0 {
			return struct{}{}, nil
		}
		for _, id := range left {
			b.spec.standings.set(b.spec.slot, id, standing{})
		}
		if b.spec.forgotten.Before(at) {
			b.spec.forgotten = at
		}
		b.put(state.KindDroppedForgotten, state.EncodeDroppedForgotten(left, at))
		return struct{}{}, nil
	})
	return err
}

// CataloguePosition returns the highest position of the catalogue that the log has, zero
// if it has none. Only a node that knows the catalogue up to there may serve the shard: to
// another one, a topic that it does not have could be one of which it does not know yet,
// or one that is deleted.
func (l *Log) CataloguePosition() journal.Position {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.Catalogue
}
