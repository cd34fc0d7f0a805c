package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

func TestAppendFetch(t *testing.T) {
	l := open(t, mem.New())
	topic := createTopic(t, l, "readings", 2)
	for i, want := range []int64{0, 2, 3} {
		values := [][]string{{"a", "b"}, {"c"}, {"d", "e", "f"}}[i]
		if base := appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch(values...)}); base != want {
			t.Errorf("append %d got offset %d, want %d", i, base, want)
		}
	}
	if got := strings.Join(readAll(t, l, topic.ID, 1), ""); got != "abcdef" {
		t.Error(got)
	}
	if got := readAll(t, l, topic.ID, 0); len(got) != 0 {
		t.Error(got)
	}
	f, err := l.Fetch(context.Background(), topic.ID, 1, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := record.Batch(f.Batches[0])
	if len(f.Batches) != 1 || b.BaseOffset() != 3 || b.LeaderEpoch() != l.Epoch() || f.End != 6 {
		t.Errorf("offset 4: %d batches, base %d, epoch %d, end %d", len(f.Batches), b.BaseOffset(), b.LeaderEpoch(), f.End)
	}
}

// Batches that arrive while a slot is in flight leave together in the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		before := g.Calls()
		var answers []<-chan result
		for i := range 100 {
			answers = append(answers, send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(fmt.Sprint(i))}))
			if i == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if !pending(answers[0]) {
			t.Fatal("answered before it was durable")
		}
		release()
		for i, a := range answers {
			if r := <-a; r.err != nil || r.base != int64(i) {
				t.Errorf("append %d: %+v", i, r)
			}
		}
		if calls := g.Calls() - before; calls != 2 {
			t.Errorf("%d calls of the bucket for a first append and 99 more, want 2", calls)
		}
	})
}

// Append waits when too much stands in line, and goes on when there is room.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g, func(o *Options) { o.SlotBytes, o.Depth = 128<<10, 1 })
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		var mu sync.Mutex
		sent, answered := 0, 0
		value := strings.Repeat("x", 32<<10)
		const all = 100
		go func() {
			for range all {
				l.Append(Append{Topic: topic.ID, Batch: recordtest.Batch(value)}, func(base int64, err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil || base != int64(answered) {
						t.Error(base, err)
					}
					answered++
				})
				mu.Lock()
				sent++
				mu.Unlock()
			}
		}()
		synctest.Wait()
		mu.Lock()
		if sent < 4 || sent > 14 || answered != 0 {
			t.Errorf("%d sent, %d answered with nothing landing", sent, answered)
		}
		mu.Unlock()
		release()
		synctest.Wait()
		if mu.Lock(); sent != all || answered != all {
			t.Errorf("%d sent, %d answered", sent, answered)
		}
		mu.Unlock()
	})
}

// Small batches in one slot are stored as one batch; a batch that cannot be merged, or
// is full, is not touched (P6).
func TestMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		defer release()
		answers := []<-chan result{send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("first slot")})}
		synctest.Wait()
		full := make([]string, 64)
		for i := range full {
			full[i] = fmt.Sprint("f", i)
		}
		parts := []Append{
			{Batch: recordtest.Batch("a", "b"), Source: source("g1", 1, 0, 1, 2)},
			{Batch: recordtest.Batch("c"), Source: source("g2", 1, 0, 1, 1)},
			{Batch: recordtest.Batch("d"), Source: source("g1", 1, 2, 3, 3)},
			{Batch: recordtest.Produced(7, 0, 0, "e")},
			{Batch: recordtest.Batch("g")},
			{Batch: recordtest.Batch("h")},
			{Batch: recordtest.Batch(full...)},
		}
		for _, a := range parts {
			a.Topic = topic.ID
			answers = append(answers, send(l, a))
		}
		synctest.Wait()
		release()
		var bases []int64
		for _, a := range answers {
			r := <-a
			if r.err != nil {
				t.Fatal(r.err)
			}
			bases = append(bases, r.base)
		}
		if want := []int64{0, 1, 3, 4, 5, 6, 7, 8}; !slices.Equal(bases, want) {
			t.Errorf("offsets %v, want %v", bases, want)
		}
		f, err := l.Fetch(context.Background(), topic.ID, 0, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var counts []int32
		for _, b := range f.Batches {
			counts = append(counts, record.Batch(b).Count())
		}
		if want := []int32{1, 4, 1, 2, 64}; !slices.Equal(counts, want) {
			t.Errorf("records per stored batch %v, want %v", counts, want)
		}
		original, stored := recordtest.Batch(full...), bytes.Clone(f.Batches[4])
		record.Batch(stored).SetBaseOffset(0)
		record.Batch(stored).SetLeaderEpoch(-1)
		if !bytes.Equal(stored, original) {
			t.Error("a full batch was changed besides its offset and epoch")
		}
		for gateway, last := range map[string]uint64{"g1": 3, "g2": 1} {
			s := stream(gateway, 1)
			m := weir.Mark{Buffer: s.Buffer, Lane: s.Lane, Topic: topic.ID, Last: last}
			if got := marksOf(l, gateway); !slices.Equal(got, []weir.Mark{m}) {
				t.Errorf("marks %v, want %v", got, m)
			}
		}
		sound(t, g)
	})
}

