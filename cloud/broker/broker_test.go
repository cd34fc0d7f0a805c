package broker

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// lead makes b the owner of what is in the bucket, as cloud does.
func lead(t testing.TB, b *Broker, bucket storage.Bucket) *commitlog.Log {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: b.Self().Name, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	b.Lead(s)
	t.Cleanup(func() { _ = s.Close() }) // some tests fence the log
	return s.Log.Log
}

func newBroker(o Options) *Broker {
	o.Self, o.Metrics = Node{ID: 1, Name: "a", Addresses: cluster.Addresses{cluster.HTTP: {"": "a:1"}}}, metrics.NewSet()
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	return New(o)
}

func batch(t *testing.T, size int) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// appendTo waits for the answer.
func appendTo(b *Broker, a Append) (int64, error) {
	type answer struct {
		base int64
		err  error
	}
	done := make(chan answer, 1)
	b.Append(a, func(base int64, err error) { done <- answer{base, err} })
	got := <-done
	return got.base, got.err
}

// streams is the shard that has gateway gw.
func streams(b *Broker) uint32 { return b.RouteOf(weir.SliceOfGateway("gw")) }

// calls are all calls that only an owner can answer, with a topic of that id.
func calls(b *Broker, id weir.TopicID) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Append": func(context.Context) error { _, err := appendTo(b, Append{Topic: id}); return err },
		"Produce": func(ctx context.Context) error {
			answer := make(chan error, 1)
			b.Produce(ctx, Append{Topic: id}, func(_ int64, err error) { answer <- err })
			return <-answer
		},
		"AppendTransactional": func(ctx context.Context) error {
			answer := make(chan error, 1)
			b.AppendTransactional(ctx, Append{Topic: id}, Transaction{ID: "tx"}, func(_ int64, err error) { answer <- err })
			return <-answer
		},
		"FetchCommitted": func(ctx context.Context) error { _, err := b.FetchCommitted(ctx, id, 0, 0, 1); return err },
		"Stable":         func(context.Context) error { _, err := b.Stable(id, 0); return err },
		"EpochEnd":       func(context.Context) error { _, _, err := b.EpochEnd(id, 0, 0); return err },
		"Producers":      func(context.Context) error { _, err := b.Producers(id, 0); return err },
		"Transactions":   func(context.Context) error { _, err := b.Transactions("tx"); return err },
		"Fetch":          func(ctx context.Context) error { _, err := b.Fetch(ctx, id, 0, 0, 1); return err },
		"Bounds":         func(context.Context) error { _, _, err := b.Bounds(id, 0); return err },
		"OffsetByTime":   func(ctx context.Context) error { _, _, err := b.OffsetByTime(ctx, id, 0, 0); return err },
		"MaxTimestamp":   func(ctx context.Context) error { _, _, err := b.MaxTimestamp(ctx, id, 0); return err },
		"Marks":          func(context.Context) error { _, _, err := b.Marks(streams(b), "gw"); return err },
		"MarksHere":      func(context.Context) error { _, err := b.MarksHere("gw"); return err },
		"Serves":         func(context.Context) error { return b.Serves(streams(b)) },
		"Mark":           func(ctx context.Context) error { _, err := b.Mark(ctx, weir.Stream{}, id, 0); return err },
		"BufferState":    func(context.Context) error { _, err := b.BufferState(streams(b), "gw", weir.BufferID{}); return err },
		"Retire":         func(ctx context.Context) error { return b.Retire(ctx, streams(b), "gw", weir.BufferID{}) },
		"Topics":         func(context.Context) error { _, err := b.Topics(); return err },
		"Topic":          func(context.Context) error { _, err := b.Topic("x"); return err },
		"TopicByID":      func(context.Context) error { _, err := b.TopicByID(id); return err },
		"CreateTopic":    func(ctx context.Context) error { _, err := b.CreateTopic(ctx, "x", 1, nil); return err },
		"DeleteTopic":    func(ctx context.Context) error { return b.DeleteTopic(ctx, id) },
		"AlterTopic":     func(ctx context.Context) error { return b.AlterTopic(ctx, id, nil) },
		"Size":           func(context.Context) error { _, err := b.Size(id, 0); return err },
		"GrowTopic":      func(ctx context.Context) error { return b.GrowTopic(ctx, id, 9) },
		"Groups":         func(context.Context) error { _, err := b.Groups("g"); return err },
		"NewProducer":    func(ctx context.Context) error { _, err := b.NewProducerID(ctx); return err },
	}
}

