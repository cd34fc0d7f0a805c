package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// shardNodes are nodes of a cluster of four shards on one bucket. They keep their
// addresses.
type shardNodes struct {
	t     *testing.T
	dir   string
	ports map[string]int
	nodes map[string]*harness.Process
	here  *balancer // the only address that clients have; nil: they have all
}

func startShards(t *testing.T, names ...string) *shardNodes {
	t.Helper()
	return startShardsBehind(t, nil, names...)
}

// startShardsBehind starts nodes whose clients come through a load balancer, unless that is
// nil.
func startShardsBehind(t *testing.T, here *balancer, names ...string) *shardNodes {
	t.Helper()
	n := &shardNodes{t: t, dir: t.TempDir(), ports: make(map[string]int), nodes: make(map[string]*harness.Process), here: here}
	t.Cleanup(func() {
		for _, p := range n.nodes {
			p.Kill()
		}
		checkBucket(t, n.bucket())
		if t.Failed() {
			keepLogs(t, n.dir)
		}
	})
	for _, name := range names {
		n.ports[name] = freePort(t)
		n.start(name)
	}
	return n
}

func (n *shardNodes) bucket() string { return "file:" + filepath.Join(n.dir, "bucket") }

func (n *shardNodes) start(name string) {
	n.t.Helper()
	n.startAs(name, "weir-cloud")
}

// startAs is start with a binary, which may be of an earlier version.
func (n *shardNodes) startAs(name, binary string) {
	n.t.Helper()
	p, err := harness.Start(n.dir, name, binary, append([]string{"--data", filepath.Join(n.dir, name), "--node-id", name, "--bucket", n.bucket(), "--shards", "4",
		"--sync", "off", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--kafka", fmt.Sprintf("127.0.0.1:%d", n.ports[name]), "--takeover", "2s"}, n.here.flags(n.t, name)...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.nodes[name] = p
}

func (n *shardNodes) client(opts ...kgo.Opt) *kgo.Client {
	n.t.Helper()
	var servers []string
	for _, port := range n.ports {
		servers = append(servers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	if n.here != nil {
		servers = []string{n.here.address()}
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(servers...), kgo.RetryTimeout(30 * time.Second), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(time.Second)}, opts...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(cl.Close)
	return cl
}

// leaders returns how many partitions of a topic each node leads; 0 is for none.
func (n *shardNodes) leaders(admin *kadm.Client, topic string) map[int32]int {
	led := make(map[int32]int)
	m, err := admin.Metadata(n.t.Context(), topic)
	if err != nil {
		return led
	}
	for _, p := range m.Topics[topic].Partitions {
		if p.Err == nil {
			led[p.Leader]++
		}
	}
	return led
}

// producing writes to all partitions until it is stopped, and remembers what was
// acknowledged.
type producing struct {
	mu    sync.Mutex
	acked map[int32][]int // values by partition, in order
}

const shardPartitions = 8

func (p *producing) run(ctx context.Context, t *testing.T, cl *kgo.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		at := int32(i % shardPartitions)
		cl.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: "t", Partition: at, Value: strconv.AppendInt(nil, int64(i), 10)}, func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %s of partition %d: %v", r.Value, r.Partition, err)
				return
			}
			value, _ := strconv.Atoi(string(r.Value))
			p.mu.Lock()
			defer p.mu.Unlock()
			p.acked[r.Partition] = append(p.acked[r.Partition], value)
		})
		timer := time.NewTimer(2 * time.Millisecond)
		<-timer.C
	}
	if err := cl.Flush(context.WithoutCancel(ctx)); err != nil {
		t.Error(err)
	}
}

// counts returns how many records of each partition are acknowledged.
func (p *producing) counts() (by [shardPartitions]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, all := range p.acked {
		by[at] = len(all)
	}
	return by
}

// judge reads all partitions: they have what was acknowledged, each record once, in order.
func (p *producing) judge(t *testing.T, cl *kgo.Client) {
	t.Helper()
	got := make(map[int32][]int)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	count := 0
	for _, n := range p.counts() {
		count += n
	}
	for read := 0; read < count; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records are there", read, count)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			value, _ := strconv.Atoi(string(r.Value))
			got[r.Partition] = append(got[r.Partition], value)
			read++
		})
	}
	for at, want := range p.acked {
		if fmt.Sprint(got[at]) != fmt.Sprint(want) {
			t.Errorf("partition %d has %v\nacknowledged were %v", at, got[at], want)
		}
	}
}

