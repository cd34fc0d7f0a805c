package commitlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// small makes every read go to the bucket.
func small(o *Options) { o.TailBytes = 1 }

// An offset in the middle of a batch gets that batch, from memory and from the
// bucket, at once and by small steps.
func TestFetchEveryOffset(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 2)
	const all = 60
	for i := 0; i < all; i += 3 {
		appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch(fmt.Sprint(i), fmt.Sprint(i+1), fmt.Sprint(i+2))})
	}
	for _, name := range []string{"running", "recovered", "cold"} {
		switch name {
		case "recovered":
			l = open(t, b)
		case "cold":
			l = open(t, b, small)
		}
		for offset := range int64(all) {
			for _, maxBytes := range []int{0, 1, 300, 1 << 20} {
				f, err := l.Fetch(ctx, topic.ID, 1, offset, maxBytes)
				if err != nil {
					t.Fatal(name, err)
				}
				first := record.Batch(f.Batches[0])
				if first.BaseOffset() > offset || first.NextOffset() <= offset || f.Start != 0 || f.End != all {
					t.Fatalf("%s: offset %d got %d to %d of %d to %d", name, offset, first.BaseOffset(), first.NextOffset(), f.Start, f.End)
				}
				size := 0
				for _, raw := range f.Batches {
					size += len(raw)
				}
				if size > maxBytes && len(f.Batches) > 1 {
					t.Fatalf("%s: %d bytes in %d batches, at most %d wanted", name, size, len(f.Batches), maxBytes)
				}
			}
		}
		if got := readAll(t, l, topic.ID, 1); len(got) != all || got[41] != "41" {
			t.Error(name, got)
		}
		if f, err := l.Fetch(ctx, topic.ID, 1, all, 1); err != nil || len(f.Batches) != 0 || f.End != all {
			t.Error(name, f, err)
		}
		for _, offset := range []int64{-1, all + 1} {
			if f, err := l.Fetch(ctx, topic.ID, 1, offset, 1); !errors.Is(err, ErrOffsetOutOfRange) || f.End != all {
				t.Error(name, offset, f, err)
			}
		}
		for _, key := range []state.Place{{Topic: weir.TopicID{9}, Partition: 0}, {Topic: topic.ID, Partition: 2}, {Topic: topic.ID, Partition: -1}} {
			if _, err := l.Fetch(ctx, key.Topic, key.Partition, 0, 1); !errors.Is(err, ErrUnknownTopic) {
				t.Error(name, key, err)
			}
			if _, _, err := l.Bounds(key.Topic, key.Partition); !errors.Is(err, ErrUnknownTopic) {
				t.Error(name, key, err)
			}
			<-l.Watch(key.Topic, key.Partition)
		}
	}
}

// Every byte that comes from the bucket is verified.
func TestFetchVerifies(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("hello")})
	extent := l.state.Topics[topic.ID].Parts[0].Index[0]
	key := journal.SlotKey(0, extent.Position())
	whole, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	l = open(t, b, small)
	for i := range extent.Size {
		damaged := append([]byte(nil), whole...)
		damaged[extent.At+i] ^= 0x40
		put(t, b, key, damaged)
		_, err := l.Fetch(ctx, topic.ID, 0, 0, 1)
		if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), key) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	put(t, b, key, whole[:len(whole)-1])
	if _, err := l.Fetch(ctx, topic.ID, 0, 0, 1); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	must(b.Delete(ctx, key))
	if _, err := l.Fetch(ctx, topic.ID, 0, 0, 1); !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), key) {
		t.Error(err)
	}
	put(t, b, key, whole)
	if got := readAll(t, l, topic.ID, 0); len(got) != 1 {
		t.Error(got)
	}
}

func put(t *testing.T, b *mem.Bucket, key string, body []byte) {
	t.Helper()
	must(b.Delete(context.Background(), key))
	must(b.Create(context.Background(), key, body))
}

