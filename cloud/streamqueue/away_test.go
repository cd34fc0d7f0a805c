package streamqueue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/broker/brokertest"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// farShards are shards of another node.
const farShards = 3

// two is a node that serves queues and a part of a topic, and another node that leads the
// rest.
type two struct {
	*node
	*brokertest.Two
	topic broker.Topic
}

func startTwo(t *testing.T) two {
	t.Helper()
	x := two{&node{t: t}, brokertest.New(t, brokertest.NearShards+farShards), broker.Topic{}}
	x.broker = x.Near
	x.topics = New(Options{Broker: x.Near, Records: x.Records, Log: slog.New(slog.DiscardHandler)})
	x.Open(func(_ uint32, o *shard.Options) { o.Queues.Topics = x.topics.Calls() }, func(id uint32, s *shard.Shard) {
		if id == brokertest.NearData {
			x.Engine = s.Queues
		}
	})
	t.Cleanup(x.Two.Close)
	x.topic = x.Create("t")
	if ok, err := x.HasVhost(t.Context(), queue.DefaultVhost); err != nil || !ok {
		t.Fatalf("the default vhost: %v, %v", ok, err)
	}
	return x
}

func (x *two) put(partition int32, value string) {
	x.t.Helper()
	x.Put(x.topic, partition, recordtest.Batch(value))
}

// TestSilentNode: while a node does not answer, a consumer of a stream queue gets at once what
// others lead. What the silent one leads follows as soon as it answers, or the node that has
// its shards then, once and in order.
func TestSilentNode(t *testing.T) {
	for _, moves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := startTwo(t)
			far, near := x.Places(x.topic)
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
			x.Silent.Store(true)
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
			if n := x.Asked.Load(); n > 10*farShards {
				t.Errorf("the silent node is asked %d questions in ten seconds", n)
			}
			for _, p := range far {
				x.put(p, fmt.Sprint(p, " 2"))
			}
			if moves {
				x.TakeOver()
			} else {
				x.Silent.Store(false)
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
