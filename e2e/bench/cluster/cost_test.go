package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/storage/redis/redistest"
)

// counts are the numbers of nodes that are compared.
var counts = []int{1, 2, 4}

const dataShards = 8

// raceTime is how long nodes that have just started may be busy with each other.
const raceTime = 20 * time.Second

// BenchmarkCost: processor time of all nodes together for a million records, when one,
// two and four nodes have the same eight shards, at the same rate. Kafka clients find the
// owners themselves. A client of its own makes larger requests for one node than for four,
// and so there are fewer of them (produce); that is not so if each partition gets equal
// batches (batches). Gateways are all connected to one node, which passes on what belongs to
// the others: most frames have one reading (trickle) or are full (drain). What the nodes use
// when nothing happens is not counted in it; it is shown as cores. The bucket is Redis, because
// a folder makes what several shards of a process write durable at once.
func BenchmarkCost(b *testing.B) {
	for name, load := range map[string]func(*nodes) float64{
		"produce": func(n *nodes) float64 { return produce(n, n.client, 40_000, 8*time.Second) },
		"batches": func(n *nodes) float64 { return batches(n, 50, 10*time.Millisecond, 8*time.Second) },
		"trickle": func(n *nodes) float64 { return throughDoor(n, 500, 16, 500*time.Millisecond) },
		"drain":   func(n *nodes) float64 { return throughDoor(n, 20, 50_000, 0) },
	} {
		b.Run(name, func(b *testing.B) {
			server := redistest.Start(b)
			for b.Loop() {
				one := 0.0
				for _, count := range counts {
					n := startNodes(b, server.NewBucket(b), dataShards, count)
					pause(raceTime) // nodes that start test whether they exclude each other
					n.measureIdle(8 * time.Second)
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

// batches sends a batch of records of 1 KiB to each partition at that interval, over a
// connection of its own to the partition's leader, and returns processor seconds for a million
// records. Clients and requests are the same, whichever nodes they go to.
func batches(n *nodes, records int, every, length time.Duration) float64 {
	n.b.Helper()
	n.createTopics(dataShards, probed)
	admin := n.client()
	topic, batch := idOf(n.b, admin), batchOf(n.b, records, 1<<10)
	leaders := leadersOf(n.b, admin)
	var acked atomic.Int64
	run := func(length time.Duration) {
		var running sync.WaitGroup
		began := time.Now()
		for partition, leader := range leaders {
			running.Go(func() {
				at := began.Add(time.Duration(partition) * every / dataShards)
				for ; at.Before(began.Add(length)); at = at.Add(every) {
					pause(time.Until(at))
					if err := send(n.b.Context(), leader, topic, int32(partition), batch); err != nil {
						n.b.Error(err)
						return
					}
					acked.Add(int64(records))
				}
			})
		}
		running.Wait()
	}
	run(time.Second) // everything is connected
	before, m := acked.Load(), n.measure()
	run(length)
	return m.perMillion(acked.Load() - before)
}

// leadersOf returns for each partition of topic probed a client whose seed leads it.
func leadersOf(b *testing.B, client *kgo.Client) []*kgo.Client {
	b.Helper()
	known, err := kadm.NewClient(client).Metadata(b.Context(), probed)
	if err != nil {
		b.Fatal(err)
	}
	addresses := make(map[int32]string)
	for _, node := range known.Brokers {
		addresses[node.NodeID] = fmt.Sprintf("%s:%d", node.Host, node.Port)
	}
	leaders := make([]*kgo.Client, dataShards)
	for _, p := range known.Topics[probed].Partitions {
		c, err := kgo.NewClient(kgo.SeedBrokers(addresses[p.Leader]))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		leaders[p.Partition] = c
	}
	return leaders
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