// What was just written is read without asking the bucket; what is older costs
// memory only up to the bound.
func TestTailCache(t *testing.T) {
	f := storagetest.NewFaults(mem.New(), 1)
	l := open(t, f, func(o *Options) { o.TailBytes = 400 << 10 })
	topic := createTopic(t, l, "t", 1)
	value := strings.Repeat("x", 10<<10)
	for range 100 {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)})
	}
	bounded := func() {
		t.Helper()
		for name, c := range map[string]*cache{"tail": l.tail, "cold": l.cold} {
			sum := int64(0)
			for _, run := range c.runs {
				sum += int64(len(run.data)) + cachedRun
			}
			if sum != c.bytes || sum > c.limit || len(c.runs) != len(c.order) {
				t.Errorf("%s: %d bytes in %d runs, counted %d in %d, limit %d", name, sum, len(c.runs), c.bytes, len(c.order), c.limit)
			}
		}
	}
	bounded()
	before := f.Calls()
	for offset := int64(80); offset < 100; offset++ {
		if _, err := l.Fetch(context.Background(), topic.ID, 0, offset, 1); err != nil {
			t.Fatal(err)
		}
	}
	if f.Calls() != before {
		t.Error("the tail was read from the bucket")
	}
	for range 3 {
		if n := len(readAll(t, l, topic.ID, 0)); n != 100 {
			t.Error(n)
		}
		bounded()
	}
	if f.Calls() == before {
		t.Error("the head was not read from the bucket")
	}
	if len(l.tail.runs) < 20 {
		t.Error("a slow reader has pushed out the tail")
	}
}

// A failing read is an error of that read alone.
func TestFetchError(t *testing.T) {
	f := storagetest.NewFaults(mem.New(), 1)
	l := open(t, f, small)
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})
	f.Plan(storagetest.Nth(f.Calls()+1, storagetest.Outcome{Fate: storagetest.Fail}))
	if _, err := l.Fetch(context.Background(), topic.ID, 0, 0, 1); !errors.Is(err, storagetest.ErrInjected) || errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	if got := readAll(t, l, topic.ID, 0); len(got) != 1 {
		t.Error(got)
	}
}

func TestWatch(t *testing.T) {
	ctx := context.Background()
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 2)
	watch, other := l.Watch(topic.ID, 0), l.Watch(topic.ID, 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})
	<-watch
	select {
	case <-other:
		t.Error("another partition's append was told")
	default:
	}
	must(l.DeleteTopic(ctx, topic.ID))
	<-other
	topic = createTopic(t, l, "t", 1)
	watch = l.Watch(topic.ID, 0)
	must(l.Close())
	<-watch
	<-l.Watch(topic.ID, 0)
}

// Timestamps are in no order; the first record at or after a time is found all
// the same, also where it lies in the middle of a batch.
func TestOffsetByTime(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 2)
	times := [][]int64{{10, 20, 15}, {5}, {30, 25, 40}, {12}, {40, 60, 50}}
	var flat []int64
	for _, ts := range times {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Timed(ts...)})
		flat = append(flat, ts...)
	}
	for _, reopen := range []func(*Options){nil, func(*Options) {}, small} {
		if reopen != nil {
			l = open(t, b, reopen)
		}
		for ts := int64(0); ts <= 61; ts++ {
			want, at := int64(-1), int64(-1)
			for i, v := range flat {
				if v >= ts {
					want, at = int64(i), v
					break
				}
			}
			if offset, got, err := l.OffsetByTime(ctx, topic.ID, 0, ts); offset != want || got != at || err != nil {
				t.Errorf("time %d: %d, %d, %v, want %d, %d", ts, offset, got, err, want, at)
			}
		}
		if offset, ts, err := l.MaxTimestamp(ctx, topic.ID, 0); offset != 9 || ts != 60 || err != nil {
			t.Error(offset, ts, err)
		}
		if offset, ts, err := l.OffsetByTime(ctx, topic.ID, 1, 0); offset != -1 || ts != -1 || err != nil {
			t.Error(offset, ts, err)
		}
		if offset, ts, err := l.MaxTimestamp(ctx, topic.ID, 1); offset != -1 || ts != -1 || err != nil {
			t.Error(offset, ts, err)
		}
	}
}

// A wrong highest timestamp in the header of a batch is corrected when it comes in, so
// that the search can rely on it.
func TestTimestampLie(t *testing.T) {
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 1)
	for _, lie := range []byte{1, 200} {
		b := recordtest.Timed(10, 20)
		b[42] = lie
		recordtest.Reseal(b)
		appended(t, l, Append{Topic: topic.ID, Batch: b})
	}
	if offset, ts, err := l.OffsetByTime(context.Background(), topic.ID, 0, 15); offset != 1 || ts != 20 || err != nil {
		t.Error(offset, ts, err)
	}
	if offset, _, err := l.OffsetByTime(context.Background(), topic.ID, 0, 100); offset != -1 || err != nil {
		t.Error(offset, err)
	}
}
