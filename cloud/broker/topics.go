package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/weirmq/weir/cloud/stopwatch"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// DefaultMaxMessageBytes is the largest record batch a topic takes unless its
// setting max.message.bytes says otherwise: 1 MiB and the batch's header, as in
// Kafka.
const DefaultMaxMessageBytes = 1<<20 + 12

// maxMaxMessageBytes is the largest max.message.bytes: a batch must fit into a
// slot of the log.
const maxMaxMessageBytes = 12_000_000

// MaxPartitions is the largest number of partitions of a topic.
const MaxPartitions = logstate.MaxPartitions

// Internal reports whether Kafka keeps something of its own under the name.
func Internal(name string) bool {
	switch name {
	case OffsetsTopic, "__transaction_state", "__share_group_state", "__cluster_metadata":
		return true
	}
	return false
}

// Reserved reports whether no client may create a topic of the name. All others that
// begin with underscores are users': Debezium, Cruise Control and Strimzi have some.
func Reserved(name string) bool {
	return Internal(name) || OwnTopic(name) || strings.HasPrefix(name, "__weir")
}

// Topics lists all topics, by name.
func (b *Broker) Topics() ([]Topic, error) {
	c, err := b.catalogue()
	if err != nil {
		return nil, err
	}
	return c.Log.Topics(), nil
}

// Topic returns the topic of that name.
func (b *Broker) Topic(name string) (Topic, error) {
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

// TopicByID returns the topic of that id: a topic that was deleted and created
// again under its name has another one.
func (b *Broker) TopicByID(id weir.TopicID) (Topic, error) {
	c, err := b.catalogue()
	if err != nil {
		return Topic{}, err
	}
	if id == OffsetsTopicID() {
		return known(id)(b.InternalTopic())
	}
	return known(id)(c.Log.TopicByID(id))
}

// known turns "not found" into an error that names what was asked for.
func known(what any) func(Topic, bool) (Topic, error) {
	return func(t Topic, ok bool) (Topic, error) {
		if !ok {
			return Topic{}, fmt.Errorf("%w: %v", ErrUnknownTopic, what)
		}
		return t, nil
	}
}

// CreateTopic creates a topic, with the default number of partitions for -1.
// It is durable on return. With ErrTopicExists comes the topic that exists.
func (b *Broker) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (Topic, error) {
	c, err := b.catalogue()
	if err != nil {
		return Topic{}, err
	}
	if err := CheckConfigs(configs); err != nil {
		return Topic{}, err
	}
	if partitions == -1 {
		partitions = b.DefaultPartitions()
	}
	t, err := c.Log.CreateTopic(ctx, name, partitions, configs)
	return t, translate(err)
}

// CheckName returns ErrInvalidTopic if CreateTopic would not take the name because
// of the topics that exist.
func (b *Broker) CheckName(name string) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	return c.Log.Alike(name)
}

// DeleteTopic deletes a topic, all its records, and the offsets that groups
// have in it; durable on return.
func (b *Broker) DeleteTopic(ctx context.Context, id weir.TopicID) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	t, ok := c.Log.TopicByID(id)
	if ok && t.Name == weir.GapTopic {
		return fmt.Errorf("%w: %s is Weir's own and cannot be deleted", ErrInvalidTopic, weir.GapTopic)
	}
	if err := c.Log.DeleteTopic(ctx, id); err != nil {
		return translate(err)
	}
	groups, err := b.AllGroups()
	for _, g := range groups {
		err = errors.Join(err, g.ForgetTopic(ctx, id, t.Name))
	}
	return err
}

// GrowTopic raises the number of partitions; durable on return. Keys move to
// other partitions: order per key holds within what was sent before and within
// what is sent after.
func (b *Broker) GrowTopic(ctx context.Context, id weir.TopicID, partitions int32) error {
	c, err := b.catalogue()
	if err != nil {
		return err
	}
	return translate(c.Log.GrowTopic(ctx, id, partitions))
}

// AlterTopic changes the settings of a topic; durable on return. change gets
// a copy of them, to change in place; calls come one after the other, so that none
// undoes what another has done. It may be called and nothing stored all the same.
//
// Errors: ErrUnknownTopic, ErrInvalidConfig, ErrInvalidTopic if all settings
// together are too large, and what change returns.
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
	return translate(c.Log.AlterTopic(ctx, id, configs))
}

// Size returns the bytes at rest that the records of a partition take.
func (b *Broker) Size(id weir.TopicID, partition int32) (int64, error) {
	if id == OffsetsTopicID() {
		_, err := b.offsetsOf(partition)
		return 0, err
	}
	log, err := b.logAt(id, partition)
	if err != nil {
		return 0, err
	}
	return log.Size(id, partition)
}

// DeleteRecords moves the first offset of a partition up to offset, -1 for its
// end, and returns where it is afterwards. Durable on return; the space is given
// back later. ErrOffsetOutOfRange for an offset beyond the end.
func (b *Broker) DeleteRecords(ctx context.Context, id weir.TopicID, partition int32, offset int64) (start int64, err error) {
	log, err := b.logAt(id, partition)
	if err != nil {
		return -1, err
	}
	start, err = log.DeleteRecords(ctx, id, partition, offset)
	return start, translate(err)
}