// Batches are not merged if the result would be larger because their codecs differ.
func TestMergeNeverGrows(t *testing.T) {
	snappy, zstd := record.NewBuilder(record.Snappy), record.NewBuilder(record.Zstd)
	items := []item{{batch: recordtest.Build(snappy, strings.Repeat("a", 200))}}
	for range 3 {
		zstd.Reset()
		items = append(items, item{batch: recordtest.Build(zstd, strings.Repeat("weir ", 200_000))})
	}
	if got := merge(items); len(got) != len(items) {
		t.Errorf("%d batches became %d", len(items), len(got))
	}
}

func TestLogAppendTime(t *testing.T) {
	now := time.UnixMilli(77_000)
	b := mem.New()
	l := open(t, b, func(o *Options) { o.Now = func() time.Time { return now } })
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Timed(5, 6), AppendTime: true})
	f, err := l.Fetch(context.Background(), topic.ID, 0, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	stored := record.Batch(f.Batches[0])
	if err := stored.Verify(); err != nil || !stored.LogAppendTime() || stored.MaxTimestamp() != 77_000 {
		t.Error(err, stored.LogAppendTime(), stored.MaxTimestamp())
	}
	if offset, ts, err := l.OffsetByTime(context.Background(), topic.ID, 0, 6); offset != 0 || ts != 77_000 || err != nil {
		t.Error(offset, ts, err)
	}
	sound(t, b)
}

// Bad input gets its error and moves nothing.
func TestAppendRefusesBadInput(t *testing.T) {
	l := open(t, mem.New(), func(o *Options) { o.SlotBytes = 64 << 10 })
	topic := createTopic(t, l, "t", 1)
	control, transactional := recordtest.Batch("x"), recordtest.Batch("x")
	recordtest.SetFlag(control, 0x20)
	recordtest.SetFlag(transactional, 0x10)
	broken := recordtest.Batch("hello")
	broken[len(broken)-2] ^= 1
	hollow := recordtest.Batch("a", "b")
	hollow[record.HeaderSize] = 200 // length of the first record
	recordtest.Reseal(hollow)
	for name, c := range map[string]struct {
		a    Append
		want error
	}{
		"topic":          {Append{Topic: weir.TopicID{1}, Batch: recordtest.Batch("x")}, ErrUnknownTopic},
		"partition":      {Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("x")}, ErrUnknownTopic},
		"negative":       {Append{Topic: topic.ID, Partition: -1, Batch: recordtest.Batch("x")}, ErrUnknownTopic},
		"source's topic": {Append{Topic: weir.TopicID{1}, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 1, 1)}, ErrUnknownTopic},
		"empty":          {Append{Topic: topic.ID}, state.ErrCorrupt},
		"crc":            {Append{Topic: topic.ID, Batch: broken}, state.ErrCorrupt},
		"records":        {Append{Topic: topic.ID, Batch: hollow}, state.ErrCorrupt},
		"size":           {Append{Topic: topic.ID, Batch: recordtest.Batch(strings.Repeat("x", 64<<10))}, ErrTooLarge},
		"control":        {Append{Topic: topic.ID, Batch: control}, ErrUnsupported},
		"transactional":  {Append{Topic: topic.ID, Batch: transactional}, state.ErrCorrupt}, // without a producer
		"both":           {Append{Topic: topic.ID, Batch: recordtest.Produced(1, 0, 0, "x"), Source: source("g", 1, 0, 1, 1)}, ErrUnsupported},
		"sequence 0":     {Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 0, 1)}, state.ErrCorrupt},
		"backwards":      {Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 3, 2)}, state.ErrCorrupt},
		"nameless":       {Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("", 1, 0, 1, 1)}, state.ErrCorrupt},
		"producer":       {Append{Topic: topic.ID, Batch: recordtest.Produced(1, -1, 0, "x")}, state.ErrCorrupt},
	} {
		if r := <-send(l, c.a); !errors.Is(r.err, c.want) || r.base != -1 {
			t.Errorf("%s: got %d, %v, want %v", name, r.base, r.err, c.want)
		}
	}
	if _, end, err := l.Bounds(topic.ID, 0); end != 0 || err != nil {
		t.Error(end, err)
	}
}

