package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/e2e/harness"
)

// TestShareDeadLetters: members of a share group reject every other record while the cloud
// is killed. Each of them is in the group's dead-letter topic once, and no other one.
func TestShareDeadLetters(t *testing.T) {
	const records, rounds = 3_000, 3
	c := cloud(t)
	rng := newRand(t)
	cl := shareClient(t, []string{c.Kafka()}, nil)
	createDeadLetters(t, cl)
	for name, value := range map[string]string{
		"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "2000", "share.delivery.count.limit": "10",
		"errors.deadletterqueue.topic.name": "dlq.shared", "errors.deadletterqueue.copy.record.enable": "true",
	} {
		shareSetting(t, cl, name, value)
	}
	produceShared(t, cl, records)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var members sync.WaitGroup
	for range 2 {
		members.Go(func() { rejectOdd(ctx, t, c) })
	}
	for round := range rounds {
		timer := time.NewTimer(300*time.Millisecond + time.Duration(rng.Int64N(int64(500*time.Millisecond))))
		<-timer.C
		t.Logf("round %d: %d records are left", round, shareLag(ctx, cl))
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	for shareLag(ctx, cl) != 0 && ctx.Err() == nil {
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
	}
	if ctx.Err() != nil {
		t.Fatalf("%d records are left", shareLag(t.Context(), cl))
	}
	cancel()
	members.Wait()
	checkDeadLetters(t, c, records)
}

// rejectOdd takes records, accepts those at even offsets and rejects the others.
func rejectOdd(ctx context.Context, t *testing.T, c *harness.Cluster) {
	for ctx.Err() == nil {
		results := make(chan error, 100)
		cl := shareClient(t, []string{c.Kafka()}, results)
		for range 50 {
			poll, stop := context.WithTimeout(ctx, 5*time.Second)
			rs := cl.PollRecords(poll, 20).Records()
			stop()
			for _, r := range rs {
				if r.Offset%2 == 0 {
					r.Ack(kgo.AckAccept)
				} else {
					r.Ack(kgo.AckReject)
				}
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
				break // what was answered is not known: what is not done comes again
			}
		}
		cl.Close()
	}
}

func createDeadLetters(t *testing.T, cl *kgo.Client) {
	t.Helper()
	enable := "true"
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "dlq.shared", 1, 1
	topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "errors.deadletterqueue.group.enable", Value: &enable}}
	create.Topics = append(create.Topics, topic)
	if resp, err := create.RequestWith(t.Context(), cl); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("create: %+v, %v", resp, err)
	}
}

// checkDeadLetters reads the dead-letter topic.
func checkDeadLetters(t *testing.T, c *harness.Cluster, records int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()), kgo.ConsumeTopics("dlq.shared"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	times := make(map[string]int)
	for n := 0; n < records/2; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		rs := cl.PollFetches(ctx).Records()
		cancel()
		if len(rs) == 0 {
			t.Fatalf("%d dead letters, want %d", n, records/2)
		}
		for _, r := range rs {
			n++
			headers := make(map[string]string)
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			offset := headers["__dlq.errors.offset"]
			if times[offset]++; times[offset] > 1 || offset != string(r.Value) || headers["__dlq.errors.topic"] != "shared" || headers["__dlq.errors.partition"] != "0" ||
				headers["__dlq.errors.group"] != "shared" || headers["__dlq.errors.message"] != "Offset rejected by client." || headers["__dlq.errors.delivery.count"] == "" {
				t.Fatalf("letter %d of %s: %s", times[offset], offset, fmt.Sprint(headers))
			}
		}
	}
	for o := 1; o < records; o += 2 {
		if times[fmt.Sprint(o)] != 1 {
			t.Fatalf("record %d has %d dead letters", o, times[fmt.Sprint(o)])
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if more := cl.PollFetches(ctx).Records(); len(more) > 0 {
		t.Errorf("%d more dead letters", len(more))
	}
}
