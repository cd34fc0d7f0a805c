package streamqueue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// two is a node that serves queues and a part of a topic, and another node that leads the
// rest.
type two struct {
	*node
	far    *broker.Broker
	shards []*shard.Shard
	topic  broker.Topic
	silent atomic.Bool // the other node does not answer
	asked  atomic.Int64
}

// manyShards: the catalogue, shard 1 of this node, and those of the other one.
const manyShards = 5

func startTwo(t *testing.T) *two {
	t.Helper()
	bucket, quiet := mem.New(), slog.New(slog.DiscardHandler)
	if _, err := identity.Open(t.Context(), bucket, manyShards); err != nil {
		t.Fatal(err)
	}
	newBroker := func(name string) *broker.Broker {
		return broker.New(broker.Options{Self: broker.Node{ID: 1, Name: name}, Shards: manyShards, Partitions: 1, Metrics: metrics.NewSet()})
	}
	x := &two{node: &node{t: t, broker: newBroker("a")}, far: newBroker("b")}
	there := broker.NewRecords(x.far, broker.RecordsOptions{})
	records := broker.NewRecords(x.broker, broker.RecordsOptions{
		Ask: func(ctx context.Context, _ broker.Node, what string, question []byte) ([]byte, error) {
			if x.silent.Load() {
				x.asked.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return there.Answer(ctx, what, question)
		},
		Follow: func(ctx context.Context, _ broker.Node, id uint32, tell func([]byte) error) error {
			return there.Tell(ctx, id, tell)
		}})
	x.topics = New(Options{Broker: x.broker, Records: records, Log: quiet})
	all := func() []broker.Topic {
		all, _ := x.broker.Topics()
		return all
	}
	byID := func(id weir.TopicID) (broker.Topic, bool) {
		topic, err := x.broker.TopicByID(id)
		return topic, err == nil
	}
	for id := range uint32(manyShards) {
		o := shard.Options{Log: quiet, Part: shard.PartOf(id, manyShards), Queues: queue.Options{Topics: x.topics.Calls(), Here: func(string) bool { return id == 1 }}}
		if o.Part == shard.Data {
			o.Topics = &machine.Topics{All: all, ByID: byID}
		}
		o.Txns.Shard, o.Txns.Shards = id, x.broker.TransactionShards()
		s := shard.New(o)
		if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: manyShards, Node: "a", Log: quiet}); err != nil {
			t.Fatal(err)
		}
		leads, follows := x.broker, x.far
		if id > 1 {
			leads, follows = x.far, x.broker
		}
		leads.Lead(s)
		follows.Follow(id, leads.Self(), "")
		if x.shards = append(x.shards, s); id == 1 {
			x.Engine = s.Queues
		}
	}
	t.Cleanup(func() {
		for _, s := range x.shards {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := records.Close(); err != nil {
			t.Error(err)
		}
		if err := there.Close(); err != nil {
			t.Error(err)
		}
	})
	x.topic = x.create("t", 32)
	for _, s := range x.shards[1:] {
		if err := s.Log.OpenTopic(t.Context(), x.topic, x.shards[0].Log.Acked()); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := x.HasVhost(t.Context(), queue.DefaultVhost); err != nil || !ok {
		t.Fatalf("the default vhost: %v, %v", ok, err)
	}
	return x
}

// places returns a partition of each shard of the other node, and one of this node.
func (x *two) places() (far []int32, near int32) {
	near = -1
	seen := make(map[uint32]bool)
	for p := range x.topic.Partitions {
		id := x.broker.RouteOf(weir.SliceOf(x.topic.ID, p))
		switch {
		case id == 1:
			near = p
		case !seen[id]:
			seen[id] = true
			far = append(far, p)
		}
	}
	if len(far) != manyShards-2 || near < 0 {
		x.t.Fatalf("not every shard has a partition: %d, %d", far, near)
	}
	return far, near
}

// put appends at the node that leads the partition, whether that answers or not.
func (x *two) put(partition int32, value string) {
	x.t.Helper()
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: []byte(value)}); err != nil {
		x.t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		x.t.Fatal(err)
	}
	leads := x.far
	if x.broker.RouteOf(weir.SliceOf(x.topic.ID, partition)) == 1 {
		leads = x.broker
	}
	done := make(chan error, 1)
	leads.Append(broker.Append{Topic: x.topic.ID, Partition: partition, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		x.t.Fatal(err)
	}
}

// TestSilentNode: while a node does not answer, a consumer of a stream queue gets at once what
// others lead. What the silent one leads follows as soon as it answers, or the node that has
// its shards then, once and in order.
func TestSilentNode(t *testing.T) {
	for _, moves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := startTwo(t)
			far, near := x.places()
			x.declare("t")
			for _, p := range far {
				x.put(p, fmt.Sprint(p, " 0"))
			}
			c := x.consume("t", 0, queue.Offset{From: queue.FromFirst})
			var got []string
			takes := func() {
				synctest.Wait()
				for _, d := range c.Take(nil, 1000) {
					got = append(got, string(d.Body))
				}
			}
			if takes(); len(got) != len(far) {
				t.Fatalf("both nodes answer: the consumer has %q", got)
			}
			x.silent.Store(true)
			for _, p := range far {
				x.put(p, fmt.Sprint(p, " 1"))
			}
			for i := range 20 { // for ten seconds
				x.put(near, fmt.Sprint("near ", i))
				if takes(); got[len(got)-1] != fmt.Sprint("near ", i) {
					t.Fatalf("a node is silent: the consumer has %q", got)
				}
				time.Sleep(500 * time.Millisecond)
			}
			if n := x.asked.Load(); n > 10*manyShards {
				t.Errorf("the silent node is asked %d questions in ten seconds", n)
			}
			for _, p := range far {
				x.put(p, fmt.Sprint(p, " 2"))
			}
			if moves {
				for _, s := range x.shards[2:] {
					x.far.Follow(s.ID, broker.Node{}, "")
					x.broker.Lead(s)
				}
			} else {
				x.silent.Store(false)
			}
			time.Sleep(readTime + time.Millisecond)
			takes()
			for _, p := range far {
				var of []string
				for _, body := range got {
					var from int32
					var n string
					if _, err := fmt.Sscanf(body, "%d %s", &from, &n); err == nil && from == p {
						of = append(of, n)
					}
				}
				if !slices.Equal(of, []string{"0", "1", "2"}) {
					t.Errorf("moves %v: of partition %d the consumer has %q", moves, p, of)
				}
			}
			c.Close(context.Background())
		})
	}
}
