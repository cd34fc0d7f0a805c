package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/record"
)

// amassing says what amass does.
type amassing struct {
	Bytes      int64 // of records
	Partitions int32
	Batch      int // bytes
}

// amassed is what it took.
type amassed struct {
	Segments     int
	Asked        requests
	Newest       int64         // bytes of the last checkpoint
	Course       []int64       // RSS after each tenth
	Memory       usage         // at the end
	Pass, Stall  time.Duration // a pass at the end, and the longest that an append waited
	Fill, Reopen float64       // seconds
}

// amass fills a log with runs that are large enough to stay in their slots, and opens it
// once more.
func amass(ctx context.Context, a amassing) (r amassed, err error) {
	debug.SetGCPercent(25) // as weir-cloud does
	value := make([]byte, a.Batch)
	_, _ = rand.NewChaCha8([32]byte{}).Read(value) // never fails
	folder, err := os.MkdirTemp("", "amass")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	rest, err := file.Open(filepath.Join(folder, "rest"))
	if err != nil {
		return r, err
	}
	objects, err := newRecipes(folder, value, rest)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, objects.Close()) }()
	b := &counter{below: objects}
	log, err := openLog(ctx, b)
	if err != nil {
		return r, err
	}
	topic, err := log.CreateTopic(ctx, "large", a.Partitions, nil)
	if err != nil {
		return r, err
	}
	batch, err := batchWith(1, func() []byte { return value })
	if err != nil {
		return r, err
	}
	if err := r.fill(log, topic, batch, a); err != nil {
		return r, err
	}
	if err := log.Maintain(ctx); err != nil {
		return r, err
	}
	for range 32 << 20 / a.Batch {
		if err := r.send(log, topic, 0, batch); err != nil {
			return r, err
		}
	}
	before := b.count()
	pass, err := seconds(func() error { return log.Maintain(ctx) })
	if err != nil {
		return r, err
	}
	r.Pass = time.Duration(pass * float64(time.Second))
	r.Segments, r.Asked = log.Stats().Segments, b.count()
	last := r.Asked.minus(before)
	r.Newest = last.CheckpointBytes / max(last.Checkpoints, 1)
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

// fill appends the batch as often as it takes, with one producer for each partition.
func (r *amassed) fill(log *commitlog.Log, topic state.Topic, batch record.Batch, a amassing) error {
	each := a.Bytes / int64(a.Batch) / int64(a.Partitions)
	errs := make([]error, a.Partitions)
	stalls := make([]amassed, a.Partitions)
	var wg sync.WaitGroup
	began := time.Now()
	for p := range a.Partitions {
		wg.Go(func() {
			batch := bytes.Clone(batch)
			for i := int64(1); i <= each && errs[p] == nil; i++ {
				errs[p] = stalls[p].send(log, topic, p, batch)
				if p == 0 && errs[p] == nil && i%max(each/10, 1) == 0 {
					var u usage
					u, errs[p] = resident()
					r.Course = append(r.Course, u.RSS)
				}
			}
		})
	}
	wg.Wait()
	r.Fill = time.Since(began).Seconds()
	for _, x := range stalls {
		r.Stall = max(r.Stall, x.Stall)
	}
	return errors.Join(errs...)
}

// send appends a batch that has passed Verify, and waits until it is durable.
func (r *amassed) send(log *commitlog.Log, topic state.Topic, partition int32, batch record.Batch) error {
	answer, began := make(chan error, 1), time.Now()
	log.Append(commitlog.Append{Topic: topic.ID, Partition: partition, Batch: batch, Verified: true}, func(_ int64, err error) { answer <- err })
	err := <-answer
	r.Stall = max(r.Stall, time.Since(began))
	return err
}

// TestAmass: a log whose runs stay in their slots, a terabyte of it in a soak. What the
// upkeep adds to the bytes that are written, and what it takes, stays small.
func TestAmass(t *testing.T) {
	sizes := []int64{2 << 30}
	if soak() {
		sizes = []int64{10 << 30, 100 << 30, 1 << 40}
	}
	figures := &table{title: "A log of batches of 1 MB, 8 partitions",
		head: []string{"GB", "segments", "filled in s", "created / produced", "checkpoints / produced", "newest checkpoint MiB", "peak RSS MiB", "heap MiB",
			"a pass ms", "longest ack ms", "open s"}}
	course := &table{title: "RSS after each tenth, MiB", head: append([]string{"GB"}, slices.Repeat([]string{" "}, 10)...)}
	for _, size := range sizes {
		r := inChild[amassed](t, "amass", amassing{Bytes: size, Partitions: 8, Batch: 1 << 20})
		created, checkpoints := float64(r.Asked.PutBytes)/float64(size), float64(r.Asked.CheckpointBytes)/float64(size)
		if created > 1.2 || checkpoints > 0.05 || r.Memory.Peak > 300<<20 {
			t.Errorf("%.2f bytes created and %.3f of checkpoints for each byte, %.0f MiB", created, checkpoints, mib(r.Memory.Peak))
		}
		figures.row(float64(size)/1e9, r.Segments, r.Fill, created, checkpoints, mib(r.Newest), mib(r.Memory.Peak), mib(r.Memory.Heap), ms(r.Pass), ms(r.Stall), r.Reopen)
		row := []any{float64(size) / 1e9}
		for _, rss := range r.Course {
			row = append(row, mib(rss))
		}
		course.row(row...)
	}
	t.Log(figures, course)
}
