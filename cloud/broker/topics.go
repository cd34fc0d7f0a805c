package broker

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/weirmq/weir/storage/commitlog"
)

// DefaultMaxMessageBytes is the largest record batch a topic takes unless its
// setting max.message.bytes says otherwise: 1 MiB and the batch's header, as in
// Kafka.
const DefaultMaxMessageBytes = 1<<20 + 12

// maxMaxMessageBytes is the largest max.message.bytes: a batch must fit into a
// slot of the log.
const maxMaxMessageBytes = 4_000_000

// GapTopic is where gateways report what they had accepted and cannot deliver.
// It cannot be deleted: reports under way would be lost with it.
const GapTopic = "weir.gaps"

// Topics lists all topics, by name.
func (b *Broker) Topics() ([]Topic, error) {
	log, err := b.owned()
	if err != nil {
		return nil, err
	}
	return log.Topics(), nil
}

// Topic returns the topic of that name.
func (b *Broker) Topic(name string) (Topic, error) {
	log, err := b.owned()
	if err != nil {
		return Topic{}, err
	}
	return known(name)(log.Topic(name))
}

// TopicByID returns the topic of that id: a topic that was deleted and created
// again under its name has another one.
func (b *Broker) TopicByID(id TopicID) (Topic, error) {
	log, err := b.owned()
	if err != nil {
		return Topic{}, err
	}
	return known(id)(log.TopicByID(id))
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
	log, err := b.owned()
	if err != nil {
		return Topic{}, err
	}
	if err := CheckConfigs(configs); err != nil {
		return Topic{}, err
	}
	if partitions == -1 {
		partitions = b.o.Partitions
	}
	t, err := log.CreateTopic(ctx, name, partitions, configs)
	return t, translate(err)
}

// DeleteTopic deletes a topic, all its records, and the offsets that groups
// have in it; durable on return.
func (b *Broker) DeleteTopic(ctx context.Context, id TopicID) error {
	log, err := b.owned()
	if err != nil {
		return err
	}
	if t, ok := log.TopicByID(id); ok && t.Name == GapTopic {
		return fmt.Errorf("%w: %s is Weir's own and cannot be deleted", ErrInvalidTopic, GapTopic)
	}
	if err := log.DeleteTopic(ctx, id); err != nil {
		return translate(err)
	}
	groups, err := b.Groups()
	if err != nil {
		return err
	}
	return groups.ForgetTopic(ctx, id)
}

// GrowTopic raises the number of partitions; durable on return. Keys move to
// other partitions: order per key holds within what was sent before and within
// what is sent after.
func (b *Broker) GrowTopic(ctx context.Context, id TopicID, partitions int32) error {
	log, err := b.owned()
	if err != nil {
		return err
	}
	return translate(log.GrowTopic(ctx, id, partitions))
}

// DeleteRecords moves the first offset of a partition up to offset, -1 for its
// end, and returns where it is afterwards. Durable on return; the space is given
// back later. ErrOffsetOutOfRange for an offset beyond the end.
func (b *Broker) DeleteRecords(ctx context.Context, id TopicID, partition int32, offset int64) (start int64, err error) {
	log, err := b.owned()
	if err != nil {
		return -1, err
	}
	start, err = log.DeleteRecords(ctx, id, partition, offset)
	return start, translate(err)
}

// settings are the topic settings that can be stored, with the check of their
// value. Without retention.bytes and retention.ms everything is kept.
var settings = map[string]func(string) bool{
	"cleanup.policy":         oneOf("delete", "compact", "compact,delete", "delete,compact"),
	"compression.type":       oneOf("producer"),
	"delete.retention.ms":    atLeast(0),
	"max.message.bytes":      between(0, maxMaxMessageBytes),
	"message.timestamp.type": oneOf("CreateTime", "LogAppendTime"),
	"min.insync.replicas":    oneOf("1"),
	"min.cleanable.dirty.ratio": func(v string) bool {
		ratio, err := strconv.ParseFloat(v, 64)
		return err == nil && ratio >= 0 && ratio <= 1
	},
	"retention.bytes": atLeast(-1),
	"retention.ms":    atLeast(-1),
	"segment.bytes":   atLeast(14),
	"segment.ms":      atLeast(1),
}

func oneOf(values ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(values, v) }
}

func atLeast(least int64) func(string) bool { return between(least, math.MaxInt64) }

func between(least, most int64) func(string) bool {
	return func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= least && n <= most
	}
}

// CheckConfigs checks topic settings as CreateTopic does.
func CheckConfigs(configs map[string]string) error {
	for name, value := range configs {
		check, ok := settings[name]
		if !ok {
			return fmt.Errorf("%w: there is none called %q", ErrInvalidConfig, name)
		}
		if !check(value) {
			return fmt.Errorf("%w: %s cannot be %q", ErrInvalidConfig, name, value)
		}
	}
	return nil
}

// maxMessageBytes is the limit of one topic.
func maxMessageBytes(t commitlog.Topic) int {
	if v, err := strconv.Atoi(t.Configs["max.message.bytes"]); err == nil {
		return v
	}
	return DefaultMaxMessageBytes
}
