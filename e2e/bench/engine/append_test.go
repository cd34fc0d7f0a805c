package engine

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/record"
)

const (
	cellTime     = 3 * time.Second
	rawTime      = time.Second
	maxCellBytes = 512 << 20 // what a cell writes at most: some buckets are memory
)

// BenchmarkAppend: durable records of 1 KB a second through the commit log, and
// how long each waits, beside what the same store does without it: Creates of
// objects as large as the log's slots were on average, one after the other and
// four at once, as many as the log has in flight; and for the file bucket appends
// to a preallocated file that is synced once for all who wait.
func BenchmarkAppend(b *testing.B) {
	t := &table{title: "Append, records of 1 KB (raw ×1, ×4: Creates of objects as large as a slot, one after the other and four at once; added: ack p50 - Create p50)",
		head: []string{"bucket", "producers × batch × in flight", "records/s", "MB/s", "ack p50 ms", "ack p99 ms", "slot KiB",
			"raw ×1 MB/s", "raw ×4 MB/s", "of raw ×4", "Create p50 ms", "Create p99 ms", "added ms", "fdatasync MB/s", "of fdatasync"}}
	for _, k := range kinds() {
		b.Run(k.name, func(b *testing.B) {
			defer func() {
				if b.Skipped() { // which only -v shows
					t.row(k.name, "NOT MEASURED: its server is not here")
				}
			}()
			empty := k.start(b)
			for _, records := range []int{1, 100} {
				for _, producers := range []int{1, 8, 64} {
					l := load{producers, records, 1}
					if records > 1 {
						l.flight = 5
					}
					name := fmt.Sprintf("%dx%dx%d", l.producers, l.records, l.flight)
					b.Run(name, func(b *testing.B) {
						for b.Loop() {
							c := measureCell(b, l, empty(b), k.name == "file")
							c.report(b)
							c.row(t, k.name, name)
						}
					})
				}
			}
		})
	}
	fmt.Println(t)
}

// figures are what a cell of the benchmark has measured.
type figures struct {
	records, mbs float64 // a second
	p50, p99     time.Duration
	slot         int // bytes, on average
	raw1, raw4   float64
	create50     time.Duration
	create99     time.Duration
	disk         float64 // MB/s of appends and syncs; 0 if there is no disk
}

// rounds are how often a cell goes from the log to its limits and back, so that
// what else the machine does meets all of them alike.
const rounds = 3

func measureCell(b *testing.B, l load, bucket storage.Bucket, disk bool) (f figures) {
	b.Helper()
	original, err := batchOf(l.records, 1000)
	if err != nil {
		b.Fatal(err)
	}
	n := &counter{below: bucket}
	var log, raw1, raw4, synced outcome
	for round := range rounds {
		log.add(appendRound(b, l, n, original, round))
		count := n.count()
		f.slot = int(count.SlotBytes / count.Slots)
		raw1.add(createRound(b, bucket, f.slot, 1, round))
		raw4.add(createRound(b, bucket, f.slot, 4, round))
		if disk {
			synced.add(syncRound(b, l, original))
		}
	}
	if err := storage.Close(bucket); err != nil {
		b.Fatal(err)
	}
	f.records = log.rate() * float64(l.records)
	f.mbs = log.rate() * float64(len(original)) / 1e6
	f.p50, f.p99 = percentile(log.acks, 50), percentile(log.acks, 99)
	f.raw1, f.raw4 = raw1.rate()*float64(f.slot)/1e6, raw4.rate()*float64(f.slot)/1e6
	f.create50, f.create99 = percentile(raw1.acks, 50), percentile(raw1.acks, 99)
	f.disk = synced.rate() * float64(len(original)) / 1e6
	return f
}

func appendRound(b *testing.B, l load, bucket storage.Bucket, original record.Batch, round int) outcome {
	b.Helper()
	log, err := openLog(b.Context(), bucket)
	if err != nil {
		b.Fatal(err)
	}
	topic, err := log.CreateTopic(b.Context(), fmt.Sprintf("round-%d", round), 8, nil)
	if err != nil {
		b.Fatal(err)
	}
	got := l.run(cellTime/rounds, maxCellBytes/rounds/int64(len(original)), func(p int, done func(error)) {
		log.Append(commitlog.Append{Topic: topic.ID, Partition: int32(p % 8), Batch: bytes.Clone(original)},
			func(_ int64, err error) { done(err) })
	})
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	return got.must(b)
}

// createRound is writers who create objects of some size, each one after the
// other.
func createRound(b *testing.B, bucket storage.Bucket, size, writers, round int) outcome {
	b.Helper()
	body := make([]byte, size)
	var n atomic.Int64
	l := load{producers: writers, flight: 1}
	return l.run(rawTime/rounds, maxCellBytes/rounds/int64(size), func(_ int, done func(error)) {
		done(bucket.Create(b.Context(), fmt.Sprintf("raw/%d-%d/%012d", writers, round, n.Add(1)), body))
	}).must(b)
}

// syncRound is the same load on a syncer.
func syncRound(b *testing.B, l load, original record.Batch) outcome {
	b.Helper()
	s, err := openSyncer(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	got := l.run(rawTime/rounds, maxCellBytes/rounds/int64(len(original)), func(_ int, done func(error)) {
		s.waiting <- write{bytes.Clone(original), done}
	})
	if err := s.close(); err != nil {
		b.Fatal(err)
	}
	return got.must(b)
}

func (f figures) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(f.records, "records/s")
	b.ReportMetric(f.mbs, "MB/s")
	b.ReportMetric(ms(f.p50), "ack-p50-ms")
	b.ReportMetric(ms(f.p99), "ack-p99-ms")
	b.ReportMetric(f.mbs/f.raw4, "of-raw")
	b.ReportMetric(ms(f.p50-f.create50), "added-ms")
	if f.disk > 0 {
		b.ReportMetric(f.mbs/f.disk, "of-fdatasync")
	}
}

func (f figures) row(t *table, bucket, load string) {
	disk, ofDisk := any("-"), any("-")
	if f.disk > 0 {
		disk, ofDisk = f.disk, f.mbs/f.disk
	}
	t.row(bucket, load, f.records, f.mbs, ms(f.p50), ms(f.p99), float64(f.slot)/1024,
		f.raw1, f.raw4, f.mbs/f.raw4, ms(f.create50), ms(f.create99), ms(f.p50-f.create50), disk, ofDisk)
}
