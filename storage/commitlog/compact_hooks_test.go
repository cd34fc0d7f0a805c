//go:build weirtest

package commitlog

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestTombstones: they hide what is older, stay for delete.retention.ms since that
// went, and go, also when nothing new comes; the last record of a partition does
// not.
func TestTombstones(t *testing.T) {
	b := mem.New()
	var now clock
	now.Store(1_000_000_000)
	timed := func(o *Options) { o.Now = now.time }
	l := open(t, b, asked, timed)
	topic := createCompacted(t, l, "t", 1, "delete.retention.ms", "60000", "min.cleanable.dirty.ratio", "0")
	var want []kv
	put := func(all ...kv) {
		want = append(want, all...)
		appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.Zstd, all...)})
	}
	verify := func(gone ...int64) {
		t.Helper()
		maintained(t, l)
		left := lasting(want, 0, true)
		for _, offset := range gone {
			delete(left, offset)
		}
		sameRecords(t, holes(t, l, topic.ID, 0), left)
		sound(t, b)
	}
	put(kv{"a", "1", 5}, kv{"b", "1", 6}, kv{"c", "1", 7})
	verify()
	put(kv{"a", "", 8}, kv{"b", "2", 9}, kv{"", "no key", 10}) // old tombstones stay as long as young ones
	verify()
	partition := state.Place{Topic: topic.ID, Partition: 0}
	if got, want := l.upkeep.Hooks().Horizon(partition), now.Load()+60_000; got != want {
		t.Errorf("horizon %d, want %d", got, want)
	}
	now.Add(59_000)
	put(kv{"d", "1", 5})
	verify()
	must(l.Close())
	l = open(t, b, asked, timed) // the batch knows it
	put(kv{"d", "2", 6})
	verify()
	now.Add(1000)
	if !l.upkeep.Hooks().Forgets() {
		t.Error("nobody thinks of the tombstone")
	}
	verify(3)
	if h := l.upkeep.Hooks(); h.Forgets() || h.Horizon(partition) > 0 {
		t.Error(h.Horizon(partition))
	}
	put(kv{"d", "", 7})
	verify(3)
	now.Add(3_600_000)
	for range 3 {
		verify(3) // it is the last
	}
	put(kv{"e", "1", 7})
	verify(3, 8)
}

// Memory for keys is bounded, also when one piece has more of them.
func TestCompactBounded(t *testing.T) {
	const most, records = 100, 5000
	l := open(t, mem.New(), asked, func(o *Options) { o.Upkeep.Keys = most })
	topic := createCompacted(t, l, "t", 1)
	for range 2 {
		var all []kv
		for i := range records {
			all = append(all, kv{fmt.Sprint("k", i), "v", 1})
		}
		appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.LZ4, all...)})
		rewritten(t, l)
	}
	partition := state.Place{Topic: topic.ID, Partition: 0}
	for range 2 {
		n, rounds, err := l.upkeep.Hooks().Step(partition, l.pieces(partition))
		must(err)
		if n == 0 || n > 2*most {
			t.Errorf("%d keys in memory, in %d rounds", n, rounds)
		}
	}
	if n := len(holes(t, l, topic.ID, 0)); n != records {
		t.Errorf("%d records", n)
	}
}

// A partition may be trimmed, and its topic deleted, before what compaction made
// of it is installed.
func TestTrimmedWhileCompacted(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		for to := int64(0); to <= 60; to += 7 {
			synctest.Test(t, func(t *testing.T) { trimmedWhileCompacted(t, deleted, to) })
		}
	}
}

func trimmedWhileCompacted(t *testing.T, deleted bool, to int64) {
	b := mem.New()
	g := newGate(b)
	l := open(t, g, asked)
	topic := createCompacted(t, l, "t", 1)
	other := createCompacted(t, l, "other", 1)
	var want []kv
	for i := range 60 {
		r := kv{fmt.Sprint("k", i%7), fmt.Sprint(i, strings.Repeat("x", 15_000)), 1}
		want = append(want, r)
		appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.None, r)})
		appended(t, l, Append{Topic: other.ID, Batch: keyed(record.None, kv{r.key, "y", 1})})
	}
	rewritten(t, l)
	release := g.hold()
	gone := make(chan error, 1)
	ctx := context.Background()
	go func() {
		if deleted {
			gone <- l.DeleteTopic(ctx, topic.ID)
			return
		}
		_, err := l.DeleteRecords(ctx, topic.ID, 0, to)
		gone <- err
	}()
	synctest.Wait()
	if n := flying(l); (n == 1) != (deleted || to > 0) {
		t.Fatalf("%d slots in flight", n)
	}
	compacted := make(chan error, 1)
	go func() { compacted <- l.upkeep.Hooks().Compact() }()
	synctest.Wait()
	if !slices.ContainsFunc(keys(t, b, "0000/segment/"), func(k string) bool { return strings.Contains(k, "/1000000") }) {
		t.Fatal("nothing was compacted")
	}
	release()
	must(<-gone)
	must(<-compacted)
	if !deleted {
		got := holes(t, l, topic.ID, 0)
		full := lasting(want, 0, true)
		maps.DeleteFunc(full, func(offset int64, _ kv) bool { return offset < to })
		sameRecords(t, got, full)
	}
	maintained(t, l)
	maintained(t, l)
	if n := len(holes(t, l, other.ID, 0)); n != 7 {
		t.Errorf("%d records in the other topic", n)
	}
	if r := sound(t, b); r.Orphans > 0 {
		t.Errorf("%d orphans", r.Orphans)
	}
}

