package commitlog

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// kv is a record of a compacted topic. An empty key or value is null.
type kv struct {
	key, value string
	at         int64
}

func (r kv) record() *record.Record {
	out := &record.Record{Timestamp: r.at}
	if r.key != "" {
		out.Key = []byte(r.key)
	}
	if r.value != "" {
		out.Value = []byte(r.value)
	}
	return out
}

func keyed(codec record.Codec, all ...kv) record.Batch {
	b := record.NewBuilder(codec)
	for _, r := range all {
		must(b.Append(r.record()))
	}
	out, err := b.Build()
	must(err)
	return out
}

func createCompacted(t testing.TB, l *Log, name string, partitions int32, settings ...string) state.Topic {
	t.Helper()
	configs := map[string]string{"cleanup.policy": "compact"}
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = settings[i+1]
	}
	topic, err := l.CreateTopic(context.Background(), name, partitions, configs)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// asked makes passes only when a test wants one, and many little segments.
func asked(o *Options) {
	o.Upkeep = upkeep.Options{Bytes: 1 << 40, Slots: 1 << 30, Age: time.Hour, Segment: 32 << 10}
}

// clock is a time in ms since 1970 that a test moves on.
type clock struct{ atomic.Int64 }

func (c *clock) time() time.Time { return time.UnixMilli(c.Load()) }

// rewritten makes a pass that compacts nothing, for tests with asked.
func rewritten(t testing.TB, l *Log) {
	t.Helper()
	for more := true; more; more = l.upkeep.HasMore() {
		must(l.upkeep.Keep())
	}
}

// holes reads what a partition holds, by offset, and proves that reading from each
// offset reaches the end.
func holes(t testing.TB, l *Log, topic weir.TopicID, partition int32) map[int64]kv {
	t.Helper()
	start, end, err := l.Bounds(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int64]kv{}
	for offset := start; offset < end; {
		f, err := l.Fetch(context.Background(), topic, partition, offset, 4<<10)
		if err != nil || len(f.Batches) == 0 {
			t.Fatalf("%d batches at offset %d of %d, %v", len(f.Batches), offset, end, err)
		}
		for _, raw := range f.Batches {
			b := record.Batch(raw)
			if err := b.Verify(); err != nil || b.NextOffset() <= offset {
				t.Fatalf("batch at offset %d does not lead on from %d, %v", b.BaseOffset(), offset, err)
			}
			must(b.Each(1<<24, func(r *record.Record) error {
				if r.Offset >= offset {
					all[r.Offset] = kv{string(r.Key), string(r.Value), r.Timestamp}
				}
				return nil
			}))
			offset = b.NextOffset()
		}
	}
	return all
}

// lasting is what compaction leaves of all records from start on.
func lasting(all []kv, start int64, tombstones bool) map[int64]kv {
	left, newest := map[int64]kv{}, map[string]int64{}
	for i := start; i < int64(len(all)); i++ {
		r := all[i]
		if old, known := newest[r.key]; known && r.key != "" {
			delete(left, old)
		}
		newest[r.key], left[i] = i, r
	}
	for i, r := range left {
		if !tombstones && r.key != "" && r.value == "" && i != int64(len(all))-1 {
			delete(left, i)
		}
	}
	return left
}

func sameRecords(t testing.TB, got, want map[int64]kv) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for _, offset := range slices.Sorted(maps.Keys(want)) {
		if got[offset] != want[offset] {
			t.Fatalf("offset %d: %.50v, want %.50v; %d records, want %d", offset, got[offset], want[offset], len(got), len(want))
		}
	}
	t.Fatalf("%d records, want %d", len(got), len(want))
}

