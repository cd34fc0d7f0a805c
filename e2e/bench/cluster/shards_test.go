package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// slow is a bucket in memory that takes 30 ms for each Create, as S3 does.
type slow struct{ storage.Bucket }

func (s slow) Create(ctx context.Context, key string, body []byte) error {
	wait(ctx, 30*time.Millisecond)
	return s.Bucket.Create(ctx, key, body)
}

// BenchmarkShards: records/s of a node with one, two, four and eight shards on a bucket
// that takes 30 ms for each Create. Each shard has a producer that sends a batch of 16 KiB
// when the one before is acknowledged: with N shards it should be N times as much.
func BenchmarkShards(b *testing.B) {
	for b.Loop() {
		one := 0.0
		for _, shards := range []int{1, 2, 4, 8} {
			rate := acknowledged(b, shards, 8*time.Second)
			if shards == 1 {
				one = rate
			}
			b.ReportMetric(rate, fmt.Sprintf("records/s-%d", shards))
			b.ReportMetric(rate/one/float64(shards), fmt.Sprintf("of-linear-%d", shards))
		}
		b.ReportMetric(0, "ns/op")
	}
}

// acknowledged is how many records a second a node acknowledges.
func acknowledged(b *testing.B, shards int, length time.Duration) float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan bool, 1)
	port, err := harness.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	node, err := cloud.Open(ctx, cloud.Options{Bucket: slow{mem.New()}, Data: b.TempDir(), Node: "one", Shards: shards, Partitions: int32(shards),
		Sync: cloud.Off, Kafka: []listener.Settings{{Name: "default", Listen: address}}, HTTP: cloud.HTTP{Listen: cloud.Off}, Peer: "127.0.0.1:0",
		Ready: func() { ready <- true }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		cancel()
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	<-ready
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(b.Context(), int32(shards), 1, nil, probed); err != nil {
		b.Fatal(err)
	}
	const records = 16
	topic, batch := idOf(b, client), batchOf(b, records, 1<<10)
	var sent atomic.Int64
	var producing sync.WaitGroup
	began := time.Now()
	for partition := range int32(shards) {
		producing.Go(func() {
			c, err := kgo.NewClient(kgo.SeedBrokers(address))
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			for time.Since(began) < length {
				if err := send(b.Context(), c, topic, partition, batch); err != nil {
					b.Error(err)
					return
				}
				sent.Add(records)
			}
		})
	}
	producing.Wait()
	return float64(sent.Load()) / time.Since(began).Seconds()
}
