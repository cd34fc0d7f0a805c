package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	crowdGroups     = 500
	crowdPartitions = 10 // of each group's topic
	crowdRate       = 1_000
	crowdTime       = 20 * time.Second
)

// BenchmarkCrowd: 500 consumer groups with a topic of 10 partitions each, on one
// node; a record goes to each topic twice a second.
func BenchmarkCrowd(b *testing.B) {
	for b.Loop() {
		s := startWeir(b)
		crowd(b, s)
		s.stop()
	}
}

func crowd(b *testing.B, s *server) {
	b.Helper()
	names := make([]string, crowdGroups)
	for i := range names {
		names[i] = fmt.Sprint("crowd-", i)
	}
	producer := s.client(b, kgo.ProducerLinger(0))
	if _, err := kadm.NewClient(producer).CreateTopics(b.Context(), crowdPartitions, 1, nil, names...); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithTimeout(b.Context(), 3*time.Minute)
	defer stop()
	var mu sync.Mutex
	var latencies []time.Duration
	ready := make(chan struct{}, crowdGroups)
	var readers sync.WaitGroup
	for _, name := range names {
		client := s.client(b, kgo.ConsumeTopics(name), kgo.ConsumerGroup(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { ready <- struct{}{} }))
		readers.Go(func() {
			for ctx.Err() == nil {
				fetches := client.PollFetches(ctx)
				now := time.Now()
				mu.Lock()
				fetches.EachRecord(func(r *kgo.Record) {
					latencies = append(latencies, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
				})
				mu.Unlock()
			}
		})
	}
	for range names {
		select {
		case <-ready:
		case <-ctx.Done():
			b.Fatal("not every group has its partitions")
		}
	}
	tick := time.NewTicker(time.Second / crowdRate)
	defer tick.Stop()
	sent := 0
	cpu := s.cpu(b)
	for began := time.Now(); time.Since(began) < crowdTime; sent++ {
		<-tick.C
		value := make([]byte, recordSize)
		binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
		producer.Produce(ctx, &kgo.Record{Topic: names[sent%crowdGroups], Value: value}, nil)
	}
	if err := producer.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((s.cpu(b)-cpu).Seconds()/crowdTime.Seconds(), "cores")
	b.ReportMetric(float64(s.connections(b)), "connections")
	awaitCount(ctx, b, &mu, &latencies, sent)
	stop()
	readers.Wait()
	slices.Sort(latencies)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(crowdGroups*crowdPartitions), "partitions")
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(s.rss(b))/(1<<20), "rss-MiB")
}

// awaitCount waits until all records have come.
func awaitCount(ctx context.Context, b *testing.B, mu *sync.Mutex, got *[]time.Duration, want int) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		mu.Lock()
		n := len(*got)
		mu.Unlock()
		if n >= want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("%d of %d records have come", n, want)
		}
	}
}

// connections counts the server's open sockets.
func (s *server) connections(b *testing.B) int {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", s.pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}
