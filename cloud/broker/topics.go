package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirmq/weir/cloud/stopwatch"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// DefaultMaxMessageBytes is the default of max.message.bytes, the size of the largest
// record batch that a topic accepts: 1 MiB and the batch's header, as in Kafka.
const DefaultMaxMessageBytes = 1<<20 + 12

// maxMaxMessageBytes is the largest max.message.bytes: a batch must fit into a
// slot of the log.
const maxMaxMessageBytes = 12_000_000

// MaxPartitions is the largest number of partitions of a topic.
const MaxPartitions = logstate.MaxPartitions

// Internal reports whether Kafka uses the name for an internal topic.
func Internal(name string) bool {
	switch name {
	case OffsetsTopic, "__transaction_state", "__share_group_state", "__cluster_metadata":
		return true
	}
	return false
}

// Reserved reports whether clients cannot create a topic of the name. They can use
// all other names that begin with underscores: Debezium, Cruise Control and Strimzi
// do.
func Reserved(name string) bool {
	return Internal(name) || OwnTopic(name) || strings.HasPrefix(name, "__weir")
}

// Topics lists all topics, by name. Topics that are hidden (weir.Hidden) are left out:
// for this package's calls they do not exist. The list must not be changed.
func (b *Broker) Topics() ([]Topic, error) {
	if v := b.view(); v != nil {
		return v.topics, nil
	}
	c, err := b.catalogue()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(c.Log.Topics(), hidden), nil
}

func hidden(t Topic) bool { return weir.Hidden(t.Name) }

// Topic returns the topic of that name.
func (b *Broker) Topic(name string) (Topic, error) {
	if v := b.view(); v != nil {
		return v.topic(name)
	}
	c, err := b.catalogue()
	if err != nil {
		return Topic{}, err
	}
	t, ok := c.Log.Topic(name)
	if !ok && name == OffsetsTopic {
		t, ok = b.InternalTopic()
	}
	return known(name)(t, ok)
}

// TopicByID returns the topic of that id. A topic that was deleted and created again
// under its name has another id.
func (b *Broker) TopicByID(id weir.TopicID) (Topic, error) {
	if v := b.view(); v != nil {
		return v.topicByID(id)
	}
	c, err := b.catalogue()
	if err != nil {
		return Topic{}, err
	}
	if id == OffsetsTopicID() {
		return known(id)(b.InternalTopic())
	}
	return known(id)(c.Log.TopicByID(id))
}

// known turns "not found" into an error with the name or id, and hides what is hidden.
func known(what any) func(Topic, bool) (Topic, error) {
	return func(t Topic, ok bool) (Topic, error) {
		if !ok || hidden(t) {
			return Topic{}, fmt.Errorf("%w: %v", ErrUnknownTopic, what)
		}
		return t, nil
	}
}

// CreateTopic creates a topic; -1 means the default number of partitions. Durable on
// return; in a cluster of several shards, other nodes know the topic then, unless that
// takes longer than a second. With ErrTopicExists it returns the existing topic. While a
// topic of that name is being deleted, it waits, for nameTime at most; then it returns
// ErrTopicDeleting.
func (b *Broker) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (Topic, error) {
	c, err := b.catalogue()
	if l, known := b.Controller(); err != nil && b.Several() && known && l.Name != b.o.Self.Name && b.o.Create != nil {
		return b.o.Create(ctx, l.Node, name, partitions, configs)
	}
	if err != nil {
		return Topic{}, err
	}
	if weir.Hidden(name) {
		return Topic{}, fmt.Errorf("%w: %s is the name of a topic of Weir's own", ErrInvalidTopic, name)
	}
	if err := CheckConfigs(configs); err != nil {
		return Topic{}, err
	}
	if partitions == -1 {
		partitions = b.DefaultPartitions()
	}
	waiting, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	for {
		changed := b.changed()
		t, err := c.Log.CreateTopic(ctx, name, partitions, configs)
		if errors.Is(err, ErrTopicDeleting) {
			if await(waiting, changed); waiting.Err() == nil {
				continue
			}
		}
		if err == nil {
			b.Tell(ctx)
		}
		return t, translate(err)
	}
}

