package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// world is a node that owns all shards of a bucket: one, or two, of which the second one
// has the queues.
type world struct {
	*Bridge
	t       testing.TB
	broker  *broker.Broker
	records *broker.Records
	shards  []*shard.Shard
	shard   *shard.Shard // has the queues
	set     *metrics.Set
	closed  bool
}

// twoShards returns the bucket of a new cluster with two shards.
func twoShards(t testing.TB) *mem.Bucket {
	t.Helper()
	bucket := mem.New()
	if _, err := identity.Open(t.Context(), bucket, 2); err != nil {
		t.Fatal(err)
	}
	return bucket
}

// open makes a node the owner. Its bridge begins with start.
func open(t testing.TB, bucket storage.Bucket, change ...func(*commitlog.Options)) *world {
	t.Helper()
	w, err := tryOpen(t, bucket, 1, change...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryOpen(t testing.TB, bucket storage.Bucket, shards uint32, change ...func(*commitlog.Options)) (*world, error) {
	quiet := slog.New(slog.DiscardHandler)
	w := &world{t: t, set: metrics.NewSet()}
	w.broker = broker.New(broker.Options{Self: broker.Node{ID: 1, Name: "a"}, Partitions: 2, Metrics: metrics.NewSet()})
	for id := range shards {
		s := shard.New(shard.Options{Log: quiet})
		o := commitlog.Options{Bucket: bucket, Shard: id, Node: "a", Log: quiet}
		for _, c := range change {
			c(&o)
		}
		if err := s.Open(t.Context(), o); err != nil {
			for _, open := range w.shards {
				_ = open.Close() // it may be fenced
			}
			return nil, err
		}
		w.shards, w.shard = append(w.shards, s), s
	}
	w.records = broker.NewRecords(w.broker, broker.RecordsOptions{})
	w.Bridge = New(Options{Broker: w.broker, Records: w.records, Queues: w.shard.Queues, Metrics: w.set, Log: quiet})
	for _, s := range w.shards {
		w.broker.Lead(s)
	}
	t.Cleanup(w.end)
	return w, nil
}

// started is open with a bridge that reads.
func started(t testing.TB, bucket storage.Bucket) *world {
	t.Helper()
	w := open(t, bucket)
	w.Start()
	return w
}

// end closes the node. It may be called twice.
func (w *world) end() {
	if w.closed {
		return
	}
	w.closed = true
	closed := make(chan struct{})
	go func() { w.Close(); close(closed) }()
	for _, s := range w.shards {
		_ = s.Close() // some tests fence the log
	}
	<-closed
	if err := w.records.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) topic(name string) broker.Topic {
	w.t.Helper()
	t, err := w.broker.CreateTopic(w.t.Context(), name, -1, nil)
	if err != nil && !errors.Is(err, broker.ErrTopicExists) {
		w.t.Fatal(err)
	}
	return t
}

// batchOf returns records as a batch.
func batchOf(t testing.TB, codec record.Codec, all ...record.Record) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for i := range all {
		if err := b.Append(&all[i]); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// put appends records to a partition, and waits until they are durable.
func (w *world) put(t broker.Topic, partition int32, all ...record.Record) {
	w.t.Helper()
	answer := make(chan error, 1)
	w.broker.Append(broker.Append{Topic: t.ID, Partition: partition, Batch: batchOf(w.t, record.None, all...)}, func(_ int64, err error) { answer <- err })
	if err := <-answer; err != nil {
		w.t.Fatal(err)
	}
}

// reading is a record as a gateway sends it.
func reading(mqttTopic, body string) record.Record {
	return record.Record{Key: []byte(mqttTopic), Value: []byte(body), Headers: []record.Header{{Key: "weir.client", Value: []byte("c")}}}
}

// plain are the settings of a queue without arguments.
func plain() state.Settings {
	return state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
}

// declare creates a queue of the default vhost.
func (w *world) declare(name string) {
	w.t.Helper()
	if _, err := w.shard.Queues.DeclareQueue(w.t.Context(), queue.DefaultVhost, name, plain()); err != nil {
		w.t.Fatal(err)
	}
}

// bind binds a queue, which it creates, to amq.topic.
func (w *world) bind(name string, keys ...string) {
	w.t.Helper()
	w.declare(name)
	for _, key := range keys {
		if err := w.shard.Queues.Bind(w.t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: name, Key: key}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) unbind(name, key string) {
	w.t.Helper()
	if err := w.shard.Queues.Unbind(w.t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: name, Key: key}); err != nil {
		w.t.Fatal(err)
	}
}

// bodies returns what is in a queue, when nothing moves any more. The test is in a bubble.
func (w *world) bodies(name string) (all []string) {
	w.t.Helper()
	synctest.Wait()
	for _, d := range w.deliveries(name) {
		all = append(all, string(d.Body))
	}
	return all
}

func (w *world) deliveries(name string) (all []queue.Delivery) {
	w.t.Helper()
	for from := int64(0); ; {
		some, err := w.shard.Queues.Peek(w.t.Context(), queue.DefaultVhost, name, "", from, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		from = some[len(some)-1].ID + 1
		all = append(all, some...)
	}
}

// expect compares a queue with what it should have, in order.
func (w *world) expect(name string, want ...string) {
	w.t.Helper()
	if got := w.bodies(name); !slices.Equal(got, want) {
		w.t.Errorf("queue %s has %q, want %q", name, got, want)
	}
}

// positions returns what is durable, without the one that says that the vhost follows the
// topics.
func (w *world) positions() (all map[state.Partition]int64, follows bool) {
	w.t.Helper()
	synctest.Wait()
	positions, err := w.shard.Queues.Positions(w.t.Context(), queue.DefaultVhost, exchange)
	if err != nil {
		w.t.Fatal(err)
	}
	all = make(map[state.Partition]int64)
	for _, p := range positions {
		if p.Partition == (state.Partition{}) {
			follows = true
			continue
		}
		all[p.Partition] = p.Offset
	}
	return all, follows
}

// counted compares a metric.
func (w *world) counted(name string, want uint64) {
	w.t.Helper()
	var out strings.Builder
	w.set.WritePrometheus(&out)
	if line := fmt.Sprintf("%s %d\n", name, want); !strings.Contains(out.String(), line) {
		w.t.Errorf("the metrics do not say %q:\n%s", line, out.String())
	}
}

func numbered(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}
