package streamqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// node is a broker that owns a shard whose queues have topics.
type node struct {
	*queue.Engine
	t      *testing.T
	broker *broker.Broker
	topics *Topics
}

func newNode(t *testing.T, change ...func(*broker.Options)) *node {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	o := broker.Options{Self: broker.Node{ID: 1, Name: "a"}, Partitions: 1}
	for _, c := range change {
		c(&o)
	}
	n := &node{t: t, broker: broker.New(o)}
	n.topics = New(Options{Broker: n.broker})
	s := shard.New(shard.Options{Log: quiet, Queues: queue.Options{Topics: n.topics.Calls()}})
	n.Engine = s.Queues
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	n.broker.Lead(s)
	if ok, err := n.HasVhost(t.Context(), queue.DefaultVhost); err != nil || !ok {
		t.Fatalf("the default vhost: %v, %v", ok, err)
	}
	return n
}

// create makes a topic.
func (n *node) create(name string, partitions int32) broker.Topic {
	n.t.Helper()
	topic, err := n.broker.CreateTopic(n.t.Context(), name, partitions, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return topic
}

// append appends a batch, with values as named and a second between records.
func (n *node) append(topic broker.Topic, partition int32, since int64, values ...string) {
	n.t.Helper()
	b := record.NewBuilder(record.Zstd)
	for i, v := range values {
		if err := b.Append(&record.Record{Timestamp: since + int64(i)*1000, Value: []byte(v)}); err != nil {
			n.t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		n.t.Fatal(err)
	}
	done := make(chan error, 1)
	n.broker.Append(broker.Append{Topic: topic.ID, Partition: partition, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// stream returns the settings of a stream queue.
func stream() state.Settings {
	return state.Settings{Durable: true, Stream: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
}

func (n *node) declare(name string) queue.Info {
	n.t.Helper()
	i, err := n.DeclareQueue(n.t.Context(), queue.DefaultVhost, name, stream())
	if err != nil {
		n.t.Fatal(err)
	}
	return i
}

// client is a consumer of a stream queue.
type client struct {
	*queue.Consumer
	t         *testing.T
	window    *queue.Window
	ready     chan struct{}
	cancelled chan struct{}
}

func (n *node) consume(name string, prefetch int, from queue.Offset) *client {
	n.t.Helper()
	c := &client{t: n.t, window: queue.NewWindow(prefetch), ready: make(chan struct{}, 1), cancelled: make(chan struct{})}
	var err error
	c.Consumer, err = n.ConsumeStream(n.t.Context(), queue.ConsumerOptions{Vhost: queue.DefaultVhost, Queue: name, Windows: []*queue.Window{c.window},
		Ready: func() {
			select {
			case c.ready <- struct{}{}:
			default:
			}
		}, Cancelled: func() { close(c.cancelled) }}, from)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// take waits for so many deliveries.
func (c *client) take(n int) []queue.Delivery {
	c.t.Helper()
	var all []queue.Delivery
	timeout := time.After(10 * time.Second)
	for len(all) < n {
		if all = c.Take(all, n-len(all)); len(all) == n {
			break
		}
		select {
		case <-c.ready:
		case <-timeout:
			c.t.Fatalf("%d of %d deliveries came: %s", len(all), n, bodies(all))
		}
	}
	return all
}

func bodies(all []queue.Delivery) []string {
	var texts []string
	for _, d := range all {
		texts = append(texts, string(d.Body))
	}
	return texts
}

// expect waits for deliveries with these bodies.
func (c *client) expect(want ...string) []queue.Delivery {
	c.t.Helper()
	all := c.take(len(want))
	if got := bodies(all); !slices.Equal(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
	return all
}

// header returns a header of a delivery.
func header(t *testing.T, d *queue.Delivery, name string) (int64, bool) {
	t.Helper()
	var p wire.Properties
	if err := p.Decode(d.Properties); err != nil {
		t.Fatal(err)
	}
	return p.Headers.Lookup(name).Int()
}

// TestOffsets: a consumer begins where it asks for, and goes on with what follows.
func TestOffsets(t *testing.T) {
	n := newNode(t)
	topic := n.create("readings", 1)
	const since = 1_700_000_000_000
	n.append(topic, 0, since, "0", "1", "2")
	n.append(topic, 0, since+3000, "3", "4")
	n.declare("readings")
	for _, c := range []struct {
		what string
		from queue.Offset
		want []string
	}{
		{"first", queue.Offset{From: queue.FromFirst}, []string{"0", "1", "2", "3", "4"}},
		{"last", queue.Offset{From: queue.FromLast}, []string{"4"}},
		{"next", queue.Offset{From: queue.FromNext}, nil},
		{"an offset", queue.Offset{From: queue.FromOffset, At: 2}, []string{"2", "3", "4"}},
		{"a negative offset", queue.Offset{From: queue.FromOffset, At: -2}, []string{"0", "1", "2", "3", "4"}},
		{"a time", queue.Offset{From: queue.FromTime, At: since + 1500}, []string{"2", "3", "4"}},
		{"a time before all", queue.Offset{From: queue.FromTime, At: -1}, []string{"0", "1", "2", "3", "4"}},
		{"a time after all", queue.Offset{From: queue.FromTime, At: since + 60_000}, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			k := n.consume("readings", 100, c.from)
			k.t = t
			got := k.expect(c.want...)
			for i := range got {
				if at, ok := header(t, &got[i], headerOffset); !ok || fmt.Sprint(at) != c.want[i] || at != got[i].ID {
					t.Errorf("message %s has the offset %d", c.want[i], at)
				}
				if _, ok := header(t, &got[i], headerPartition); ok {
					t.Error("a partition is named, though there is only one")
				}
			}
		})
	}
	next := n.consume("readings", 100, queue.Offset{From: queue.FromNext})
	future := n.consume("readings", 100, queue.Offset{From: queue.FromOffset, At: 6})
	n.append(topic, 0, since+5000, "5", "6")
	next.expect("5", "6")
	future.expect("6")
}

// TestCredit: a consumer gets no more than its window allows.
func TestCredit(t *testing.T) {
	n := newNode(t)
	topic := n.create("readings", 1)
	n.append(topic, 0, 0, "0", "1", "2", "3", "4")
	n.declare("readings")
	k := n.consume("readings", 2, queue.Offset{From: queue.FromFirst})
	k.expect("0", "1")
	if more := k.Take(nil, 10); len(more) > 0 {
		t.Fatalf("beyond the window: %q", bodies(more))
	}
	k.window.Release(1)
	k.expect("2")
	k.window.Release(2)
	k.expect("3", "4")
}

// TestLarge: a consumer that does not read holds little, and gets everything when it does.
func TestLarge(t *testing.T) {
	n := newNode(t)
	topic := n.create("readings", 1)
	var want []string
	for i := range 40 {
		var values []string
		for j := range 50 {
			values = append(values, fmt.Sprintf("%05d%02000d", i*50+j, 0))
		}
		n.append(topic, 0, 0, values...)
		want = append(want, values...)
	}
	n.declare("readings")
	k := n.consume("readings", 0, queue.Offset{From: queue.FromFirst})
	<-k.ready
	k.expect(want...)
}

// TestPartitions: a consumer reads all partitions of a topic, those too that it gets later;
// the records of each stay in order.
func TestPartitions(t *testing.T) {
	n := newNode(t)
	topic := n.create("readings", 3)
	n.append(topic, 0, 0, "0.0", "0.1")
	n.append(topic, 2, 0, "2.0", "2.1")
	n.declare("readings")
	k := n.consume("readings", 0, queue.Offset{From: queue.FromFirst})
	all := k.take(4)
	if err := n.broker.GrowTopic(t.Context(), topic.ID, 4); err != nil {
		t.Fatal(err)
	}
	n.append(topic, 3, 0, "3.0", "3.1")
	n.append(topic, 1, 0, "1.0") // wakes the consumer
	all = append(all, k.take(3)...)
	next := make(map[int64]int64)
	for i := range all {
		p, ok := header(t, &all[i], headerPartition)
		want := fmt.Sprintf("%d.%d", p, next[p])
		if next[p]++; !ok || string(all[i].Body) != want || all[i].ID != next[p]-1 {
			t.Errorf("got %s of partition %d at offset %d, want %s", all[i].Body, p, all[i].ID, want)
		}
	}
}

// TestDeletedRecords: a consumer goes on behind what was deleted.
func TestDeletedRecords(t *testing.T) {
	n := newNode(t)
	topic := n.create("readings", 1)
	n.append(topic, 0, 0, "0", "1", "2", "3")
	n.declare("readings")
	k := n.consume("readings", 1, queue.Offset{From: queue.FromFirst})
	k.expect("0")
	if _, err := n.broker.DeleteRecords(t.Context(), topic.ID, 0, 3); err != nil {
		t.Fatal(err)
	}
	other := n.consume("readings", 10, queue.Offset{From: queue.FromOffset, At: 1})
	other.expect("3")
	if i, err := n.Queue(queue.DefaultVhost, "readings", ""); err != nil || i.Ready != 1 || i.Consumers != 2 || i.Bytes == 0 {
		t.Errorf("the queue is %+v: %v", i, err)
	}
}

// TestDeletedTopic: the consumers of a topic that is deleted are cancelled, and its queue
// makes it again when it is declared again.
func TestDeletedTopic(t *testing.T) {
	n := newNode(t)
	if i := n.declare("readings"); !i.Created {
		t.Error("the queue was there before")
	}
	topic, err := n.broker.Topic("readings")
	if err != nil || topic.Partitions != 1 {
		t.Fatalf("the topic of the queue is %+v: %v", topic, err)
	}
	k := n.consume("readings", 1, queue.Offset{})
	if err := n.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-k.cancelled:
	case <-time.After(10 * time.Second):
		t.Fatal("a consumer of a deleted topic goes on")
	}
	if _, err := n.ConsumeStream(t.Context(), k.Options(), queue.Offset{}); !errors.Is(err, queue.ErrNoTopic) {
		t.Errorf("a consumer of a deleted topic: %v", err)
	}
	if i := n.declare("readings"); i.Created || i.Consumers != 0 {
		t.Errorf("the queue is %+v", i)
	}
	if topic, err = n.broker.Topic("readings"); err != nil {
		t.Fatal(err)
	}
	again := n.consume("readings", 1, queue.Offset{})
	n.append(topic, 0, 0, "new")
	again.expect("new")
}

// TestCreate: the topic of a new stream queue keeps what its arguments say; one that is
// there stays as it is, and reserved names are refused.
func TestCreate(t *testing.T) {
	n := newNode(t)
	n.create("old", 3)
	for _, name := range []string{"old", "new"} {
		s := stream()
		s.TTL, s.MaxBytes = time.Hour, 1<<20
		if _, err := n.DeclareQueue(t.Context(), queue.DefaultVhost, name, s); err != nil {
			t.Fatal(err)
		}
		topic, err := n.broker.Topic(name)
		if err != nil {
			t.Fatal(err)
		}
		want, partitions := "3600000 1048576", int32(1)
		if name == "old" {
			want, partitions = " ", 3
		}
		if got := topic.Configs["retention.ms"] + " " + topic.Configs["retention.bytes"]; got != want || topic.Partitions != partitions {
			t.Errorf("topic %s has retention %q and %d partitions", name, got, topic.Partitions)
		}
	}
	for _, name := range []string{"weir.gaps", "weir.vhost.x", "__consumer_offsets", "no topic", "a/b"} {
		if _, err := n.DeclareQueue(t.Context(), queue.DefaultVhost, name, stream()); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("a stream queue %q: %v", name, err)
		}
	}
}

// TestUnsupported: a stream queue has nothing to be got, purged, moved or looked at.
func TestUnsupported(t *testing.T) {
	n := newNode(t)
	n.declare("readings")
	ctx, name := t.Context(), "readings"
	calls := map[string]func() error{
		"Get":   func() error { _, _, _, err := n.Get(ctx, queue.DefaultVhost, name, ""); return err },
		"Purge": func() error { _, err := n.Purge(ctx, queue.DefaultVhost, name, ""); return err },
		"Peek":  func() error { _, err := n.Peek(ctx, queue.DefaultVhost, name, "", 0, 1); return err },
		"Consume": func() error {
			_, err := n.Consume(queue.ConsumerOptions{Vhost: queue.DefaultVhost, Queue: name})
			return err
		},
		"Move": func() error {
			_, err := n.Move(ctx, queue.Movement{Vhost: queue.DefaultVhost, Queue: name, Most: 1})
			return err
		},
	}
	for what, call := range calls {
		if err := call(); !errors.Is(err, queue.ErrStream) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
