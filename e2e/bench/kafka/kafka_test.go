// Package kafka measures the Kafka door of weir-cloud beside Apache Kafka, as it
// comes and made durable, and beside the disk: the same client, in one run.
// `make bench` runs it; its figures are in ../README.md.
package kafka

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	recordSize = 1 << 10
	partitions = 8
	topic      = "bench"
)

// load is one way of producing.
type load struct {
	name      string
	producers int
	codec     kgo.CompressionCodec
	records   int // in all
	rate      int // records/s offered; 0: as fast as it goes
}

// result is what a load came to.
type result struct {
	perSecond float64
	p50, p99  time.Duration // from Produce to its acknowledgement
	cpu       float64       // seconds of the server per million records
	rss       int64         // most bytes that were in memory
}

// payloads are half random, half zeros: they compress to about half, as readings
// do. They are so many that none helps to compress another.
func payloads() [][]byte {
	all := make([][]byte, 1024)
	for i := range all {
		all[i] = make([]byte, recordSize)
		rand.Read(all[i][:recordSize/2])
	}
	return all
}

// produce runs a load and waits for every acknowledgement. Records are sent with
// acks=all by producers that are not idempotent, over a connection each.
func produce(b *testing.B, s *server, l load) result {
	b.Helper()
	var acked atomic.Int64
	var mu sync.Mutex
	var latencies []time.Duration
	values := payloads()
	cpu := s.cpu(b)
	began := time.Now()
	var wg sync.WaitGroup
	for id := range l.producers {
		client := s.client(b, kgo.ProducerBatchCompression(l.codec), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(20_000),
			kgo.ProducerBatchMaxBytes(1_000_000), kgo.RecordPartitioner(kgo.UniformBytesPartitioner(64<<10, true, true, nil)))
		wg.Go(func() {
			mine := make([]time.Duration, 0, l.records/l.producers)
			var mineMu sync.Mutex
			for n := range l.records / l.producers {
				if l.rate > 0 {
					due := began.Add(time.Duration(n*l.producers+id) * time.Second / time.Duration(l.rate))
					if wait := time.Until(due); wait > time.Millisecond {
						time.Sleep(wait)
					}
				}
				sent := time.Now()
				client.Produce(context.Background(), &kgo.Record{Value: values[n%len(values)]}, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
						return
					}
					acked.Add(1)
					mineMu.Lock()
					mine = append(mine, time.Since(sent))
					mineMu.Unlock()
				})
			}
			if err := client.Flush(b.Context()); err != nil {
				b.Error(err)
			}
			mu.Lock()
			latencies = append(latencies, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	took := time.Since(began)
	if got := acked.Load(); got != int64(l.records/l.producers*l.producers) {
		b.Fatalf("%d of %d records acknowledged by %s", got, l.records, s.name)
	}
	slices.Sort(latencies)
	return result{
		perSecond: float64(acked.Load()) / took.Seconds(),
		p50:       latencies[len(latencies)/2],
		p99:       latencies[len(latencies)*99/100],
		cpu:       (s.cpu(b) - cpu).Seconds() / float64(acked.Load()) * 1e6,
		rss:       s.rss(b),
	}
}

// consume reads the topic from its beginning.
func consume(b *testing.B, s *server, records int) result {
	b.Helper()
	client := s.client(b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20))
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	cpu := s.cpu(b)
	began := time.Now()
	got := 0
	for got < records {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			b.Fatal(err)
		}
		got += fetches.NumRecords()
	}
	return result{
		perSecond: float64(got) / time.Since(began).Seconds(),
		cpu:       (s.cpu(b) - cpu).Seconds() / float64(got) * 1e6,
		rss:       s.rss(b),
	}
}

