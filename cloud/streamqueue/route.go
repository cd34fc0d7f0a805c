package streamqueue

import (
	"context"
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
)

// Existing returns the topic that gets what is published to amq.topic with a routing key:
// the one that gateways without routes send the same MQTT topic to, which is named by its
// first level. It returns "" if there is no such topic.
func (t *Topics) Existing(_ context.Context, key string) (string, error) {
	name, _, _ := strings.Cut(key, ".")
	if unusable(name) {
		return "", nil
	}
	_, err := t.topic(name)
	if errors.Is(err, queue.ErrNoTopic) {
		return "", nil
	}
	return name, err
}

// Ensured is Existing, but makes the topic if that is allowed: topics are made when they
// are named, the name is legal, and there are not too many.
func (t *Topics) Ensured(ctx context.Context, key string) (string, error) {
	name, err := t.Existing(ctx, key)
	if name != "" || err != nil || !t.o.Broker.AutoCreate() {
		return name, err
	}
	name, _, _ = strings.Cut(key, ".")
	if unusable(name) {
		return "", nil
	}
	all, err := t.o.Broker.Topics()
	if err != nil || len(all) >= t.o.MaxTopics {
		return "", err
	}
	_, err = t.o.Broker.CreateTopic(ctx, name, -1, nil)
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