// BenchmarkCompact compacts a partition of records of 1 KB with 1 % distinct keys.
func BenchmarkCompact(b *testing.B) {
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			const batches, records = 400, 64
			rng := rand.New(rand.NewPCG(1, 1))
			for range b.N {
				b.StopTimer()
				l := open(b, mem.New(), func(o *Options) { o.Upkeep = upkeep.Options{Bytes: 1 << 40, Slots: 1 << 30, Age: time.Hour} })
				topic := createCompacted(b, l, "t", 1)
				for range batches {
					var all []kv
					for range records {
						all = append(all, kv{fmt.Sprint("sensor-", rng.IntN(batches*records/100)), strings.Repeat(fmt.Sprint(rng.Uint64()), 50), 1})
					}
					appended(b, l, Append{Topic: topic.ID, Batch: keyed(codec, all...)})
				}
				rewritten(b, l)
				b.SetBytes(batches * records * 1000)
				b.StartTimer()
				must(l.upkeep.Hooks().Compact())
				b.StopTimer()
				if n := len(holes(b, l, topic.ID, 0)); n > batches*records/100 {
					b.Fatalf("%d records", n)
				}
				must(l.Close())
			}
		})
	}
}

// Compaction takes minutes here; checkpoints are made meanwhile, and what it reads
// is not deleted.
func TestCompactionHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		f := storagetest.NewFaults(b, 1)
		l := open(t, b, asked)
		topic, beside := createCompacted(t, l, "t", 1), createTopic(t, l, "beside", 1)
		for i := range 100 {
			appended(t, l, Append{Topic: topic.ID, Batch: keyed(0, kv{string(rune('a' + i%7)), strings.Repeat("x", 10_000), 1})})
			if i%3 == 2 {
				rewritten(t, l)
			}
		}
		must(l.Close())
		l = open(t, f, asked, func(o *Options) { o.Upkeep.Bytes = 64 << 10 })
		var mu sync.Mutex // guards the next three
		reads := 0
		var last time.Time // the newest checkpoint
		var gap time.Duration
		f.Plan(func(c storagetest.Call) storagetest.Outcome {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case c.Verb == storagetest.Get && strings.Contains(c.Keys[0], "/segment/"):
				reads++
				return storagetest.Outcome{Before: patience / 2}
			case c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/checkpoint/"):
				if now := time.Now(); !last.IsZero() {
					gap = max(gap, now.Sub(last))
				}
				last = time.Now()
			}
			return storagetest.Outcome{}
		})
		maintain := make(chan error, 1)
		go func() { maintain <- l.Maintain(context.Background()) }()
		for i := 0; len(maintain) == 0; i++ {
			appended(t, l, Append{Topic: beside.ID, Batch: recordtest.Batch(strings.Repeat("y", 8<<10))})
			if i == 30 {
				_, err := l.DeleteRecords(t.Context(), topic.ID, 0, 40)
				must(err)
			}
			time.Sleep(time.Second)
		}
		must(<-maintain)
		// One is due every 8 s, and each read takes 5.
		mu.Lock()
		if reads < 20 || gap > 20*time.Second {
			t.Errorf("%v without a checkpoint while %d pieces were read", gap, reads)
		}
		mu.Unlock()
		f.Plan(nil)
		maintained(t, l)
		maintained(t, l)
		if n := len(holes(t, l, topic.ID, 0)); n != 7 {
			t.Errorf("%d records", n)
		}
		sound(t, b)
		must(l.Close())
		if l.upkeep.Hooks().Spoiled() > 0 {
			t.Error("a piece was gone that compaction had to read")
		}
	})
}

func flying(l *Log) int {
	n, _ := l.flight.state()
	return n
}
