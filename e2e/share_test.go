package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// deliveries is what the members of a share group have seen and said.
type deliveries struct {
	mu       sync.Mutex
	count    map[int64]int32 // of each record: the highest delivery count
	seen     map[int64]int32 // times delivered
	asked    map[int64]int32 // times that a member has sent that it accepts it
	accepted map[int64]bool  // confirmed
	wrong    []string
}

func (d *deliveries) deliver(r *kgo.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[r.Offset]++
	switch {
	case d.accepted[r.Offset]:
		d.wrong = append(d.wrong, fmt.Sprintf("record %d was accepted and is delivered again", r.Offset))
	case r.DeliveryCount() < d.seen[r.Offset] || r.DeliveryCount() <= d.count[r.Offset]:
		d.wrong = append(d.wrong, fmt.Sprintf("delivery %d of record %d has count %d, the one before %d", d.seen[r.Offset], r.Offset, r.DeliveryCount(), d.count[r.Offset]))
	}
	d.count[r.Offset] = r.DeliveryCount()
}

func (d *deliveries) ask(r *kgo.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[r.Offset]++
}

func (d *deliveries) accept(rs []*kgo.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range rs {
		d.accepted[r.Offset] = true
	}
}

func (d *deliveries) left(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return n - len(d.accepted)
}

// TestShareKill: members of a share group take records while the cloud is killed at
// random moments. What was accepted is never delivered again; everything else is, and
// each delivery has a higher count than the one before, also across owners.
func TestShareKill(t *testing.T) {
	c := cloud(t)
	killSharing(t, []string{c.Kafka()}, 6, func() {
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestShareTakeover: the same holds when another node takes over from the one that was
// killed.
func TestShareTakeover(t *testing.T) {
	repeat(t, 10, func(t *testing.T) {
		n := startNodes(t, func(n *twoNodes, name string) []string { return []string{"--kafka", n.address(name, 0)} })
		killSharing(t, []string{n.address("one", 0), n.address("two", 0)}, 1, n.takeOver)
	})
}

// killSharing has members of a share group take records while kill ends the owner now and
// then and returns when there is one again.
func killSharing(t *testing.T, servers []string, rounds int, kill func()) {
	records := 4_000 + 2_000*rounds // more than the members can take before the first kill
	rng := newRand(t)
	cl := shareClient(t, servers, nil)
	shareSetting(t, cl, "share.auto.offset.reset", "earliest")
	shareSetting(t, cl, "share.record.lock.duration.ms", "2000")
	shareSetting(t, cl, "share.delivery.count.limit", "10")
	produceShared(t, cl, records)

	d := &deliveries{count: make(map[int64]int32), seen: make(map[int64]int32), asked: make(map[int64]int32), accepted: make(map[int64]bool)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(rounds)*10*time.Second)
	var members sync.WaitGroup
	for i := range 3 {
		random := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		members.Go(func() { shareMember(ctx, t, servers, random, d) })
	}
	for round := range rounds {
		timer := time.NewTimer(300*time.Millisecond + time.Duration(rng.Int64N(int64(700*time.Millisecond))))
		<-timer.C
		t.Logf("round %d: %d records are left", round, d.left(records))
		kill()
	}
	for shareLag(ctx, cl) != 0 && ctx.Err() == nil {
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
	}
	ended := ctx.Err()
	cancel()
	members.Wait()
	d.judge(t, records, ended != nil)
}

// judge fails the test if what was seen is not what was promised.
func (d *deliveries) judge(t *testing.T, records int, late bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := 0
	for _, n := range d.seen {
		if n > 1 {
			again++
		}
	}
	t.Logf("%d records were accepted, %d delivered more than once", len(d.accepted), again)
	if again == 0 || len(d.accepted) < records*9/10 {
		t.Errorf("the test shows little")
	}
	for o := range int64(records) {
		if d.asked[o] == 0 || late {
			t.Fatalf("record %d was delivered %d times, and is not accepted", o, d.seen[o])
		}
	}
	for _, w := range d.wrong[:min(len(d.wrong), 10)] {
		t.Error(w)
	}
}

// shareMember takes records and accepts most of them, a few at a time; some it forgets.
func shareMember(ctx context.Context, t *testing.T, servers []string, random *rand.Rand, d *deliveries) {
	for ctx.Err() == nil {
		results := make(chan error, 100)
		cl := shareClient(t, servers, results)
		for range 1 + random.IntN(20) {
			poll, stop := context.WithTimeout(ctx, 5*time.Second)
			rs := cl.PollRecords(poll, 20).Records()
			stop()
			if len(rs) == 0 {
				continue
			}
			for _, r := range rs {
				d.deliver(r)
			}
			work := time.NewTimer(time.Duration(5+random.IntN(20)) * time.Millisecond)
			<-work.C
			for _, r := range rs {
				d.ask(r)
				r.Ack(kgo.AckAccept)
			}
			flush, stop := context.WithTimeout(ctx, 5*time.Second)
			err := cl.FlushAcks(flush)
			stop()
			for len(results) > 0 {
				if failed := <-results; failed != nil {
					err = failed
				}
			}
			if err != nil {
				break // whether they are accepted is not known
			}
			d.accept(rs)
		}
		cl.Close()
	}
}

func shareClient(t *testing.T, servers []string, results chan<- error) *kgo.Client {
	opts := []kgo.Opt{kgo.SeedBrokers(servers...), kgo.RetryTimeout(10 * time.Second)}
	if results != nil {
		opts = append(opts, kgo.ShareGroup("shared"), kgo.ConsumeTopics("shared"), kgo.FetchMaxWait(200*time.Millisecond), kgo.ShareMaxRecords(20), kgo.ShareMaxRecordsStrict(),
			kgo.ShareAckCallback(func(_ *kgo.Client, rs kgo.ShareAckResults) { results <- rs.Error() }))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// shareLag returns how many records the group still has to take, -1 if that is not
// known.
func shareLag(ctx context.Context, cl *kgo.Client) int64 {
	q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	q.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "shared"}}
	resp, err := q.RequestWith(ctx, cl)
	if err != nil || len(resp.Groups) != 1 || len(resp.Groups[0].Topics) != 1 {
		return -1
	}
	return resp.Groups[0].Topics[0].Partitions[0].Lag
}

func shareSetting(t *testing.T, cl *kgo.Client, name, value string) {
	t.Helper()
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "shared"
	r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}
	q.Resources = append(q.Resources, r)
	within(t, 10*time.Second, "the owner sets "+name, func() bool { // a standby refuses it
		resp, err := q.RequestWith(t.Context(), cl)
		return err == nil && resp.Resources[0].ErrorCode == 0
	})
}

func produceShared(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "shared", 1, 1
	create.Topics = append(create.Topics, topic)
	if resp, err := create.RequestWith(t.Context(), cl); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("create: %+v, %v", resp, err)
	}
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: "shared", Value: fmt.Append(nil, i)}
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