// One record of each key stays, at its offset, also for a new owner, which does not
// read clean pieces.
func TestCompact(t *testing.T) {
	b := mem.New()
	l := open(t, b, asked)
	topic := createCompacted(t, l, "t", 2)
	var want []kv
	fill := func(n int) {
		for range n {
			r := kv{fmt.Sprint("k", len(want)%10), fmt.Sprint(len(want), strings.Repeat("x", 20_000)), 1000 + int64(len(want))}
			want = append(want, r)
			appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.None, r)})
		}
	}
	fill(100)
	maintained(t, l)
	sameRecords(t, holes(t, l, topic.ID, 0), lasting(want, 0, true))
	before := len(want)
	fill(6) // of 16: dirty, but not enough
	maintained(t, l)
	full := lasting(want[:before], 0, true)
	for i := before; i < len(want); i++ {
		full[int64(i)] = want[i]
	}
	sameRecords(t, holes(t, l, topic.ID, 0), full)
	fill(10)
	maintained(t, l)
	sameRecords(t, holes(t, l, topic.ID, 0), lasting(want, 0, true))
	maintained(t, l)
	must(l.Close())

	f := storagetest.NewFaults(b, 1)
	f.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Get && strings.Contains(c.Keys[0], "/segment/") {
			t.Errorf("%v is read again", c.Keys)
		}
		return storagetest.Outcome{}
	})
	l = open(t, f, asked)
	maintained(t, l)
	f.Plan(nil)
	sameRecords(t, holes(t, l, topic.ID, 0), lasting(want, 0, true))
	if offset, ts, err := l.MaxTimestamp(t.Context(), topic.ID, 0); offset != int64(len(want))-1 || ts != want[offset].at || err != nil {
		t.Error(offset, ts, err)
	}
	if offset, ts, err := l.OffsetByTime(t.Context(), topic.ID, 0, 1001); offset != int64(len(want))-10 || ts != want[offset].at || err != nil {
		t.Error(offset, ts, err)
	}
	maintained(t, l)
	if n := len(keys(t, b, "0000/segment/")); n > 12 {
		t.Errorf("%d segments for 10 records", n)
	}
	sound(t, b)
}

// However few keys fit into memory, the result is the same.
func TestCompactInParts(t *testing.T) {
	for _, most := range []int{1, 3, 40, 1000} {
		b := mem.New()
		l := open(t, b, tiny, func(o *Options) { o.Upkeep.Keys = most })
		topic := createCompacted(t, l, "t", 1)
		var want []kv
		for i := range 20 {
			var all []kv
			for j := range 25 {
				all = append(all, kv{fmt.Sprint("k", (i*7+j*3)%60), fmt.Sprint(i, "/", j, strings.Repeat("x", 200)), int64(i)})
			}
			want = append(want, all...)
			appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.Codec(i%5), all...)})
			if i%7 == 6 {
				maintained(t, l)
			}
		}
		maintained(t, l)
		got := holes(t, l, topic.ID, 0)
		if dirty(l.pieces(state.Place{Topic: topic.ID, Partition: 0})) == len(l.pieces(state.Place{Topic: topic.ID, Partition: 0})) {
			sameRecords(t, got, lasting(want, 0, true))
		} else if len(got) >= len(want) {
			t.Errorf("%d keys: nothing was compacted", most)
		}
		sound(t, b)
	}
}

// A piece that cannot be read stays where it is, with all behind it. Other partitions
// go on.
func TestCompactUnreadable(t *testing.T) {
	b := mem.New()
	l := open(t, b, asked, func(o *Options) { o.Upkeep.Segment = 4 << 20 }) // they share segments
	bad := createCompacted(t, l, "bad", 1)
	var good []state.Topic
	for i := range 5 {
		good = append(good, createCompacted(t, l, fmt.Sprint("good", i), 1))
	}
	for i := range 60 {
		for _, topic := range append(good, bad) {
			appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.None, kv{fmt.Sprint("k", i%3), fmt.Sprint(i, strings.Repeat("x", 15_000)), 1})})
		}
		if i%30 == 29 {
			rewritten(t, l)
		}
	}
	pieces := l.pieces(state.Place{Topic: bad.ID, Partition: 0})
	if len(pieces) < 2 {
		t.Fatal("one piece only")
	}
	x := pieces[1]
	repair := damage(t, b, x)
	maintained(t, l)
	maintained(t, l)
	repair()
	for _, topic := range good {
		if n := len(holes(t, l, topic.ID, 0)); n != 3 {
			t.Errorf("%d records of %s", n, topic.Name)
		}
	}
	got := holes(t, l, bad.ID, 0)
	for i := int64(57); i < 60; i++ {
		if got[i].key == "" {
			t.Errorf("offset %d is gone", i)
		}
	}
	if int64(len(got)) < 60-x.Base {
		t.Errorf("%d of 60 records, the first %d could be read", len(got), x.Base)
	}
	l = open(t, b, asked, func(o *Options) { o.Upkeep.Segment = 4 << 20 })
	appended(t, l, Append{Topic: bad.ID, Batch: recordtest.Batch("another")})
	maintained(t, l)
	if n := len(holes(t, l, bad.ID, 0)); n != 4 {
		t.Errorf("%d records when it can be read again", n)
	}
	// Clean pieces are read again when there are new dirty ones.
	repair = damage(t, b, l.pieces(state.Place{Topic: bad.ID, Partition: 0})[0])
	for _, topic := range append(good, bad) {
		for i := range 60 {
			appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.None, kv{fmt.Sprint("l", i%3), strings.Repeat("x", 2000), 1})})
		}
	}
	maintained(t, l)
	maintained(t, l)
	repair()
	for _, topic := range good {
		if n := len(holes(t, l, topic.ID, 0)); n != 6 {
			t.Errorf("%d records of %s", n, topic.Name)
		}
	}
	if n := len(holes(t, l, bad.ID, 0)); n != 64 {
		t.Errorf("%d records behind what could not be read", n)
	}
	sound(t, b)
}