func refuseAll(t *testing.T, b *Broker, when string, want error) {
	t.Helper()
	for name, call := range calls(b, weir.TopicID{}) {
		if err := call(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s %s: %v, want %v", name, when, err, want)
		}
	}
	select {
	case <-b.Watch(weir.TopicID{}, 0): // there is a reason to ask again
	case <-time.After(10 * time.Second):
		t.Errorf("Watch %s waits for ever", when)
	}
}

// TestRoles: only an owner without doubt answers, and each role says who the
// owner is.
func TestRoles(t *testing.T) {
	b := newBroker(Options{})
	if _, known := b.Controller(); known || b.IsController() || b.Epoch(weir.TopicID{}, 0) != -1 || b.ClusterID() != "" {
		t.Error("a new broker knows something")
	}
	refuseAll(t, b, "at the start", ErrNotOwner)
	b.Doubt(0, true) // nothing to doubt
	other := Node{Name: "b", Addresses: cluster.Addresses{cluster.Kafka: {"": "b:9092"}}}
	b.Follow(0, other, "cluster-id")
	if owner, known := b.Controller(); !known || !reflect.DeepEqual(owner, Leader{other, -1}) || b.IsController() || b.ClusterID() != "cluster-id" {
		t.Errorf("standby of %v", owner)
	}
	refuseAll(t, b, "on a standby", ErrNotOwner)

	log := lead(t, b, mem.New())
	topic, err := b.CreateTopic(t.Context(), "t", -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if owner, _ := b.Controller(); !reflect.DeepEqual(owner, Leader{b.Self(), log.Epoch()}) || !b.IsController() || b.Epoch(topic.ID, 0) != log.Epoch() || topic.Partitions != 4 {
		t.Errorf("leading: owner %v, epoch %d, %d partitions", owner, owner.Epoch, topic.Partitions)
	}
	b.Doubt(0, true)
	refuseAll(t, b, "in doubt", ErrUnavailable)
	if owner, _ := b.Controller(); !reflect.DeepEqual(owner.Node, b.Self()) {
		t.Errorf("in doubt the owner is %v", owner)
	}
	b.Doubt(0, false)
	if _, err := b.Topic("t"); err != nil {
		t.Errorf("after the doubt: %v", err)
	}
	b.Follow(0, Node{}, b.ClusterID())
	b.Doubt(0, false) // the last word of a Confirm that ends
	if _, known := b.Controller(); known || b.ClusterID() == "" {
		t.Error("who lost the shard knows an owner, or forgot the cluster")
	}
	refuseAll(t, b, "after the shard was lost", ErrNotOwner)
}

// TestFencedIsNotOwner: what the log says of its end is ErrNotOwner to doors.
func TestFencedIsNotOwner(t *testing.T) {
	bucket := mem.New()
	old, next := newBroker(Options{}), newBroker(Options{})
	lead(t, old, bucket)
	topic, err := old.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	lead(t, next, bucket)
	if _, err := appendTo(old, Append{Topic: topic.ID, Batch: batch(t, 1)}); !errors.Is(err, ErrNotOwner) || !errors.Is(err, ErrFenced) {
		t.Errorf("append to the old owner: %v", err)
	}
	if _, err := old.CreateTopic(t.Context(), "u", 1, nil); !errors.Is(err, ErrNotOwner) {
		t.Errorf("create on the old owner: %v", err)
	}
	if base, err := appendTo(next, Append{Topic: topic.ID, Batch: batch(t, 1)}); err != nil || base != 0 {
		t.Errorf("append to the new owner: %d %v", base, err)
	}
}

// TestAppend: topic settings that the broker enforces.
func TestAppend(t *testing.T) {
	b := newBroker(Options{})
	lead(t, b, mem.New())
	topics := make(map[string]Topic)
	for name, configs := range map[string]map[string]string{
		"plain": nil,
		"small": {"max.message.bytes": "200"},
		"large": {"max.message.bytes": "2000000"},
	} {
		topic, err := b.CreateTopic(t.Context(), name, 1, configs)
		if err != nil {
			t.Fatal(err)
		}
		topics[name] = topic
	}
	for _, c := range []struct {
		topic string
		size  int
		want  error
	}{
		{"plain", 1 << 10, nil},
		{"plain", 1<<20 + 1<<10, ErrTooLarge},
		{"small", 100, nil},
		{"small", 200, ErrTooLarge},
		{"large", 1<<20 + 1<<10, nil},
	} {
		if _, err := appendTo(b, Append{Topic: topics[c.topic].ID, Batch: batch(t, c.size)}); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%d bytes to %s: %v, want %v", c.size, c.topic, err, c.want)
		}
	}
	if _, err := appendTo(b, Append{Topic: weir.TopicID{1}, Batch: batch(t, 1)}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("unknown topic: %v", err)
	}
}