// A batch may be larger than what slots and segments are filled up to. It has a slot,
// and a segment, of its own.
func TestLargeBatch(t *testing.T) {
	l := open(t, mem.New(), func(o *Options) { o.TailBytes = 1; o.Upkeep.Segment = 1 << 20 })
	topic := createTopic(t, l, "t", 1)
	values := []string{"before", strings.Repeat("x", 10<<20), "behind"}
	for _, v := range values {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(v)})
	}
	if got := readAll(t, l, topic.ID, 0); !slices.Equal(got, values) {
		t.Errorf("%d values read from slots", len(got))
	}
	maintained(t, l)
	if got := readAll(t, l, topic.ID, 0); !slices.Equal(got, values) {
		t.Errorf("%d values read from segments", len(got))
	}
}

func TestConcurrentAppends(t *testing.T) {
	b := mem.New()
	l := open(t, b, func(o *Options) { o.SlotBytes = 64 << 10 })
	topic := createTopic(t, l, "t", 3)
	const producers, each = 16, 300
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			var last sync.WaitGroup
			for i := range each {
				last.Add(1)
				a := Append{Topic: topic.ID, Partition: int32(p % 3), Batch: recordtest.Batch(fmt.Sprintf("%d/%d", p, i))}
				if p%2 == 0 {
					a.Batch = recordtest.Produced(int64(p+1), 0, int32(i), fmt.Sprintf("%d/%d", p, i))
				}
				l.Append(a, func(_ int64, err error) {
					if err != nil {
						t.Error(err)
					}
					last.Done()
				})
			}
			last.Wait()
		})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for p := range int32(3) {
		readers.Go(func() {
			for offset := int64(0); ; {
				grown := l.Watch(topic.ID, p)
				f, err := l.Fetch(context.Background(), topic.ID, p, offset, 10_000)
				if err != nil {
					t.Error(err)
					return
				}
				for _, raw := range f.Batches {
					offset = record.Batch(raw).NextOffset()
				}
				if len(f.Batches) > 0 {
					continue
				}
				select {
				case <-grown:
				case <-stop:
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	next := map[string]int{}
	for p := range int32(3) {
		for _, v := range readAll(t, l, topic.ID, p) {
			who, n, _ := strings.Cut(v, "/")
			if n != fmt.Sprint(next[who]) {
				t.Fatalf("producer %s: %s where %d was due", who, n, next[who])
			}
			next[who]++
		}
	}
	for who, n := range next {
		if n != each {
			t.Errorf("producer %s: %d of %d", who, n, each)
		}
	}
	if report := sound(t, b); report.Records != producers*each {
		t.Errorf("%+v", report)
	}
}
