package commitlog

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// maxConfigs bounds the configuration of a topic: keys and values, in bytes.
const maxConfigs = 64 << 10

// CreateTopic adds a topic. It is durable on return.
//
// Errors: ErrTopicExists, with the topic that has the name; ErrTopicDeleting;
// ErrInvalidTopic, also when there is a topic whose name differs in dots and underscores only, as in
// Kafka; ErrInvalidPartitions.
func (l *Log) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error) {
	if partitions < 1 || partitions > state.MaxPartitions {
		return state.Topic{}, fmt.Errorf("%w: %d is not in 1..%d", ErrInvalidPartitions, partitions, state.MaxPartitions)
	}
	size, err := checkConfigs(configs)
	if err != nil {
		return state.Topic{}, err
	}
	t := state.Topic{Name: name, Partitions: partitions, Configs: maps.Clone(configs), Created: l.now().UnixMilli()}
	rand.Read(t.ID[:])
	return l.createTopic(ctx, t, size)
}

// CreateTopicIn adds a topic of one partition, without settings, whose partition lies in
// a slice. It is durable on return.
//
// Errors: ErrTopicExists, with the topic that has the name; ErrTopicDeleting;
// ErrInvalidTopic.
func (l *Log) CreateTopicIn(ctx context.Context, slice weir.Slice, name string) (state.Topic, error) {
	t := state.Topic{Name: name, Partitions: 1, Created: l.now().UnixMilli()}
	// One id in weir.Slices will do.
	for rand.Read(t.ID[:]); weir.SliceOf(t.ID, 0) != slice; {
		rand.Read(t.ID[:])
	}
	return l.createTopic(ctx, t, 0)
}

// createTopic adds a topic, whose settings have size bytes.
func (l *Log) createTopic(ctx context.Context, t state.Topic, size int) (state.Topic, error) {
	if err := state.CheckTopicName(t.Name); err != nil {
		return state.Topic{}, err
	}
	return ask(ctx, l, size, func(b *builder) (state.Topic, error) {
		old := b.spec.topicNamed(t.Name)
		if old != nil && b.spec.standing(old.ID).deleting {
			return state.Topic{}, fmt.Errorf("%w: %q", ErrTopicDeleting, t.Name)
		}
		if old != nil {
			return *old, fmt.Errorf("%w: %q", ErrTopicExists, t.Name)
		}
		if other := b.spec.alike(t.Name); other != "" {
			return state.Topic{}, alikeError(t.Name, other)
		}
		b.spec.topics.set(b.spec.slot, t.ID, &t)
		b.spec.names.set(b.spec.slot, t.Name, t.ID)
		b.put(state.KindTopicCreated, state.EncodeTopicCreated(t))
		return t, nil
	})
}

// metricName returns the name of a topic in Kafka's metrics.
func metricName(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

func alikeError(name, other string) error {
	return fmt.Errorf("%w: topic %q collides with topic %q, as . and _ are the same in names of metrics", state.ErrInvalidTopic, name, other)
}

// alike returns a topic with the same name in metrics as name, "" if there is none.
func (s *speculation) alike(name string) string {
	if !strings.ContainsAny(name, "._") || strings.HasPrefix(name, state.OwnTopics) {
		return ""
	}
	want := metricName(name)
	same := func(other string) bool {
		return len(other) == len(name) && !strings.HasPrefix(other, state.OwnTopics) && metricName(other) == want
	}
	for other, c := range s.names.values {
		if (c.value != weir.TopicID{}) && same(other) {
			return other
		}
	}
	for other := range s.durable.Names {
		if same(other) && s.topicNamed(other) != nil {
			return other
		}
	}
	return ""
}

// Alike returns ErrInvalidTopic if no topic of this name can be created because the
// name of another topic differs from it in dots and underscores only.
func (l *Log) Alike(name string) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	durable := speculation{durable: l.state}
	if other := durable.alike(name); other != "" && other != name {
		return alikeError(name, other)
	}
	return nil
}

func checkConfigs(configs map[string]string) (size int, err error) {
	for key, value := range configs {
		if len(key) > state.MaxName || len(value) > state.MaxName {
			return 0, fmt.Errorf("%w: configuration %.40q is too long", state.ErrInvalidTopic, key)
		}
		size += len(key) + len(value) + 4
	}
	if size > maxConfigs {
		return 0, fmt.Errorf("%w: %d bytes of configuration", state.ErrInvalidTopic, size)
	}
	return size, nil
}

