package file

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/storagetest"
)

func BenchmarkCreate(b *testing.B) {
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, b.TempDir()) })
}

// benchRounds is how often the kinds take turns. The disk gets faster and slower
// with what else is going on: what is compared has to meet the same disk.
const benchRounds = 100

// BenchmarkRow compares, in turns, objects that are files, objects of a row, and
// what a row can at best be: a log file that is written once before and gets an
// append and an fdatasync, one for all that wait.
func BenchmarkRow(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		for _, writers := range []int{1, 4} {
			b.Run(fmt.Sprintf("%dKiB/writers=%d", size>>10, writers), func(b *testing.B) {
				benchKinds(b, size, writers)
			})
		}
	}
}

// benchKind is one way to make a body durable.
type benchKind struct {
	name   string
	create func(n uint64, body []byte) error
	last   uint64  // how many were created
	spent  float64 // seconds that took
}

// work creates count more, by several writers.
func (k *benchKind) work(b *testing.B, count uint64, writers int, body []byte) {
	var wg sync.WaitGroup
	var n atomic.Uint64
	n.Store(k.last)
	k.last += count
	start := b.Elapsed()
	for range writers {
		wg.Go(func() {
			for at := n.Add(1); at <= k.last; at = n.Add(1) {
				if err := k.create(at, body); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	k.spent += (b.Elapsed() - start).Seconds()
}

func benchKinds(b *testing.B, size, writers int) {
	bucket := mustOpen(b, b.TempDir())
	defer bucket.Close()
	body := storagetest.Content("bench", size)
	in := func(folder string) func(uint64, []byte) error {
		return func(n uint64, body []byte) error {
			return bucket.Create(b.Context(), folder+fmt.Sprintf("%020d", n), body)
		}
	}
	folders := []string{"files/", "0000/log/" + fmt.Sprintf("%020d", 1) + "/"}
	kinds := []*benchKind{
		{name: "file", create: in(folders[0])}, {name: "row", create: in(folders[1])}, {name: "raw", create: newRawLog(b, bucket.disk.Data).create},
	}
	turn := uint64(10 * writers)
	sweep := func() { // as the upkeep does, from the oldest on
		keep := uint64(48<<20) / uint64(size)
		for i, folder := range folders {
			var keys []string
			for n := kinds[i].last - min(kinds[i].last, keep+turn); n+keep < kinds[i].last; n++ {
				keys = append(keys, folder+fmt.Sprintf("%020d", n))
			}
			if err := bucket.Delete(b.Context(), keys...); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		for round := range benchRounds {
			for i := range kinds { // each comes after each of the others
				kinds[(i*(1+round%2)+round)%len(kinds)].work(b, turn, writers, body)
			}
			sweep()
		}
	}
	for _, k := range kinds {
		b.ReportMetric(k.spent*1e6/float64(k.last), "µs/"+k.name)
	}
	b.ReportMetric(kinds[2].spent/kinds[1].spent, "row/raw")
	b.ReportMetric(kinds[0].spent/kinds[1].spent, "file/row")
	b.ReportMetric(0, "ns/op")
}

// rawLog is an append-only log with group commit and nothing else: no checksums,
// no index, no way to find or delete anything.
type rawLog struct {
	file *os.File
	sync func(*os.File) error
	turn chan struct{}
	off  int64  // guarded by turn
	buf  []byte // guarded by turn

	mu   sync.Mutex
	next *rawGroup // guarded by mu
}

type rawGroup struct {
	bodies [][]byte
	done   chan struct{}
	err    error
}

const rawSize = 64 << 20

func newRawLog(b *testing.B, sync func(*os.File) error) *rawLog {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	for off := int64(0); off < rawSize; off += 1 << 20 {
		if _, err := f.WriteAt(make([]byte, 1<<20), off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return &rawLog{file: f, sync: sync, turn: make(chan struct{}, 1)}
}

// create makes body durable: the first of a group writes for all.
func (l *rawLog) create(_ uint64, body []byte) error {
	l.mu.Lock()
	g := l.next
	first := g == nil
	if first {
		g = &rawGroup{done: make(chan struct{})}
		l.next = g
	}
	g.bodies = append(g.bodies, body)
	l.mu.Unlock()
	if !first {
		<-g.done
		return g.err
	}
	l.turn <- struct{}{}
	l.mu.Lock()
	l.next = nil
	l.mu.Unlock()
	l.buf = l.buf[:0]
	for _, body := range g.bodies {
		l.buf = append(l.buf, body...)
	}
	if l.off+int64(len(l.buf)) > rawSize {
		l.off = 0
	}
	if _, g.err = l.file.WriteAt(l.buf, l.off); g.err == nil {
		g.err = l.sync(l.file)
	}
	l.off += int64(len(l.buf))
	<-l.turn
	close(g.done)
	return g.err
}
