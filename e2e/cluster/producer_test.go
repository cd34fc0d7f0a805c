package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	produced   = "produced" // topic
	partitions = 8
)

// producer is idempotent producers, each of which numbers its records, and a consumer
// group that reads them meanwhile. Every record that was acknowledged must be in its
// partition once, each partition must have those of a producer in order, and members of
// the group must have seen every record.
type producer struct {
	t     *testing.T
	nodes *nodes

	mu    sync.Mutex
	acked map[numbered]bool    // guarded by mu; false: an error, so it may be there or not
	seen  map[place]numbered   // by members of the group; guarded by mu
	inLog map[int32][]numbered // of judge
}

// numbered is a record.
type numbered struct {
	producer  uint32
	partition int32
	number    uint64
}

type place struct {
	partition int32
	offset    int64
}

func newProducer(t *testing.T, n *nodes) *producer {
	t.Helper()
	createTopic(t, n, produced, partitions)
	return &producer{t: t, nodes: n, acked: make(map[numbered]bool), seen: make(map[place]numbered), inLog: make(map[int32][]numbered)}
}

// createTopic creates a topic before anything goes wrong.
func createTopic(t *testing.T, n *nodes, name string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(newClient(t, n)).CreateTopic(ctx, partitions, 1, nil, name); err != nil {
		t.Fatal(err)
	}
}

func (p *producer) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for id := range uint32(3) {
		all.Go(func() { p.produce(ctx, id) })
	}
	for range 2 {
		all.Go(func() { p.consume(ctx) })
	}
}

func (p *producer) produce(ctx context.Context, id uint32) {
	client := newClient(p.t, p.nodes, kgo.DefaultProduceTopic(produced), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for number := uint64(0); ctx.Err() == nil; number++ {
		x := numbered{id, int32(number % partitions), number}
		value := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, id), number)
		client.Produce(context.Background(), &kgo.Record{Partition: x.partition, Value: value}, func(_ *kgo.Record, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.acked[x] = err == nil
			if err != nil {
				p.t.Logf("producer %d: record %d: %v", id, number, err)
			}
		})
		<-tick.C
	}
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Flush(limited); err != nil {
		p.t.Errorf("producer %d: what it sent is neither acknowledged nor refused a minute after the last fault: %v", id, err)
	}
}

func parse(r *kgo.Record) (numbered, error) {
	if len(r.Value) != 12 {
		return numbered{}, fmt.Errorf("partition %d has at %d %q, which nobody sent", r.Partition, r.Offset, r.Value)
	}
	return numbered{binary.BigEndian.Uint32(r.Value), r.Partition, binary.BigEndian.Uint64(r.Value[4:])}, nil
}

func (p *producer) consume(ctx context.Context) {
	client := newClient(p.t, p.nodes, kgo.ConsumeTopics(produced), kgo.ConsumerGroup("readers"), kgo.AutoCommitInterval(200*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second))
	for ctx.Err() == nil {
		p.note(client.PollFetches(ctx))
	}
	client.CloseAllowingRebalance() // commits what it has seen
}

func (p *producer) note(fetches kgo.Fetches) {
	fetches.EachRecord(func(r *kgo.Record) {
		x, err := parse(r)
		if err != nil {
			p.t.Error(err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		at := place{r.Partition, r.Offset}
		if before, ok := p.seen[at]; ok && before != x {
			p.t.Errorf("the group has seen %v at %v, and %v before", x, at, before)
		}
		p.seen[at] = x
	})
}

// judge reads the topic from the beginning, and lets a member of the group read to the
// end.
func (p *producer) judge(ctx context.Context) {
	ends := p.readAll(ctx)
	if ends == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	times := make(map[numbered]int)
	for partition, all := range p.inLog {
		last := make(map[uint32]uint64)
		for _, x := range all {
			times[x]++
			if before, ok := last[x.producer]; ok && x.number <= before {
				p.t.Errorf("partition %d has record %d of producer %d behind %d", partition, x.number, x.producer, before)
			}
			last[x.producer] = x.number
		}
	}
	acked := 0
	for x, ok := range p.acked {
		if ok {
			acked++
		}
		if n := times[x]; ok && n != 1 || n > 1 {
			p.t.Errorf("record %v (acknowledged: %v) is there %d times", x, ok, n)
		}
	}
	p.t.Logf("producers: %d records, %d of them acknowledged; the group has seen %d", len(p.acked), acked, len(p.seen))
	if acked == 0 {
		p.t.Error("no record was acknowledged")
	}
	for partition, all := range p.inLog {
		for offset, x := range all {
			if got, ok := p.seen[place{partition, int64(offset)}]; !ok || got != x {
				p.t.Errorf("the group has seen %v at %d of partition %d (seen: %v), where %v is", got, offset, partition, ok, x)
				break
			}
		}
	}
}

// readAll fills inLog, and makes the group see the rest. It returns nil after an error.
func (p *producer) readAll(ctx context.Context) map[int32]int64 {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := newClient(p.t, p.nodes, kgo.ConsumeTopics(produced), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, produced)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		p.t.Errorf("list the ends of %s: %v", produced, err)
		return nil
	}
	ends, left := make(map[int32]int64), int64(0)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset; left += o.Offset })
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			p.t.Errorf("read %s: %d records are missing after a minute", produced, left)
			return nil
		}
		fetches.EachRecord(func(r *kgo.Record) {
			x, err := parse(r)
			if err != nil || int64(len(p.inLog[r.Partition])) != r.Offset {
				p.t.Errorf("partition %d at %d, after %d records: %v", r.Partition, r.Offset, len(p.inLog[r.Partition]), err)
			}
			p.inLog[r.Partition] = append(p.inLog[r.Partition], x)
			left--
		})
	}
	member := newClient(p.t, p.nodes, kgo.ConsumeTopics(produced), kgo.ConsumerGroup("readers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for p.unseen() > 0 {
		fetches := member.PollFetches(ctx)
		if ctx.Err() != nil {
			p.t.Errorf("the group has not seen %d records after a minute", p.unseen())
			return nil
		}
		p.note(fetches)
	}
	return ends
}

func (p *producer) unseen() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, all := range p.inLog {
		for offset := range all {
			if _, ok := p.seen[place{partition, int64(offset)}]; !ok {
				n++
			}
		}
	}
	return n
}