// DeleteTopic removes a topic with its records, and with the marks of streams
// and the producers in it. It is durable on return. With more than one shard it ends
// what DeletingTopic began: the other shards must have dropped the topic.
//
// Errors: ErrUnknownTopic; ErrMoving while slices of the topic are moved away, until
// that is settled.
func (l *Log) DeleteTopic(ctx context.Context, id weir.TopicID) error {
	_, err := ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		t := b.spec.topic(id)
		if t == nil {
			return struct{}{}, fmt.Errorf("%w: %v", ErrUnknownTopic, id)
		}
		if err := b.spec.barredTopic(t); err != nil {
			return struct{}{}, err
		}
		b.spec.topics.set(b.spec.slot, id, nil)
		b.spec.names.set(b.spec.slot, t.Name, weir.TopicID{})
		b.put(state.KindTopicDeleted, state.EncodeTopicDeleted(id))
		return struct{}{}, nil
	})
	return err
}

// GrowTopic adds partitions, so that the topic has the given number of them. It
// is durable on return.
//
// Errors: ErrUnknownTopic, ErrInvalidPartitions if that is not more than now.
func (l *Log) GrowTopic(ctx context.Context, id weir.TopicID, partitions int32) error {
	_, err := ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		t := b.spec.topic(id)
		switch {
		case t == nil || b.spec.standing(id).deleting:
			return struct{}{}, fmt.Errorf("%w: %v", ErrUnknownTopic, id)
		case partitions <= t.Partitions || partitions > state.MaxPartitions:
			return struct{}{}, fmt.Errorf("%w: %d for topic %q, which has %d", ErrInvalidPartitions, partitions, t.Name, t.Partitions)
		}
		grown := *t
		grown.Partitions = partitions
		b.spec.topics.set(b.spec.slot, id, &grown)
		b.put(state.KindTopicGrown, state.EncodeTopicGrown(id, partitions))
		return struct{}{}, nil
	})
	return err
}

// AlterTopic replaces all settings of a topic. The change is durable and visible on
// return.
//
// Errors: ErrUnknownTopic, ErrInvalidTopic if they are too large.
func (l *Log) AlterTopic(ctx context.Context, id weir.TopicID, configs map[string]string) error {
	size, err := checkConfigs(configs)
	if err != nil {
		return err
	}
	configs = maps.Clone(configs)
	_, err = ask(ctx, l, size, func(b *builder) (struct{}, error) {
		t := b.spec.topic(id)
		if t == nil || b.spec.standing(id).deleting {
			return struct{}{}, fmt.Errorf("%w: %v", ErrUnknownTopic, id)
		}
		altered := *t
		altered.Configs = configs
		b.spec.topics.set(b.spec.slot, id, &altered)
		b.put(state.KindTopicAltered, state.EncodeTopicAltered(id, configs))
		return struct{}{}, nil
	})
	return err
}

// place returns the topic of a partition if both exist.
func (s *speculation) place(key state.Place) (*state.Topic, error) {
	t := s.topic(key.Topic)
	if t == nil {
		return nil, fmt.Errorf("%w: topic %v", ErrUnknownTopic, key.Topic)
	}
	if key.Partition < 0 || key.Partition >= t.Partitions {
		return nil, fmt.Errorf("%w: partition %d of topic %q", ErrUnknownTopic, key.Partition, t.Name)
	}
	return t, nil
}

// Topic returns the topic of that name. Like TopicByID and Topics it leaves out a topic
// that is being deleted.
func (l *Log) Topic(name string) (state.Topic, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.state.Names[name]; t != nil && t.Deleting.IsZero() {
		return t.Topic, true
	}
	return state.Topic{}, false
}

// TopicByID returns the topic of that id.
func (l *Log) TopicByID(id weir.TopicID) (state.Topic, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.state.Topics[id]; t != nil && t.Deleting.IsZero() {
		return t.Topic, true
	}
	return state.Topic{}, false
}

// Topics returns all topics, sorted by name.
func (l *Log) Topics() []state.Topic {
	l.mu.RLock()
	defer l.mu.RUnlock()
	topics := make([]state.Topic, 0, len(l.state.Topics))
	for _, t := range l.state.Topics {
		if t.Deleting.IsZero() {
			topics = append(topics, t.Topic)
		}
	}
	slices.SortFunc(topics, func(a, b state.Topic) int { return cmp.Compare(a.Name, b.Name) })
	return topics
}

// Changes returns how many changes of topics and of their settings this Log has
// applied. A later call of Topics sees all of these, and perhaps more.
func (l *Log) Changes() uint64 { return l.changes.Load() }
