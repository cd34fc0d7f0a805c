package streamqueue

import (
	"context"
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
)

// May reports whether a publisher may do op to a topic.
type May = func(op auth.Operation, topic string) bool

// Existing returns the topic that gets what is published to amq.topic with a routing key:
// the one that gateways without routes send the same MQTT topic to, which is named by its
// first level. It returns "" if there is no such topic, or if the publisher may not write to
// it.
func (t *Topics) Existing(_ context.Context, key string, may May) (string, error) {
	name, err := t.named(key)
	if errors.Is(err, queue.ErrNoTopic) || err == nil && !may(auth.Write, name) {
		return "", nil
	}
	return name, err
}

// named returns the topic that a routing key names. Errors: queue.ErrNoTopic, and those of
// the broker; with the first the name is "" if there cannot be such a topic.
func (t *Topics) named(key string) (string, error) {
	name, _, _ := strings.Cut(key, ".")
	if unusable(name) {
		return "", queue.ErrNoTopic
	}
	_, err := t.topic(name)
	return name, err
}

// Ensured is Existing, but makes the topic if that is allowed: topics are made when they
// are named, the name is legal, there are not too many, and the publisher may make it and
// write to it.
func (t *Topics) Ensured(ctx context.Context, key string, may May) (string, error) {
	name, err := t.named(key)
	switch {
	case err != nil && !errors.Is(err, queue.ErrNoTopic):
		return "", err
	case name == "", !may(auth.Write, name):
		return "", nil
	case err == nil:
		return name, nil
	case !t.o.Broker.AutoCreate(), !may(auth.Create, name):
		return "", nil
	}
	all, err := t.o.Records.Topics()
	if err != nil || len(all) >= t.o.MaxTopics {
		return "", err
	}
	_, err = t.o.Records.CreateTopic(ctx, name, -1, nil)
	switch {
	case errors.Is(err, broker.ErrInvalidTopic):
		return "", nil
	case err != nil && !errors.Is(err, broker.ErrTopicExists):
		return "", err
	}
	return name, nil
}

// unusable reports whether no client may write to a topic of that name.
func unusable(name string) bool {
	return name == "" || broker.Reserved(name) || strings.HasPrefix(name, "__")
}
