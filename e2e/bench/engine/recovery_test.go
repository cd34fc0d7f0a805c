package engine

import (
	"bytes"
	"cmp"
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/file"
)

// filling says what fill does: records of 100 bytes, or Size, 1,000 in a batch.
type filling struct {
	Dir     string
	Records int64
	Size    int
}

// filled is what it took, in seconds.
type filled struct {
	Append    float64
	Throttled float64
	Bytes     int64 // of batches
	Waiting   int64 // bytes that were not rewritten when the last answer came
	Asked     requests
	Memory    usage
}

// fill writes a log in the way that producers do.
func fill(ctx context.Context, a filling) (r filled, err error) {
	f, err := file.Open(a.Dir)
	if err != nil {
		return r, err
	}
	n := &counter{below: f}
	log, err := openLog(ctx, n)
	if err != nil {
		return r, err
	}
	topic, found := log.Topic("long")
	if !found {
		if topic, err = log.CreateTopic(ctx, "long", 8, nil); err != nil {
			return r, err
		}
	}
	batch, err := noiseOf(1000, cmp.Or(a.Size, 100))
	if err != nil {
		return r, err
	}
	l := load{producers: 8, flight: 8}
	got := l.run(time.Hour, a.Records/1000, func(p int, done func(error)) {
		log.Append(commitlog.Append{Topic: topic.ID, Partition: int32(p), Batch: bytes.Clone(batch)}, func(_ int64, err error) { done(err) })
	})
	if got.err != nil {
		return r, got.err
	}
	r.Append, r.Bytes = got.took.Seconds(), got.batches*int64(len(batch))
	r.Asked, r.Waiting, r.Throttled = n.count(), log.Stats().Waiting, log.Stats().Throttled.Seconds()
	if r.Memory, err = used(); err != nil {
		return r, err
	}
	return r, log.Close()
}

// TestRecovery: the time until a process that has just started leads a long log:
// with what the load has left behind the last checkpoint, which is more than the
// upkeep aims at if it writes faster than that, up to where writers are held back;
// right behind a pass of the upkeep;
// and with as much behind it as there may be before the next one is due.
func TestRecovery(t *testing.T) {
	records := int64(1_000_000)
	if soak() {
		records = 100_000_000
	}
	dir := filepath.Join(t.TempDir(), "bucket")
	needsSpace(t, filepath.Dir(dir), records*300)
	r := inChild[filled](t, "fill", filling{Dir: dir, Records: records})
	written := &table{title: "Written through the log: records of 100 bytes, 1,000 in a batch, 8 producers with 8 batches in flight, file bucket",
		head: []string{"records", "s", "MB/s", "held back s", "left in slots MB", "slots", "segments", "checkpoints", "RSS MiB", "peak MiB"}}
	written.row(records, r.Append, float64(r.Bytes)/r.Append/1e6, r.Throttled, float64(r.Waiting)/1e6, r.Asked.Slots, r.Asked.Puts-r.Asked.Slots-r.Asked.Checkpoints, r.Asked.Checkpoints,
		mib(r.Memory.RSS), mib(r.Memory.Peak))

	figures := &table{title: "Open of that log by a process that has just started (the system has its files in memory)",
		head: []string{"records", "behind the checkpoint", "Open s", "GET", "MB read", "LIST", "PUT", "checkpoint KiB", "RSS MiB", "peak MiB", "heap MiB",
			"fetch p50 ms", "fetch p99 ms", "GET a fetch", "then Maintain s"}}
	const tail = 296_000 // records: less than Upkeep.Bytes, and as many for each producer
	for _, behind := range []string{"what the load left", "nothing", "30 MB"} {
		a := reopening{Dir: dir, Fetches: 500}
		switch behind {
		case "what the load left":
			a.Passes = 1
		case "30 MB":
			inChild[filled](t, "fill", filling{Dir: dir, Records: tail})
			records += tail
		}
		c := inChild[reopened](t, "reopen", a)
		figures.row(records, behind, c.Open, c.Asked.Gets, float64(c.Asked.GetBytes)/1e6, c.Asked.Lists, c.Asked.Puts, float64(c.Checkpoint)/1024,
			mib(c.Memory.RSS), mib(c.Memory.Peak), mib(c.Memory.Heap), ms(c.Fetch50), ms(c.Fetch99), float64(c.FetchAsked.Gets)/500, c.First)
		if c.Records != records {
			t.Errorf("%d records, want %d", c.Records, records)
		}
	}
	t.Log(written, figures)
}

// needsSpace skips, loudly, a test for which the disk is too small.
func needsSpace(t *testing.T, dir string, bytes int64) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if free := int64(s.Bavail) * int64(s.Bsize); free < bytes {
		t.Skipf("NO %s: it needs %.1f GB in %s, and %.1f are free", t.Name(), float64(bytes)/1e9, dir, float64(free)/1e9)
	}
}
