package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counting is a bucket that counts what is written.
type counting struct {
	storage.Bucket
	bytes atomic.Int64
}

func (c *counting) Create(ctx context.Context, key string, body []byte) error {
	c.bytes.Add(int64(len(body)))
	return c.Bucket.Create(ctx, key, body)
}

// BenchmarkAppend appends batches of 100 readings of 100 bytes, without a bridge, with one
// and nothing bound, and with queues that do not want them.
func BenchmarkAppend(b *testing.B) {
	for _, name := range []string{"no bridge", "nothing bound", "bound to others"} {
		b.Run(name, func(b *testing.B) {
			bucket := &counting{Bucket: mem.New()}
			w := open(b, bucket)
			if name != "no bridge" {
				w.Start()
			}
			if name == "bound to others" {
				w.bind("q", "others.#")
			}
			w.fill(b, bucket, 0)
		})
	}
}

// BenchmarkQueues brings readings of 100 bytes to queues that are all bound with one
// pattern, in batches of 100.
func BenchmarkQueues(b *testing.B) {
	for _, n := range []int{0, 1, 10, 100, 1000} {
		b.Run(fmt.Sprint("queues=", n), func(b *testing.B) {
			bucket := &counting{Bucket: mem.New()}
			w := started(b, bucket)
			for i := range n {
				w.bind(fmt.Sprint("q", i), "sensors.#")
			}
			w.fill(b, bucket, min(n, 1))
		})
	}
}

// fill appends batches of readings until the benchmark ends, and waits until each has been
// published so often.
func (w *world) fill(b *testing.B, bucket *counting, times int) {
	const batch = 100
	topic := w.topic("sensors")
	var all []record.Record
	for i := range batch {
		all = append(all, reading(fmt.Sprintf("sensors/device-%d/telemetry", i), fmt.Sprintf("%0100d", i)))
	}
	encoded := batchOf(b, record.None, all...)
	before := bucket.bytes.Load()
	answers := make(chan error, 20)
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu(b)
	flying := 0
	wait := func() {
		if err := <-answers; err != nil {
			b.Fatal(err)
		}
		flying--
	}
	for range b.N {
		if flying == cap(answers) {
			wait()
		}
		flying++
		w.broker.Append(broker.Append{Topic: topic.ID, Batch: append(record.Batch(nil), encoded...)}, func(_ int64, err error) { answers <- err })
	}
	for flying > 0 {
		wait()
	}
	for limit := time.Now().Add(5 * time.Minute); w.counters.published.Get() < uint64(times*b.N*batch) || w.Lag() > 0; {
		if time.Now().After(limit) {
			b.Fatal("the bridge does not keep up")
		}
		<-time.After(time.Millisecond)
	}
	b.StopTimer()
	per := float64(b.N * batch)
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/per/1000, "cpu-µs/reading")
	b.ReportMetric(float64(bucket.bytes.Load()-before)/per, "bytes/reading")
}