// damage changes a byte of a piece, until repair is called.
func damage(t *testing.T, b *mem.Bucket, x state.Piece) (repair func()) {
	t.Helper()
	key := segment.Key(0, x.Segment.Epoch, x.Segment.Number)
	whole, err := b.Get(t.Context(), key, 0, -1)
	must(err)
	damaged := bytes.Clone(whole)
	damaged[x.At+100] ^= 1
	put(t, b, key, damaged)
	return func() { put(t, b, key, whole) }
}

// A partition with few records gets a piece in each pass. These are joined, whatever
// the topic's policy.
func TestJoinSmall(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny)
	plain, compacted := createTopic(t, l, "t", 1), createCompacted(t, l, "c", 1, "min.cleanable.dirty.ratio", "2")
	for i := range 100 {
		appended(t, l, Append{Topic: plain.ID, Batch: recordtest.Batch(fmt.Sprint(i))})
		appended(t, l, Append{Topic: compacted.ID, Batch: keyed(record.None, kv{fmt.Sprint("k", i), "v", 1})})
		maintained(t, l)
	}
	if got := readAll(t, l, plain.ID, 0); len(got) != 100 || got[42] != "42" {
		t.Errorf("%q", got)
	}
	if got := holes(t, l, compacted.ID, 0); len(got) != 100 {
		t.Errorf("%d records", len(got))
	}
	for _, topic := range []state.Topic{plain, compacted} {
		if n := len(l.pieces(state.Place{Topic: topic.ID, Partition: 0})); n > 32 {
			t.Errorf("%d pieces", n)
		}
		if dirty(l.pieces(state.Place{Topic: topic.ID, Partition: 0})) > 0 {
			t.Error("what was only joined counts as compacted")
		}
	}
	sound(t, b)
}

// A reader during compaction finds each key's last value, and offsets that grow.
func TestReadersDuringCompaction(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny, func(o *Options) { o.TailBytes, o.BlockBytes = 1, 1<<20 })
	topic := createCompacted(t, l, "t", 1, "min.cleanable.dirty.ratio", "0")
	const records = 300
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := map[string]string{}
			for next := int64(0); next < records; {
				watch := l.Watch(topic.ID, 0)
				f, err := l.Fetch(context.Background(), topic.ID, 0, next, 10_000)
				if err != nil {
					t.Error(err)
					return
				}
				for _, raw := range f.Batches {
					must(record.Batch(raw).Each(1<<20, func(r *record.Record) error {
						if r.Offset >= next {
							last[string(r.Key)] = strings.TrimRight(string(r.Value), "x")
						}
						return nil
					}))
					next = max(next, record.Batch(raw).NextOffset())
				}
				if len(f.Batches) == 0 {
					<-watch
				}
			}
			for i := records - 20; i < records; i++ {
				if got := last[fmt.Sprint("k", i%20)]; got != fmt.Sprint(i) {
					t.Errorf("k%d is %q, want %d", i%20, got, i)
				}
			}
		})
	}
	wg.Go(func() {
		for range 25 {
			if err := l.Maintain(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range records {
		appended(t, l, Append{Topic: topic.ID, Batch: keyed(record.None, kv{fmt.Sprint("k", i%20), fmt.Sprint(i, strings.Repeat("x", 500)), 1})})
	}
	wg.Wait()
	sound(t, b)
}
