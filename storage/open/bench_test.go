package open_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/storagetest"
)

// BenchmarkHandOver measures how long a partition takes no record while a shard changes
// its owner: from the last record that the old owner can take to the first that the new
// one has made durable. HandOver is a hand-over to a candidate; CloseOpen ends the log in
// good order and opens it. Both owners are in this process.
func BenchmarkHandOver(b *testing.B) {
	for _, bucket := range []struct {
		name string
		make func(b *testing.B) storage.Bucket
	}{
		{"mem-30ms", func(*testing.B) storage.Bucket {
			f := storagetest.NewFaults(mem.New(), 1)
			f.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: 30 * time.Millisecond} })
			return f
		}},
		{"file", func(b *testing.B) storage.Bucket { return opened(b, "file:"+b.TempDir()) }},
		{"redis", func(b *testing.B) storage.Bucket { return opened(b, redistest.Start(b).NewBucket(b)) }},
	} {
		b.Run(bucket.name+"/HandOver", func(b *testing.B) { measureGaps(b, bucket.make(b), handOver) })
		b.Run(bucket.name+"/CloseOpen", func(b *testing.B) { measureGaps(b, bucket.make(b), closeAndOpen) })
	}
}

func opened(b *testing.B, url string) storage.Bucket {
	bucket, err := open.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	return bucket
}

// measureGaps changes the owner b.N times.
func measureGaps(b *testing.B, bucket storage.Bucket, change func(*testing.B, *commitlog.Log, commitlog.Options) (*commitlog.Log, time.Time)) {
	o := commitlog.Options{Bucket: bucket, Node: "bench", Log: slog.New(slog.DiscardHandler)}
	l, err := commitlog.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	topic, err := l.CreateTopic(b.Context(), "t", 1, nil)
	if err != nil {
		b.Fatal(err)
	}
	var gaps []time.Duration
	for b.Loop() {
		for range 10 {
			put(b, l, topic)
		}
		if err := l.Maintain(b.Context()); err != nil { // nobody recovers more than a little
			b.Fatal(err)
		}
		put(b, l, topic)
		next, began := change(b, l, o)
		put(b, next, topic)
		gaps = append(gaps, time.Since(began))
		l = next
	}
	if err := l.Close(); err != nil {
		b.Error(err)
	}
	slices.Sort(gaps)
	for _, p := range []int{50, 99} {
		b.ReportMetric(gaps[(len(gaps)-1)*p/100].Seconds()*1000, fmt.Sprintf("ms-p%d", p))
	}
}

func put(b *testing.B, l *commitlog.Log, topic state.Topic) {
	done := make(chan error, 1)
	l.Append(commitlog.Append{Topic: topic.ID, Batch: recordtest.Batch("x")}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func handOver(b *testing.B, l *commitlog.Log, o commitlog.Options) (next *commitlog.Log, began time.Time) {
	c, err := commitlog.Prepare(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	nonce := [16]byte{byte(l.Epoch()), byte(l.Epoch() >> 8), 1}
	_, err = l.HandOver(b.Context(), nonce, func(ctx context.Context) error {
		if err := c.Claim(ctx, 0, nonce); err != nil {
			return err
		}
		err := c.Follow(ctx)
		began = time.Now()
		return err
	})
	if err == nil {
		next, err = c.Take(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = l.Close() }()
	return next, began
}

func closeAndOpen(b *testing.B, l *commitlog.Log, o commitlog.Options) (next *commitlog.Log, began time.Time) {
	began = time.Now()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	next, err := commitlog.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	return next, began
}
