package engine

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// growing says what grow does.
type growing struct {
	Dir        string // of a file bucket; empty: one in memory
	Partitions int32
}

// grown is what it took, in seconds.
type grown struct {
	Create, Append, Maintain, Reopen float64
	Checkpoint                       int64 // bytes
	Memory                           usage // after all of it
}

// grow fills the partitions of a topic with a batch each, rewrites them, and opens
// the log once more.
func grow(ctx context.Context, a growing) (r grown, err error) {
	var b storage.Bucket = mem.New()
	if a.Dir != "" {
		if b, err = file.Open(a.Dir); err != nil {
			return r, err
		}
	}
	log, err := openLog(ctx, b)
	if err != nil {
		return r, err
	}
	var topic state.Topic
	if r.Create, err = seconds(func() (err error) {
		topic, err = log.CreateTopic(ctx, "wide", a.Partitions, nil)
		return err
	}); err != nil {
		return r, err
	}
	batch, err := batchOf(10, 100)
	if err != nil {
		return r, err
	}
	if r.Append, err = seconds(func() error { return appendToEach(log, topic, batch) }); err != nil {
		return r, err
	}
	if r.Maintain, err = seconds(func() error { return log.Maintain(ctx) }); err != nil {
		return r, err
	}
	if r.Checkpoint, err = checkpointSize(ctx, b); err != nil {
		return r, err
	}
	if err := log.Close(); err != nil {
		return r, err
	}
	if r.Reopen, err = seconds(func() (err error) { log, err = openLog(ctx, b); return err }); err != nil {
		return r, err
	}
	if r.Memory, err = used(); err != nil {
		return r, err
	}
	return r, log.Close()
}

// appendToEach appends a batch to every partition and waits for all of them.
func appendToEach(log *commitlog.Log, topic state.Topic, batch record.Batch) error {
	answers := make(chan error, topic.Partitions)
	for p := range topic.Partitions {
		log.Append(commitlog.Append{Topic: topic.ID, Partition: p, Batch: bytes.Clone(batch)}, func(_ int64, err error) { answers <- err })
	}
	var all error
	for range topic.Partitions {
		all = errors.Join(all, <-answers)
	}
	return all
}

// checkpointSize is the bytes of the newest checkpoint; 0 if there is none.
func checkpointSize(ctx context.Context, b storage.Bucket) (int64, error) {
	keys, err := b.List(ctx, "0000/checkpoint/", "", page)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	body, err := b.Get(ctx, keys[len(keys)-1], 0, -1)
	return int64(len(body)), err
}

// TestPartitions: many partitions in one log.
func TestPartitions(t *testing.T) {
	counts := []int32{1000}
	if soak() {
		counts = []int32{1000, 10_000}
	}
	figures := &table{title: "One batch in each of many partitions, then a pass of the upkeep and a takeover, in a process of its own (RSS with the bucket, where that is memory)",
		head: []string{"bucket", "partitions", "create s", "append s", "Maintain s", "Open s", "checkpoint KiB", "RSS MiB", "peak MiB", "heap MiB"}}
	for _, n := range counts {
		for _, kind := range []string{"mem", "file"} {
			a := growing{Partitions: n}
			if kind == "file" {
				a.Dir = filepath.Join(t.TempDir(), "bucket")
			}
			r := inChild[grown](t, "grow", a)
			figures.row(kind, n, r.Create, r.Append, r.Maintain, r.Reopen, float64(r.Checkpoint)/1024, mib(r.Memory.RSS), mib(r.Memory.Peak), mib(r.Memory.Heap))
			if kind == "file" {
				c := inChild[reopened](t, "reopen", reopening{Dir: a.Dir})
				figures.row("file, a cold process", n, "-", "-", "-", c.Open, float64(c.Checkpoint)/1024, mib(c.Memory.RSS), mib(c.Memory.Peak), mib(c.Memory.Heap))
				if want := int64(n) * 10; c.Records != want {
					t.Errorf("%d records, want %d", c.Records, want)
				}
			}
		}
	}
	t.Log(figures)
}
