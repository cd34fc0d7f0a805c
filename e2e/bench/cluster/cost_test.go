package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/storage/redis/redistest"
)

// counts are the numbers of nodes that are compared.
var counts = []int{1, 2, 4}

const dataShards = 8

// BenchmarkCost: processor time of all nodes together for a million records, when one,
// two and four nodes have the same eight shards, at the same rate. Kafka clients find the
// owners themselves; gateways are all connected to one node, which passes on what belongs
// to the others: most frames have one reading (trickle) or are full (drain). What the nodes
// use when nothing happens is not counted in it; it is shown as cores. The bucket is Redis,
// because a folder makes what several shards of a process write durable at once.
func BenchmarkCost(b *testing.B) {
	for name, load := range map[string]func(*nodes) float64{
		"produce": func(n *nodes) float64 { return produce(n, n.client, 40_000, 8*time.Second) },
		"trickle": func(n *nodes) float64 { return throughDoor(n, 500, 16, 500*time.Millisecond) },
		"drain":   func(n *nodes) float64 { return throughDoor(n, 20, 50_000, 0) },
	} {
		b.Run(name, func(b *testing.B) {
			server := redistest.Start(b)
			for b.Loop() {
				one := 0.0
				for _, count := range counts {
					n := startNodes(b, server.NewBucket(b), dataShards, count)
					n.measureIdle(4 * time.Second)
					cpu := load(n)
					n.stopAll()
					if count == 1 {
						one = cpu
					}
					b.ReportMetric(n.idle, fmt.Sprintf("idle-cores-%d", count))
					b.ReportMetric(cpu, fmt.Sprintf("cpu-s/M-%d", count))
					b.ReportMetric(cpu/one, fmt.Sprintf("of-one-%d", count))
				}
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// produce sends records of 1 KiB at a rate, and returns processor seconds for a million.
func produce(n *nodes, dial func(...kgo.Opt) *kgo.Client, rate int, length time.Duration) float64 {
	n.b.Helper()
	const topic = "produced"
	n.createTopics(dataShards, topic)
	client := dial(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(10*time.Millisecond),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	value := make([]byte, 1<<10)
	rand.Read(value)
	var acked atomic.Int64
	send := func(records int) {
		began := time.Now()
		for i := range records {
			if i%100 == 0 {
				pause(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			}
			client.Produce(context.Background(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					n.b.Error(err)
				}
				acked.Add(1)
			})
		}
		if err := client.Flush(n.b.Context()); err != nil {
			n.b.Error(err)
		}
	}
	send(rate) // everything is connected
	records := rate * int(length/time.Second)
	m := n.measure()
	send(records)
	return m.perMillion(int64(records))
}

// throughDoor lets gateways that are connected to the first node send readings of 100
// bytes: each of them rounds times one in that time, or if it is 0 so many at once.
func throughDoor(n *nodes, gateways, rounds int, every time.Duration) float64 {
	n.b.Helper()
	n.createTopics(dataShards, readings)
	rest := n.all[1:]
	n.all = n.all[:1]
	f := newFleet(n.b, n, gateways, 100)
	n.all = append(n.all, rest...)
	f.run()
	f.accept(16) // all topics and partitions are known
	f.awaitSettled()
	m := n.measure()
	if every == 0 {
		f.accept(rounds)
	} else {
		for i := range rounds * gateways {
			f.all[i%gateways].accept(1)
			if i%50 == 0 {
				pause(every * 50 / time.Duration(gateways))
			}
		}
	}
	f.awaitSettled()
	cpu := m.perMillion(f.accepted.Load() - int64(16*gateways))
	f.stop()
	if got := n.records(readings); got != f.accepted.Load() {
		n.b.Errorf("%d records of %d readings", got, f.accepted.Load())
	}
	return cpu
}