// BenchmarkProduce: as fast as it goes, then read back.
func BenchmarkProduce(b *testing.B) {
	b.Run("disk", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(diskLimit(b), "MB/s")
	})
	for _, l := range []load{
		{"1-none", 1, kgo.NoCompression(), 400_000, 0},
		{"16-none", 16, kgo.NoCompression(), 400_000, 0},
		{"1-lz4", 1, kgo.Lz4Compression(), 400_000, 0},
		{"16-lz4", 16, kgo.Lz4Compression(), 400_000, 0},
	} {
		for _, kind := range kinds {
			b.Run(l.name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					s := start(b, kind)
					report(b, "produce", produce(b, s, l))
					report(b, "consume", consume(b, s, l.records))
					b.ReportMetric(float64(s.startup.Milliseconds()), "startup-ms")
					s.stop()
				}
			})
		}
	}
}

// BenchmarkLatency: what an acknowledgement takes at offered loads that leave
// room, from which throughput at equal p99 can be read.
func BenchmarkLatency(b *testing.B) {
	for _, rate := range []int{1_000, 10_000, 40_000, 80_000} {
		for _, kind := range kinds {
			b.Run(fmt.Sprint(rate, "/", kind), func(b *testing.B) {
				for b.Loop() {
					s := start(b, kind)
					report(b, "produce", produce(b, s, load{"", 16, kgo.NoCompression(), rate * 8, rate}))
					s.stop()
				}
			})
		}
	}
}

// BenchmarkWritten: bytes that the server writes per byte produced, while it
// takes records as fast as it can, and when a thousand come in a second, one by one,
// until what it does in the background has come to rest.
func BenchmarkWritten(b *testing.B) {
	for _, l := range []load{
		{"full", 16, kgo.NoCompression(), 1_200_000, 0},
		{"trickle", 16, kgo.NoCompression(), 20_000, 1_000},
		{"trickle-of-one", 1, kgo.NoCompression(), 20_000, 1_000},
	} {
		for _, kind := range kinds {
			b.Run(l.name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					s := start(b, kind)
					passed, dirtied := s.written(b)
					report(b, "produce", produce(b, s, l))
					s.settle(b)
					allPassed, allDirtied := s.written(b)
					b.ReportMetric(float64(allPassed-passed)/float64(l.records*recordSize), "written/produced")
					b.ReportMetric(float64(allDirtied-dirtied)/float64(l.records*recordSize), "dirtied/produced")
					s.stop()
				}
			})
		}
	}
}

// settle waits until the server has written hardly anything for two seconds: a process
// that only waits writes some bytes to wake its threads.
func (s *server) settle(b *testing.B) {
	b.Helper()
	const little = 1 << 10
	last, _ := s.written(b)
	for quiet, end := 0, time.Now().Add(time.Minute); quiet < 4 && time.Now().Before(end); quiet++ {
		time.Sleep(500 * time.Millisecond)
		if now, _ := s.written(b); now > last+little {
			last, quiet = now, -1
		}
	}
}

func report(b *testing.B, verb string, r result) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(r.perSecond, verb+"-rec/s")
	b.ReportMetric(r.cpu, verb+"-cpu-s/M")
	b.ReportMetric(float64(r.rss)/(1<<20), verb+"-rss-MiB")
	if r.p99 > 0 {
		b.ReportMetric(float64(r.p50.Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(r.p99.Microseconds())/1000, "p99-ms")
	}
}

// diskLimit is how many MB/s can be written to a file that is there already, with
// a sync for each MiB.
func diskLimit(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(b.TempDir() + "/raw")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size, total = 64 << 20, 512 << 20
	chunk := make([]byte, 1<<20)
	rand.Read(chunk)
	var began time.Time
	for at := int64(-size); at < total; at += int64(len(chunk)) {
		if at == 0 {
			began = time.Now() // the file has its blocks now
		}
		if _, err := f.WriteAt(chunk, (at+size)%size); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return float64(total) / (1 << 20) / time.Since(began).Seconds()
}

// client is one connection to the server, closed with the benchmark.
func (s *server) client(b *testing.B, opts ...kgo.Opt) *kgo.Client {
	b.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.addr), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite()}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client
}

// createTopic makes the topic, with a sync for each batch if it is to be durable.
func (s *server) createTopic(b *testing.B, configs map[string]*string) {
	b.Helper()
	if _, err := kadm.NewClient(s.client(b)).CreateTopic(b.Context(), partitions, 1, configs, topic); err != nil {
		b.Fatal(err)
	}
}
