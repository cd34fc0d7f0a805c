package bridge

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

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
	for _, name := range []string{"no bridge", "nothing bound", "bound to others", "bound to others, zstd"} {
		b.Run(name, func(b *testing.B) {
			bucket := &counting{Bucket: mem.New()}
			w := open(b, bucket)
			if name != "no bridge" {
				w.Start()
			}
			codec := record.None
			if strings.HasPrefix(name, "bound") {
				w.bind("q", "others.#")
			}
			if strings.HasSuffix(name, "zstd") {
				codec = record.Zstd
			}
			w.fill(b, bucket, 0, codec)
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
			w.fill(b, bucket, min(n, 1), record.None)
		})
	}
}

// fill appends batches of readings until the benchmark ends, and waits until each has been
// published so often.
func (w *world) fill(b *testing.B, bucket *counting, times int, codec record.Codec) {
	const batch = 100
	topic := w.topic("sensors")
	var all []record.Record
	for i := range batch {
		all = append(all, reading(fmt.Sprintf("sensors/device-%d/telemetry", i), fmt.Sprintf("%0100d", i)))
	}
	encoded := batchOf(b, codec, all...)
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
	if w.Lag() > 0 || times > 0 {
		w.until(b, w.counters.read, uint64(b.N*batch))
	}
	w.until(b, w.counters.published, uint64(times*b.N*batch))
	b.StopTimer()
	per := float64(b.N * batch)
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/per/1000, "cpu-µs/reading")
	b.ReportMetric(float64(bucket.bytes.Load()-before)/per, "bytes/reading")
}

// until waits until a counter is there.
func (w *world) until(b *testing.B, c *metrics.Counter, n uint64) {
	for limit := time.Now().Add(5 * time.Minute); c.Get() < n; {
		if time.Now().After(limit) {
			b.Fatal("the bridge does not keep up")
		}
		<-time.After(time.Millisecond)
	}
}

// BenchmarkTopics makes the first binding with 5,000 topics of four partitions, and then
// has one of them grow.
func BenchmarkTopics(b *testing.B) {
	w := started(b, mem.New())
	var last broker.Topic
	for i := range 5000 {
		t, err := w.broker.CreateTopic(b.Context(), fmt.Sprint("t", i), 4, nil)
		if err != nil {
			b.Fatal(err)
		}
		last = t
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	w.declare("q")
	began := time.Now()
	w.bind("q", "t4999")
	binding := time.Since(began)
	w.put(last, 0, record.Record{Value: []byte("x")})
	w.until(b, w.counters.published, 1)
	after := heap()
	b.ResetTimer()
	cpuBefore := cpu(b)
	for i := range b.N {
		w.put(last, 0, record.Record{Value: []byte("x")})
		w.until(b, w.counters.published, uint64(i+2))
	}
	b.ReportMetric(float64((cpu(b)-cpuBefore).Microseconds())/float64(b.N), "cpu-µs/record")
	b.ReportMetric(float64(binding.Microseconds())/1000, "ms/first-binding")
	b.ReportMetric(float64(after-before)/20_000, "bytes/partition")
	b.ReportMetric(float64(len(w.shard.Queues.Snapshot()))/20_000, "bytes-in-checkpoint/partition")
}