// CheckName returns ErrInvalidTopic if the topics that exist rule out a new topic of
// that name.
func (b *Broker) CheckName(name string) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	return c.Log.Alike(name)
}

// DeleteTopic deletes a topic, all its records, and the offsets of groups in it; durable
// on return.
func (b *Broker) DeleteTopic(ctx context.Context, id weir.TopicID) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	t, err := known(id)(c.Log.TopicByID(id))
	if err != nil {
		return err
	}
	if t.Name == weir.GapTopic {
		return fmt.Errorf("%w: %s is Weir's own and cannot be deleted", ErrInvalidTopic, weir.GapTopic)
	}
	if b.Several() {
		return b.deleteEverywhere(ctx, c, id)
	}
	if err := c.Log.DeleteTopic(ctx, id); err != nil {
		return translate(err)
	}
	shards, err := b.owned()
	for _, s := range shards {
		err = errors.Join(err, s.Groups.ForgetTopic(ctx, id, t.Name), translateShare(s.Shares.ForgetTopic(ctx, id)))
	}
	return err
}

// GrowTopic raises the number of partitions; durable on return. Keys move to other
// partitions, so the order per key holds among the records before the call and among
// those after it, not across it.
func (b *Broker) GrowTopic(ctx context.Context, id weir.TopicID, partitions int32) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	if _, err := known(id)(c.Log.TopicByID(id)); err != nil {
		return err
	}
	err = c.Log.GrowTopic(ctx, id, partitions)
	if err == nil {
		b.Tell(ctx)
	}
	return translate(err)
}

// AlterTopic changes the settings of a topic; durable on return. change gets a copy
// of them, to change in place. Changes run one after the other, so that none undoes
// another. change may run without its result being stored.
//
// Errors: ErrUnknownTopic, ErrInvalidConfig, ErrInvalidTopic if all settings together
// are too large, and what change returns.
func (b *Broker) AlterTopic(ctx context.Context, id weir.TopicID, change func(configs map[string]string) error) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	waited := stopwatch.Waiting(ctx)
	select {
	case b.altering <- struct{}{}:
		waited()
		defer func() { <-b.altering }()
	case <-ctx.Done():
		waited()
		return ctx.Err()
	}
	t, err := known(id)(c.Log.TopicByID(id))
	if err != nil {
		return err
	}
	configs := maps.Clone(t.Configs)
	if configs == nil {
		configs = make(map[string]string)
	}
	if err := change(configs); err != nil {
		return err
	}
	if err := CheckConfigs(configs); err != nil {
		return err
	}
	if maps.Equal(configs, t.Configs) {
		return nil
	}
	err = c.Log.AlterTopic(ctx, id, configs)
	if err == nil {
		b.Tell(ctx)
	}
	return translate(err)
}

// Size returns the bytes at rest that the records of a partition take.
func (b *Broker) Size(id weir.TopicID, partition int32) (int64, error) {
	if id == OffsetsTopicID() {
		_, err := b.offsetsOf(partition)
		return 0, err
	}
	s, err := b.shardAt(id, partition)
	if err != nil {
		return 0, err
	}
	size, err := s.Log.Size(id, partition)
	if b.unopened(s, id, partition, err) {
		return 0, nil
	}
	return size, err
}

// DeleteRecords moves the first offset of a partition up to offset, -1 for its end,
// and returns the first offset afterwards. Durable on return; the space is freed
// later. For an offset beyond the end it returns ErrOffsetOutOfRange.
func (b *Broker) DeleteRecords(ctx context.Context, id weir.TopicID, partition int32, offset int64) (start int64, err error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return -1, err
	}
	if err := b.open(ctx, s, id, partition); err != nil {
		return -1, err
	}
	start, err = s.Log.DeleteRecords(ctx, id, partition, offset)
	return start, translate(err)
}
