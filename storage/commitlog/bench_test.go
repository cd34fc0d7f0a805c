package commitlog

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// window is how many batches a benchmark's producer has in flight.
const window = 64

// BenchmarkAppend appends records of 1 KB, one in a batch (trickles, merged in
// the slot) or 64 (full batches, stored as they are).
func BenchmarkAppend(b *testing.B) {
	for _, bucket := range []string{"mem", "file"} {
		for _, records := range []int{1, 64} {
			for _, producers := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("%s/batch=%d/producers=%d", bucket, records, producers), func(b *testing.B) {
					benchmarkAppend(b, benchBucket(b, bucket), records, producers)
				})
			}
		}
	}
}

func benchBucket(b *testing.B, name string) storage.Bucket {
	if name == "mem" {
		return mem.New()
	}
	f, err := file.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func benchmarkAppend(b *testing.B, bucket storage.Bucket, records, producers int) {
	l := open(b, bucket)
	topic := createTopic(b, l, "t", 8)
	values := make([]string, records)
	for i := range values {
		values[i] = strings.Repeat("x", 1024)
	}
	original := recordtest.Batch(values...)
	b.SetBytes(1024)
	b.ResetTimer()
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			room := make(chan struct{}, window)
			for i := p * records; i < b.N; i += producers * records {
				room <- struct{}{}
				l.Append(Append{Topic: topic.ID, Partition: int32(p % 8), Batch: append(record.Batch(nil), original...)}, func(_ int64, err error) {
					if err != nil {
						b.Error(err)
					}
					<-room
				})
			}
			for range window {
				room <- struct{}{}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFetch reads from the tail cache, and from the bucket.
func BenchmarkFetch(b *testing.B) {
	for name, tail := range map[string]int64{"tail": 64 << 20, "cold": 1} {
		b.Run(name, func(b *testing.B) {
			l := open(b, mem.New(), func(o *Options) { o.TailBytes = tail })
			topic := createTopic(b, l, "t", 1)
			value := strings.Repeat("x", 64<<10)
			for range 64 {
				appended(b, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)})
			}
			b.SetBytes(64 << 10)
			for i := range b.N {
				if _, err := l.Fetch(context.Background(), topic.ID, 0, int64(i%64), 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
