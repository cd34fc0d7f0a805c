package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const shared = "shared" // topic and share group

// share is a producer, and members of a share group that accept what they get. Every
// record that was acknowledged must be delivered, and none again after its acceptance
// was confirmed.
type share struct {
	t     *testing.T
	nodes *nodes

	mu        sync.Mutex
	produced  map[string]bool // acknowledged; guarded by mu
	delivered map[string]int  // guarded by mu
	accepted  map[string]bool // confirmed; guarded by mu
}

func newShare(t *testing.T, n *nodes) *share {
	t.Helper()
	createTopic(t, n, shared, 6)
	s := &share{t: t, nodes: n, produced: make(map[string]bool), delivered: make(map[string]int), accepted: make(map[string]bool)}
	s.set("share.auto.offset.reset", "earliest")
	s.set("share.record.lock.duration.ms", "3000")
	s.set("share.delivery.count.limit", "10")
	return s
}

// set changes a setting of the group, at the node that takes it.
func (s *share) set(name, value string) {
	s.t.Helper()
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, shared
	r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}
	q.Resources = append(q.Resources, r)
	client := newClient(s.t, s.nodes)
	limited, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for {
		resp, err := q.RequestWith(limited, client)
		if err == nil {
			err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
		}
		if err == nil {
			return
		}
		if pause(limited, 50*time.Millisecond); limited.Err() != nil {
			s.t.Fatalf("set %s: %v", name, err)
		}
	}
}

func (s *share) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.produce(ctx) })
	for range 2 {
		all.Go(func() { s.member(ctx) })
	}
}

func (s *share) produce(ctx context.Context) {
	client := newClient(s.t, s.nodes, kgo.DefaultProduceTopic(shared))
	for i := 0; ctx.Err() == nil; i++ {
		body := fmt.Sprint(i)
		client.Produce(context.Background(), &kgo.Record{Key: []byte(body), Value: []byte(body)}, func(_ *kgo.Record, err error) {
			if err == nil {
				s.mu.Lock()
				s.produced[body] = true
				s.mu.Unlock()
			}
		})
		pause(ctx, 10*time.Millisecond)
	}
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Flush(limited); err != nil {
		s.t.Errorf("share group: what was produced is neither acknowledged nor refused: %v", err)
	}
}

// member takes records and accepts them, until ctx ends. After an error it is another
// member: it does not know what became of its acceptances.
func (s *share) member(ctx context.Context) {
	for ctx.Err() == nil {
		results := make(chan error, 1000)
		client := newClient(s.t, s.nodes, kgo.ShareGroup(shared), kgo.ConsumeTopics(shared), kgo.FetchMaxWait(200*time.Millisecond),
			kgo.ShareMaxRecords(50), kgo.ShareMaxRecordsStrict(), kgo.RetryTimeout(10*time.Second),
			kgo.ShareAckCallback(func(_ *kgo.Client, rs kgo.ShareAckResults) { results <- rs.Error() }))
		for ctx.Err() == nil && s.take(ctx, client, results) == nil {
		}
		client.Close()
	}
}

func (s *share) take(ctx context.Context, client *kgo.Client, results <-chan error) error {
	poll, stop := context.WithTimeout(ctx, 5*time.Second)
	rs := client.PollRecords(poll, 50).Records()
	stop()
	for _, r := range rs {
		s.deliver(string(r.Value))
		r.Ack(kgo.AckAccept)
	}
	flush, stop := context.WithTimeout(context.Background(), 5*time.Second)
	err := client.FlushAcks(flush)
	stop()
	for len(results) > 0 {
		if failed := <-results; failed != nil {
			err = failed
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		s.accepted[string(r.Value)] = true
	}
	return nil
}

func (s *share) deliver(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivered[body]++
	if s.accepted[body] {
		s.t.Errorf("share group: record %s was accepted and is delivered again", body)
	}
}

func (s *share) missing() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for body := range s.produced {
		if s.delivered[body] == 0 {
			n++
		}
	}
	return n
}

// judge takes what is left.
func (s *share) judge(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var rest sync.WaitGroup
	rest.Go(func() { s.member(limited) })
	for s.missing() > 0 && limited.Err() == nil {
		pause(limited, 50*time.Millisecond)
	}
	cancel()
	rest.Wait()
	missing := s.missing()
	s.t.Logf("share group: %d records acknowledged, %d delivered, %d accepted", len(s.produced), len(s.delivered), len(s.accepted))
	if missing > 0 || len(s.accepted) == 0 {
		s.t.Errorf("share group: %d of %d records were not delivered", missing, len(s.produced))
	}
}
