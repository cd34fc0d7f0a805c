package bridge

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
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// farShards are shards of another node.
const farShards = 4

// two is a node whose bridge reads, and another node b that has some shards.
type two struct {
	*world
	far    *broker.Broker // of b
	silent atomic.Bool    // b does not answer
	asked  atomic.Int64   // questions that b did not answer
}

// startTwo starts two nodes: one has the catalogue and shard 1, which has the queues, the
// other one the next shards.
func startTwo(t *testing.T) *two {
	t.Helper()
	bucket, quiet := mem.New(), slog.New(slog.DiscardHandler)
	const shards = 2 + farShards
	if _, err := identity.Open(t.Context(), bucket, shards); err != nil {
		t.Fatal(err)
	}
	x := &two{world: &world{t: t, set: metrics.NewSet()}}
	newBroker := func(name string) *broker.Broker {
		return broker.New(broker.Options{Self: broker.Node{ID: 1, Name: name}, Shards: shards, Partitions: 32, Metrics: metrics.NewSet()})
	}
	x.broker, x.far = newBroker("a"), newBroker("b")
	there := broker.NewRecords(x.far, broker.RecordsOptions{})
	x.records = broker.NewRecords(x.broker, broker.RecordsOptions{
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
	topics := &machine.Topics{All: func() []broker.Topic {
		all, _ := x.broker.Topics()
		return all
	}, ByID: func(id weir.TopicID) (broker.Topic, bool) {
		topic, err := x.broker.TopicByID(id)
		return topic, err == nil
	}}
	for id := range uint32(shards) {
		o := shard.Options{Log: quiet, Part: shard.PartOf(id, shards)}
		if o.Part == shard.Data {
			o.Topics = topics
			o.Queues.Here = func(string) bool { return id == 1 }
		}
		o.Txns.Shard, o.Txns.Shards = id, x.broker.TransactionShards()
		s := shard.New(o)
		if id == 1 {
			x.shard = s
			x.Bridge = New(Options{Broker: x.broker, Records: x.records, Queues: s.Queues, Metrics: x.set, Log: quiet})
		}
		if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: shards, Node: "a", Log: quiet}); err != nil {
			t.Fatal(err)
		}
		x.shards = append(x.shards, s)
		leads, follows := x.broker, x.far
		if id > 1 {
			leads, follows = x.far, x.broker
		}
		leads.Lead(s)
		follows.Follow(id, leads.Self(), "")
	}
	t.Cleanup(func() {
		x.end()
		if err := there.Close(); err != nil {
			t.Error(err)
		}
	})
	x.Start()
	return x
}

// places returns a partition of each shard of the other node, and one of this node.
func (x *two) places(topic broker.Topic) (far []int32, near int32) {
	near = -1
	seen := make(map[uint32]bool)
	for p := range topic.Partitions {
		id := x.broker.RouteOf(weir.SliceOf(topic.ID, p))
		switch {
		case id == 1:
			near = p
		case !seen[id]:
			seen[id] = true
			far = append(far, p)
		}
	}
	if len(far) != farShards || near < 0 {
		x.t.Fatalf("not every shard has a partition: %d, %d", far, near)
	}
	return far, near
}

// putFar appends at the node that leads the partition, whether it answers or not.
func (x *two) putFar(topic broker.Topic, partition int32, body string) {
	x.t.Helper()
	leads := x.far
	if x.broker.RouteOf(weir.SliceOf(topic.ID, partition)) == 1 {
		leads = x.broker
	}
	answer := make(chan error, 1)
	leads.Append(broker.Append{Topic: topic.ID, Partition: partition, Batch: batchOf(x.t, record.None, reading(topic.Name+"/x", body))}, func(_ int64, err error) { answer <- err })
	if err := <-answer; err != nil {
		x.t.Fatal(err)
	}
}

// TestSilentNode: while a node does not answer, what others have reaches the queues at once.
// What the silent one has follows as soon as it answers, or the node that has its shards then,
// once and in order.
func TestSilentNode(t *testing.T) {
	for _, moves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := startTwo(t)
			topic, err := x.broker.CreateTopic(t.Context(), "t", -1, nil)
			if err != nil {
				t.Fatal(err)
			}
			far, near := x.places(topic)
			for _, s := range x.shards[1:] {
				if err := s.Log.OpenTopic(t.Context(), topic, x.shards[0].Log.Acked()); err != nil {
					t.Fatal(err)
				}
			}
			x.bind("q", "#")
			for _, p := range append(far, near) {
				x.putFar(topic, p, fmt.Sprint(p, " first"))
			}
			synctest.Wait()
			if got := x.bodies("q"); len(got) != farShards+1 {
				t.Fatalf("both nodes answer: the queue has %q", got)
			}

			x.silent.Store(true)
			for _, p := range far {
				x.putFar(topic, p, fmt.Sprint(p, " second"))
			}
			synctest.Wait()
			if n := x.asked.Load(); n != farShards {
				t.Errorf("the silent node is asked %d questions, want one of each shard", n)
			}
			for i := range 20 { // for ten seconds
				x.putFar(topic, near, fmt.Sprint("near ", i))
				synctest.Wait()
				if got := x.bodies("q"); got[len(got)-1] != fmt.Sprint("near ", i) {
					t.Fatalf("a node is silent: the queue has %q", got)
				}
				time.Sleep(500 * time.Millisecond)
			}
			if n := x.asked.Load(); n > 10*farShards {
				t.Errorf("the silent node is asked %d questions in ten seconds", n)
			}
			for _, p := range far {
				x.putFar(topic, p, fmt.Sprint(p, " third"))
			}
			if moves {
				x.takeOver()
			} else {
				x.silent.Store(false)
			}
			time.Sleep(readTime + time.Millisecond)
			synctest.Wait()
			got := x.bodies("q")
			for _, p := range far {
				var of []string
				for _, body := range got {
					if n := len(fmt.Sprint(p, " ")); len(body) > n && body[:n] == fmt.Sprint(p, " ") {
						of = append(of, body[n:])
					}
				}
				if !slices.Equal(of, []string{"first", "second", "third"}) {
					t.Errorf("moves %v: of partition %d the queue has %q", moves, p, of)
				}
			}
			if x.Lag() != 0 {
				t.Error("something is left to read")
			}
		})
	}
}

// takeOver has this node take over the shards of the other one.
func (x *two) takeOver() {
	for _, s := range x.shards[2:] {
		x.far.Follow(s.ID, broker.Node{}, "")
		x.broker.Lead(s)
	}
}
