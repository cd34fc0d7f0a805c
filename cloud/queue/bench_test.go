package queue

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
)

var waiting = flag.Int("waiting", 1_000_000, "messages that wait in BenchmarkBacklog")

func benchBuckets(b *testing.B) map[string]storage.Bucket {
	b.Helper()
	f, err := file.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return map[string]storage.Bucket{"mem": mem.New(), "file": f}
}

func benchOwner(b *testing.B, bucket storage.Bucket) (*Engine, func()) {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e := New(Options{Log: quiet})
	log, err := commitlog.Open(context.Background(), commitlog.Options{Bucket: bucket, Node: "a", Log: quiet, Machines: []logstate.Machine{e}})
	if err != nil {
		b.Fatal(err)
	}
	e.Start(context.Background(), machine.WaitingLog{Log: log})
	if err := e.open(context.Background()); err != nil {
		b.Fatal(err)
	}
	return e, func() { log.Close(); e.Close() }
}

// BenchmarkLife publishes messages of 100 bytes, consumes and accepts them, some in each
// call, with up to 2,000 that are not confirmed.
func BenchmarkLife(b *testing.B) {
	for name, bucket := range benchBuckets(b) {
		for _, batch := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("bucket=%s/batch=%d", name, batch), func(b *testing.B) {
				e, end := benchOwner(b, bucket)
				defer end()
				benchLife(b, e, batch)
			})
		}
	}
}

func benchLife(b *testing.B, e *Engine, batch int) {
	if _, err := e.DeclareQueue(context.Background(), DefaultVhost, "q", plain()); err != nil {
		b.Fatal(err)
	}
	ready := make(chan struct{}, 1)
	window := NewWindow(2000)
	c, err := e.Consume(ConsumerOptions{Vhost: DefaultVhost, Queue: "q", Windows: []*Window{window}, Cancelled: func() {},
		Ready: func() {
			select {
			case ready <- struct{}{}:
			default:
			}
		}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	flying := make(chan struct{}, 2000/batch)
	go func() {
		body := make([]byte, 100)
		for i := 0; i < b.N; i += batch {
			w := Work{Publications: make([]Publication, min(batch, b.N-i))}
			for j := range w.Publications {
				w.Publications[j] = Publication{Key: "q", Body: body}
			}
			flying <- struct{}{}
			e.Submit(DefaultVhost, w, func(_ []error, err error) {
				if err != nil {
					b.Error(err)
				}
				<-flying
			})
		}
	}()
	settled := make(chan struct{})
	all := make([]Delivery, 0, batch)
	for n := 0; n < b.N; {
		if all = c.Take(all[:0], batch); len(all) == 0 {
			<-ready
			continue
		}
		s := Settlement{Queue: c.Queue()}
		for i := range all {
			s.IDs = append(s.IDs, all[i].ID)
		}
		var done func([]error, error)
		if n += len(all); n == b.N {
			done = func([]error, error) { close(settled) }
		}
		e.Submit(DefaultVhost, Work{Settlements: []Settlement{s}}, done)
		window.Release(len(all))
	}
	<-settled
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if err := c.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBacklog fills a queue and opens it again.
func BenchmarkBacklog(b *testing.B) {
	bucket := benchBuckets(b)["file"]
	e, end := benchOwner(b, bucket)
	if _, err := e.DeclareQueue(context.Background(), DefaultVhost, "q", plain()); err != nil {
		b.Fatal(err)
	}
	const batch = 10_000
	for i := 0; i < *waiting; i += batch {
		w := Work{Publications: make([]Publication, batch)}
		for j := range w.Publications {
			w.Publications[j] = Publication{Key: "q", Body: []byte("x")}
		}
		done := make(chan error, 1)
		e.Submit(DefaultVhost, w, func(_ []error, err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	snapshot := e.Snapshot()
	b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-snapshot")
	b.ReportMetric(float64(len(snapshot))/1e3, "KB-snapshot")
	benchHoles(b, snapshot)
	end()
	began = time.Now()
	e, end = benchOwner(b, bucket)
	defer end()
	b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-open")
	if _, _, ok, err := e.Get(context.Background(), DefaultVhost, "q", ""); !ok || err != nil {
		b.Fatal(ok, err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-first-delivery")
}

// benchHoles takes every third message out of the queue of a snapshot: a bitmap of many
// short runs is the largest.
func benchHoles(b *testing.B, snapshot []byte) {
	before := inUse()
	e := New(Options{})
	if err := e.Restore(snapshot); err != nil {
		b.Fatal(err)
	}
	q := e.state.Vhost(DefaultVhost).Queue("q")
	of := e.host(q.Vhost).newBatch()
	for id := int64(0); id < q.Vhost.End(); id += 3 {
		of.of(q.ID).gone = append(of.of(q.ID).gone, id)
	}
	for _, c := range of.commands() {
		if err := e.Apply(c.Kind, c.Body); err != nil {
			b.Fatal(err)
		}
	}
	of = nil
	b.ReportMetric(float64(inUse()-before)/1e3, "KB-holes")
	began := time.Now()
	snapshot = e.Snapshot()
	b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-snapshot-holes")
	b.ReportMetric(float64(len(snapshot))/1e3, "KB-snapshot-holes")
	began = time.Now()
	if err := New(Options{}).Restore(snapshot); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-restore-holes")
	runtime.KeepAlive(e)
}

// inUse returns the bytes of the heap that are in use.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
