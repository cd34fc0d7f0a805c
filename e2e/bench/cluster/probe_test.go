package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/record"
)

// probe is a client for each partition of a topic, of which each shard has as many. It
// sends a record, waits for the acknowledgement, and sends the next one three milliseconds
// later. A record that is refused or not answered goes to the next node at once: what a
// client waits between its attempts is not in the figures.
type probe struct {
	b       *testing.B
	n       *nodes
	stop    context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	gaps []gap // guarded by mu
}

// gap is a time without an acknowledgement of a partition, at whose end another node
// leads it.
type gap struct {
	partition int32
	from, to  string // node that acknowledged before and after it
	length    time.Duration
	at        time.Time // its end
}

const probed = "probed"

// askAgain is how soon a probe asks again, after a refusal by all nodes.
const askAgain = 2 * time.Millisecond

// newProbe begins to probe all partitions. At the end of the benchmark it ends.
func newProbe(b *testing.B, n *nodes) *probe {
	b.Helper()
	n.createTopics(int32(n.shards), probed)
	p := &probe{b: b, n: n}
	topic := idOf(b, n.client())
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = func() { cancel(); p.running.Wait() }
	b.Cleanup(p.stop)
	ready := make(chan bool, n.shards)
	batch := batchOf(b, 1, 100)
	for partition := range int32(n.shards) {
		p.running.Go(func() { p.run(ctx, topic, partition, batch, ready) })
	}
	for range n.shards {
		<-ready
	}
	return p
}

// idOf returns the id of topic probed.
func idOf(b *testing.B, client *kgo.Client) [16]byte {
	b.Helper()
	topics, err := kadm.NewClient(client).ListTopics(b.Context(), probed)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		b.Fatal(err)
	}
	return topics[probed].ID
}

// batchOf makes a batch of records.
func batchOf(b *testing.B, records, size int) []byte {
	b.Helper()
	builder := record.NewBuilder(record.None)
	for range records {
		if err := builder.Append(&record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, size)}); err != nil {
			b.Fatal(err)
		}
	}
	batch, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

func (p *probe) run(ctx context.Context, topic [16]byte, partition int32, batch []byte, ready chan<- bool) {
	clients := make(map[string]*kgo.Client)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	var last time.Time
	leader := ""
	for ctx.Err() == nil {
		for asked := leader; ctx.Err() == nil; {
			if asked != "" && p.produce(ctx, clients, asked, topic, partition, batch) {
				now := time.Now()
				if leader != "" && asked != leader {
					p.note(gap{partition, leader, asked, now.Sub(last), now})
				}
				if leader == "" {
					ready <- true
				}
				leader, last = asked, now
				break
			}
			asked = p.next(ctx, asked)
		}
		wait(ctx, 3*time.Millisecond)
	}
}

// next returns the node that is asked next.
func (p *probe) next(ctx context.Context, asked string) string {
	all := p.n.addresses("kafka")
	i := slices.Index(all, asked)
	if i == len(all)-1 {
		wait(ctx, askAgain)
	}
	return all[(i+1)%len(all)]
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// produce sends a record to a node and reports whether it is acknowledged.
func (p *probe) produce(ctx context.Context, clients map[string]*kgo.Client, address string, topic [16]byte, partition int32, batch []byte) bool {
	c := clients[address]
	if c == nil {
		var err error
		if c, err = kgo.NewClient(kgo.SeedBrokers(address), kgo.DialTimeout(500*time.Millisecond), kgo.RequestRetries(0), kgo.RetryTimeout(2*time.Second)); err != nil {
			p.b.Error(err)
			return false
		}
		clients[address] = c
	}
	return send(ctx, c, topic, partition, batch) == nil
}

// send sends a batch for a partition of topic probed to the seed of a client. It returns
// when that is acknowledged.
func send(ctx context.Context, c *kgo.Client, topic [16]byte, partition int32, batch []byte) error {
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 5000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rt.TopicID = probed, topic
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	answer, err := request.RequestWith(ctx, c.SeedBrokers()[0])
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
}

func (p *probe) note(g gap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gaps = append(p.gaps, g)
}

// take returns the gaps since it was called last.
func (p *probe) take() []gap {
	p.mu.Lock()
	defer p.mu.Unlock()
	gaps := p.gaps
	p.gaps = nil
	return gaps
}

// report reports percentiles of gaps.
func report(b *testing.B, what string, gaps []gap) {
	b.Helper()
	if len(gaps) == 0 {
		b.Fatalf("no %s", what)
	}
	slices.SortFunc(gaps, func(x, y gap) int { return int(x.length - y.length) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(gaps)), what)
	b.ReportMetric(ms(gaps[len(gaps)/2].length), "p50-ms")
	b.ReportMetric(ms(gaps[len(gaps)*99/100].length), "p99-ms")
	b.ReportMetric(ms(gaps[len(gaps)-1].length), "worst-ms")
	if testing.Verbose() {
		for _, g := range gaps[len(gaps)*9/10:] {
			fmt.Printf("  partition %d from %s to %s: %v\n", g.partition, g.from, g.to, g.length.Round(time.Millisecond))
		}
	}
}