// TestShards: two nodes share a cluster of several shards. Clients write and read all of
// it, one node is killed, and the other serves everything: nothing acknowledged is lost.
func TestShards(t *testing.T) {
	n := startShards(t, "one", "two")
	n.killed(t, "one")
}

// TestShardsAlone: the same with one node, which comes back.
func TestShardsAlone(t *testing.T) {
	n := startShards(t, "one")
	n.killed(t, "one")
}

func (n *shardNodes) killed(t *testing.T, name string) {
	cl := n.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), shardPartitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "each node leads partitions", func() bool {
		total := 0
		by := n.leaders(admin, "t")
		for _, led := range by {
			total += led
		}
		return total == shardPartitions && len(by) == len(n.nodes)
	})
	before := n.leaders(admin, "t")
	t.Logf("partitions by node: %v", before)

	p := &producing{acked: make(map[int32][]int)}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { p.run(ctx, t, cl) })
	reader := n.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	readSome(t, reader, 200)
	if err := reader.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	committed, err := admin.FetchOffsets(t.Context(), "g")
	if err != nil || len(committed["t"]) == 0 {
		t.Fatalf("committed offsets %v, %v", committed, err)
	}
	shareSetting(t, cl, "share.auto.offset.reset", "earliest")
	taken := n.share(t, 100)

	n.nodes[name].Kill()
	began := time.Now()
	if len(n.nodes) == 1 {
		n.start(name)
	}
	at := p.counts()
	within(t, 30*time.Second, "all partitions are written to again", func() bool {
		for partition, now := range p.counts() {
			if now < at[partition]+20 {
				return false
			}
		}
		return true
	})
	t.Logf("all partitions are written to %v after the kill: %v", time.Since(began).Round(time.Millisecond), n.leaders(admin, "t"))
	readSome(t, reader, 200)
	var after kadm.OffsetResponses
	within(t, 20*time.Second, "the group's offsets are answered", func() bool {
		after, err = admin.FetchOffsets(t.Context(), "g")
		return err == nil
	})
	for partition, o := range committed["t"] {
		if after["t"][partition].At < o.At {
			t.Errorf("partition %d: offset %d was committed, and is %d", partition, o.At, after["t"][partition].At)
		}
	}
	for value := range n.share(t, 100) {
		if taken[value] {
			t.Errorf("record %s was accepted, and is delivered again", value)
		}
	}
	stop()
	running.Wait()
	p.judge(t, n.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	within(t, 20*time.Second, "the topic is deleted", func() bool {
		deleted, err := admin.DeleteTopic(t.Context(), "t")
		return err == nil && (deleted.Err == nil || errors.Is(deleted.Err, kerr.UnknownTopicOrPartition))
	})
}

// readSome reads at least so many records.
func readSome(t *testing.T, cl *kgo.Client, records int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for records > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records are missing", records)
		}
		records -= fetches.NumRecords()
	}
}

// share accepts records as a member of a share group, and returns their values.
func (n *shardNodes) share(t *testing.T, records int) map[string]bool {
	t.Helper()
	results := make(chan error, 100)
	cl := n.client(kgo.ShareGroup("shared"), kgo.ConsumeTopics("t"), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.ShareAckCallback(func(_ *kgo.Client, rs kgo.ShareAckResults) { results <- rs.Error() }))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	taken := make(map[string]bool)
	for len(taken) < records {
		rs := cl.PollRecords(ctx, 50).Records()
		if ctx.Err() != nil {
			t.Fatalf("a member of a share group gets %d of %d records", len(taken), records)
		}
		for _, r := range rs {
			r.Ack(kgo.AckAccept)
		}
		err := cl.FlushAcks(ctx)
		for len(results) > 0 {
			err = errors.Join(err, <-results)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			taken[string(r.Value)] = true
		}
	}
	return taken
}
