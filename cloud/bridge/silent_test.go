package bridge

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/broker/brokertest"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/record"
)

// farShards are shards of another node.
const farShards = 4

// two is a node whose bridge reads, and another node that has some shards.
type two struct {
	*world
	*brokertest.Two
}

func startTwo(t *testing.T) two {
	t.Helper()
	x := two{&world{t: t, set: metrics.NewSet()}, brokertest.New(t, brokertest.NearShards+farShards)}
	x.broker, x.records = x.Near, x.Records
	x.Open(func(uint32, *shard.Options) {}, func(id uint32, s *shard.Shard) {
		if id == brokertest.NearData {
			x.shard = s
			x.Bridge = New(Options{Broker: x.Near, Records: x.Records, Queues: s.Queues, Metrics: x.set, Log: slog.New(slog.DiscardHandler)})
		}
	})
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() { x.Bridge.Close(); close(closed) }()
		x.Two.Close()
		<-closed
	})
	x.Start()
	return x
}

func (x *two) putFar(topic broker.Topic, partition int32, body string) {
	x.t.Helper()
	x.Put(topic, partition, batchOf(x.t, record.None, reading(topic.Name+"/x", body)))
}

// TestSilentNode: while a node does not answer, what others have reaches the queues at once.
// What the silent one has follows as soon as it answers, or the node that has its shards then,
// once and in order.
func TestSilentNode(t *testing.T) {
	for _, moves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := startTwo(t)
			topic := x.Create("t")
			far, near := x.Places(topic)
			x.bind("q", "#")
			for _, p := range append(far, near) {
				x.putFar(topic, p, fmt.Sprint(p, " first"))
			}
			synctest.Wait()
			if got := x.bodies("q"); len(got) != farShards+1 {
				t.Fatalf("both nodes answer: the queue has %q", got)
			}

			x.Silent.Store(true)
			for _, p := range far {
				x.putFar(topic, p, fmt.Sprint(p, " second"))
			}
			synctest.Wait()
			if n := x.Asked.Load(); n != farShards {
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
			if n := x.Asked.Load(); n > 10*farShards {
				t.Errorf("the silent node is asked %d questions in ten seconds", n)
			}
			for _, p := range far {
				x.putFar(topic, p, fmt.Sprint(p, " third"))
			}
			if moves {
				x.TakeOver()
			} else {
				x.Silent.Store(false)
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
