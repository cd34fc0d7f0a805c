package engine

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
)

// shredding says what shred does.
type shredding struct {
	Dir, Pack  string // see reopening
	Partitions int32
	Rounds     int // segments of each partition
}

// shredded is what it took, in seconds.
type shredded struct {
	Fill     float64
	Segments int
}

// tinySegment is a size that every piece reaches, so that none is joined with its
// neighbours.
const tinySegment = 64

// never is a size that no log here reaches before the upkeep is asked for.
const never = math.MaxInt / 64

// shred makes a log of many tiny segments: every partition gets one in each round,
// because the upkeep takes a few hundred bytes for a full segment. All of them go
// the real way: slots, segments, entries, checkpoints.
func shred(ctx context.Context, a shredding) (r shredded, err error) {
	rest := mem.New()
	p, err := createPack(a.Pack, rest)
	if err != nil {
		return r, err
	}
	log, err := openLog(ctx, p, func(o *commitlog.Options) {
		o.Upkeep = upkeep.Options{Bytes: never, Slots: never, Segment: tinySegment}
	})
	if err != nil {
		return r, err
	}
	topic, err := log.CreateTopic(ctx, "shreds", a.Partitions, nil)
	if err != nil {
		return r, err
	}
	batch, err := batchOf(1, 20)
	if err != nil {
		return r, err
	}
	r.Fill, err = seconds(func() error {
		for range a.Rounds {
			if err := appendToEach(log, topic, batch); err != nil {
				return err
			}
			if err := log.Maintain(ctx); err != nil {
				return err
			}
		}
		return log.Maintain(ctx) // now the slots go
	})
	if err != nil {
		return r, err
	}
	if err := log.Close(); err != nil {
		return r, err
	}
	r.Segments = len(p.ends)
	if err := p.save(); err != nil {
		return r, err
	}
	return r, keep(ctx, rest, a.Dir)
}

// keep copies a bucket into a folder.
func keep(ctx context.Context, from storage.Bucket, dir string) error {
	to, err := file.Open(dir)
	if err != nil {
		return err
	}
	storage.Sequences(to, "0000/log/")
	for after := ""; ; {
		keys, err := from.List(ctx, "", after, page)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, key := range keys {
			body, err := from.Get(ctx, key, 0, -1)
			if err != nil {
				return err
			}
			if err := to.Create(ctx, key, body); err != nil {
				return err
			}
		}
		after = keys[len(keys)-1]
	}
}

// TestMetadata: how what the log knows of its segments grows with their number.
func TestMetadata(t *testing.T) {
	rounds := []int{1}
	if soak() {
		rounds = []int{1, 10, 100}
	}
	figures := &table{title: "Segments of a log with 10,000 partitions, tiny ones in one file; a takeover in a process of its own",
		head: []string{"segments", "filled in s", "checkpoint MiB", "bytes a segment", "Open s", "GET", "LIST", "RSS MiB", "peak MiB", "heap MiB",
			"first Maintain of an owner ms", "its LIST", "next Maintain ms", "longest ack meanwhile ms", "fetch p50 ms", "fetch p99 ms", "GET a fetch"}}
	const partitions, fetches = 10_000, 2000
	for _, n := range rounds {
		dir := t.TempDir()
		bucket, segments := filepath.Join(dir, "bucket"), filepath.Join(dir, "segments")
		r := inChild[shredded](t, "shred", shredding{Dir: bucket, Pack: segments, Partitions: partitions, Rounds: n})
		c := inChild[reopened](t, "reopen", reopening{Dir: bucket, Pack: segments, Fetches: fetches, Passes: 2})
		if r.Segments != partitions*n || c.Records != int64(partitions*n) {
			t.Errorf("%d segments and %d records, want %d", r.Segments, c.Records, partitions*n)
		}
		figures.row(r.Segments, r.Fill, mib(c.Checkpoint), float64(c.Checkpoint)/float64(r.Segments), c.Open, c.Asked.Gets, c.Asked.Lists,
			mib(c.Memory.RSS), mib(c.Memory.Peak), mib(c.Memory.Heap), c.First*1000, c.FirstAsked.Lists, c.Maintain*1000, ms(c.Stall), ms(c.Fetch50), ms(c.Fetch99), float64(c.FetchAsked.Gets)/fetches)
	}
	t.Log(figures)
}
