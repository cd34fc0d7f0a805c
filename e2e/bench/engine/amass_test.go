package engine

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

// amassing says what amass does.
type amassing struct {
	Bytes      int64 // of records
	Partitions int32
	Batch      int // bytes
}

// amassed is what it took.
type amassed struct {
	Segments            int
	Created, Checkpoint int64         // bytes of all objects, and of those that were checkpoints
	Newest              int64         // bytes of the last checkpoint
	Memory              usage         // at the end
	Pass, Stall         time.Duration // a pass at the end, and the longest that an append waited
	Fill, Reopen        float64       // seconds
}

// hollow is a bucket that forgets the content of large slots, so that a log of any size
// fits into memory. Nothing reads them: they serve as segments.
type hollow struct {
	storage.Bucket
	created, checkpoints, newest atomic.Int64
}

const large = 64 << 10

func (h *hollow) Create(ctx context.Context, key string, body []byte) error {
	h.created.Add(int64(len(body)))
	if strings.Contains(key, "/checkpoint/") {
		h.checkpoints.Add(int64(len(body)))
		h.newest.Store(int64(len(body)))
	}
	if strings.Contains(key, "/log/") && len(body) > large {
		body = body[:65]
	}
	return h.Bucket.Create(ctx, key, body)
}

// amass fills a log with runs that stay in their slots, and opens it once more.
func amass(ctx context.Context, a amassing) (r amassed, err error) {
	b := &hollow{Bucket: mem.New()}
	log, err := openLog(ctx, b)
	if err != nil {
		return r, err
	}
	topic, err := log.CreateTopic(ctx, "large", a.Partitions, nil)
	if err != nil {
		return r, err
	}
	batch, err := noiseOf(1, a.Batch)
	if err != nil {
		return r, err
	}
	var stall atomic.Int64
	send := func(partition int32) error {
		answer, began := make(chan error, 1), time.Now()
		log.Append(commitlog.Append{Topic: topic.ID, Partition: partition, Batch: bytes.Clone(batch)}, func(_ int64, err error) { answer <- err })
		err := <-answer
		if waited := int64(time.Since(began)); waited > stall.Load() {
			stall.Store(waited)
		}
		return err
	}
	each := a.Bytes / int64(a.Batch) / int64(a.Partitions)
	if r.Fill, err = seconds(func() error {
		errs := make([]error, a.Partitions)
		var wg sync.WaitGroup
		for p := range a.Partitions {
			wg.Go(func() {
				for i := int64(0); i < each && errs[p] == nil; i++ {
					errs[p] = send(p)
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return r, err
	}
	r.Stall = time.Duration(stall.Load())
	if err := log.Maintain(ctx); err != nil {
		return r, err
	}
	for range 32 << 20 / a.Batch {
		if err := send(0); err != nil {
			return r, err
		}
	}
	pass, err := seconds(func() error { return log.Maintain(ctx) })
	if err != nil {
		return r, err
	}
	r.Pass = time.Duration(pass * float64(time.Second))
	r.Segments, r.Created, r.Checkpoint, r.Newest = log.Stats().Segments, b.created.Load(), b.checkpoints.Load(), b.newest.Load()
	if r.Memory, err = used(); err != nil {
		return r, err
	}
	if err := log.Close(); err != nil {
		return r, err
	}
	if r.Reopen, err = seconds(func() (err error) { log, err = openLog(ctx, b); return err }); err != nil {
		return r, err
	}
	return r, log.Close()
}

// TestAmass: a log whose runs stay in their slots, a terabyte of it in a soak. What the
// upkeep adds to the bytes that are written, and what it takes, stays small.
func TestAmass(t *testing.T) {
	sizes := []int64{2 << 30}
	if soak() {
		sizes = []int64{10 << 30, 100 << 30, 1 << 40}
	}
	figures := &table{title: "A log of batches of 1 MB, 8 partitions; the bucket forgets what is in large slots",
		head: []string{"GB", "segments", "filled in s", "created / produced", "checkpoints / produced", "newest checkpoint MiB", "peak RSS MiB", "heap MiB",
			"a pass ms", "longest ack ms", "open s"}}
	for _, size := range sizes {
		r := inChild[amassed](t, "amass", amassing{Bytes: size, Partitions: 8, Batch: 1 << 20})
		created, checkpoints := float64(r.Created)/float64(size), float64(r.Checkpoint)/float64(size)
		if created > 1.2 || checkpoints > 0.05 || r.Memory.Peak > 300<<20 {
			t.Errorf("%.2f bytes created and %.3f of checkpoints for each byte, %.0f MiB", created, checkpoints, mib(r.Memory.Peak))
		}
		figures.row(float64(size)/1e9, r.Segments, r.Fill, created, checkpoints, mib(r.Newest), mib(r.Memory.Peak), mib(r.Memory.Heap), ms(r.Pass), ms(r.Stall), r.Reopen)
	}
	t.Log(figures)
}
