package streamqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// Options of Topics. Broker is required.
type Options struct {
	Broker    *broker.Broker
	Records   *broker.Records // of all partitions; default: those that this node leads
	MaxTopics int             // of the cluster: Ensured makes no more
	Metrics   *metrics.Set    // default: a set that is not shown
	Log       *slog.Logger    // slog.Default
}

// Topics are the topics of the cluster, as stream queues use them. It may be used by many
// goroutines.
type Topics struct {
	o    Options
	lost map[properties.Loss]*metrics.Counter // values that the other form of a message cannot have; not changed
}

// New returns Topics.
func New(o Options) *Topics {
	if o.Records == nil {
		o.Records = broker.NewRecords(o.Broker, broker.RecordsOptions{})
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	o.Log = cmp.Or(o.Log, slog.Default())
	t := &Topics{o: o, lost: make(map[properties.Loss]*metrics.Counter)}
	for _, l := range properties.Losses() {
		t.lost[l] = o.Metrics.NewCounter(fmt.Sprintf("weir_stream_values_lost_total{loss=%q}", l))
	}
	return t
}

// count counts losses.
func (t *Topics) count(all []properties.Loss) {
	for _, l := range all {
		t.lost[l].Inc()
	}
}

// Calls returns what the queues of a shard need of topics.
func (t *Topics) Calls() queue.Topics {
	return queue.Topics{Create: t.create, Stat: t.stat, Open: t.open, Watch: t.watch, Append: t.append}
}

// topic returns a topic. Errors: queue.ErrNoTopic, and those of the broker.
func (t *Topics) topic(name string) (broker.Topic, error) {
	found, err := t.o.Records.Topic(name)
	return found, translate(err)
}

// translate turns the broker's error for a topic that is gone into that of queues.
func translate(err error) error {
	if errors.Is(err, broker.ErrUnknownTopic) {
		return fmt.Errorf("%w: %w", queue.ErrNoTopic, err)
	}
	return err
}

// create makes a topic of one partition unless it is there. What a topic that is there
// consists of stays as it is.
func (t *Topics) create(ctx context.Context, name string, s *state.Settings) error {
	if unusable(name) {
		return fmt.Errorf("%w: topic %s is reserved", queue.ErrInvalid, name)
	}
	if _, err := t.topic(name); !errors.Is(err, queue.ErrNoTopic) {
		return err
	}
	configs := make(map[string]string)
	if s.TTL > 0 {
		configs["retention.ms"] = strconv.FormatInt(s.TTL.Milliseconds(), 10)
	}
	if s.MaxBytes > 0 {
		configs["retention.bytes"] = strconv.FormatInt(s.MaxBytes, 10)
	}
	_, err := t.o.Records.CreateTopic(ctx, name, 1, configs)
	switch {
	case errors.Is(err, broker.ErrTopicExists):
		return nil
	case errors.Is(err, broker.ErrInvalidTopic):
		return fmt.Errorf("%w: %w", queue.ErrInvalid, err)
	}
	return err
}

// statTime bounds how long stat asks other nodes.
const statTime = 2 * time.Second

// stat returns how many offsets the partitions of a topic have, and their bytes at rest.
func (t *Topics) stat(name string) (messages, bytes int64, err error) {
	topic, err := t.topic(name)
	if err != nil {
		return 0, 0, err
	}
	places := make([]broker.Place, topic.Partitions)
	for p := range places {
		places[p] = broker.Place{Topic: topic.ID, Partition: int32(p)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statTime)
	defer cancel()
	for _, x := range t.o.Records.Ranges(ctx, places) {
		if x.Err != nil {
			return 0, 0, translate(x.Err)
		}
		messages += x.End - x.Start
		bytes += x.Bytes
	}
	return messages, bytes, nil
}
