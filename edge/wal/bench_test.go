package wal

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// benchRecords are readings with values of 200 bytes.
func benchRecords(n int) []Record {
	rs := make([]Record, n)
	for i := range rs {
		rs[i] = Record{Topic: "sensors", Record: record.Record{
			Timestamp: 1_700_000_000_000 + int64(i), Key: []byte("sensors/d17/telemetry"), Value: make([]byte, 200),
		}}
	}
	return rs
}

// BenchmarkAppend stands beside BenchmarkRaw, which writes as many bytes and
// syncs them, and does nothing else: the ratio is what counts.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		rs := benchRecords(n)
		size := int64(len(appendRecords(nil, rs)) + headerSize)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			l := mustOpen(b, Options{Dir: b.TempDir(), Quota: 1 << 40})
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				id, first := mustAppend(b, l, weir.Live, rs)
				if err := l.Trim(id, weir.Live, first-1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkRaw(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		p := appendRecords(openFrame(nil), benchRecords(n))
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := f.Write(p); err != nil {
					b.Fatal(err)
				}
				if err := dataSync(f); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkRead reads a backlog from its beginning, in frames of n records.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := Options{Dir: b.TempDir(), disk: noSync()}
			l := mustOpen(b, o)
			rs := benchRecords(n)
			total := 0
			for ; total < 40_000; total += n {
				mustAppend(b, l, weir.Live, rs)
			}
			id := l.Current()
			b.ReportAllocs()
			for b.Loop() {
				if got := countAll(b, l, id); got != total {
					b.Fatalf("%d records, want %d", got, total)
				}
			}
			b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func countAll(b testing.TB, l *Log, id weir.BufferID) (n int) {
	for from := uint64(1); ; {
		items, err := l.Read(id, weir.Live, from)
		if err == io.EOF {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
		n += len(items)
		from = items[len(items)-1].Seq + 1
	}
}

// BenchmarkBacklog opens and reads a backlog of a million records in frames of
// 16, written by a process that was killed, and reports what that takes.
func BenchmarkBacklog(b *testing.B) {
	const total = 1 << 20
	o := Options{Dir: b.TempDir(), disk: noSync()}
	l := mustOpen(b, o)
	rs := benchRecords(16)
	for n := 0; n < total; n += len(rs) {
		mustAppend(b, l, weir.Live, rs)
	}
	id := l.Current()
	abandon(l)
	before := heap()
	for b.Loop() {
		l := mustOpen(b, o)
		opened := b.Elapsed()
		b.ReportMetric(float64(opened.Milliseconds()), "ms-to-open")
		b.ReportMetric(float64(heap()-before)/1024, "heap-KiB-open")
		if n := countAll(b, l, id); n != total {
			b.Fatalf("%d records", n)
		}
		b.ReportMetric(float64(heap()-before)/1024, "heap-KiB-read")
		b.ReportMetric(float64(resident())/1024, "rss-MiB")
		mustClose(b, l)
	}
}

// TestMemoryOfABacklog: the heap does not grow with what lies on the disk.
func TestMemoryOfABacklog(t *testing.T) {
	o := Options{Dir: t.TempDir(), disk: noSync(), SegmentSize: 64 << 10}
	l := mustOpen(t, o)
	rs := benchRecords(8)
	for range 8000 {
		mustAppend(t, l, weir.Live, rs)
	}
	id := l.Current()
	mustClose(t, l)
	l = nil
	before := heap()
	l = mustOpen(t, o)
	if got := countAll(t, l, id); got != 64_000 {
		t.Fatalf("%d records", got)
	}
	grown := heap() - before
	t.Logf("%d KiB of heap for %d segments", grown/1024, len(segmentFiles(t, o.Dir, id, weir.Live)))
	if grown > 512<<10 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	runtime.KeepAlive(l)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// resident is this process's resident memory in KiB.
func resident() (kib int64) {
	p, _ := os.ReadFile("/proc/self/status")
	if _, s, ok := strings.Cut(string(p), "VmRSS:"); ok {
		fmt.Sscan(s, &kib)
	}
	return kib
}
