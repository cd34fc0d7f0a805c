package commitlog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// slotsOf returns the slots with DATA before the newest checkpoint.
func slotsOf(t testing.TB, b storage.Bucket) (all []journal.Position) {
	t.Helper()
	newest := ""
	for _, key := range keys(t, b, "0000/checkpoint/") {
		newest = strings.ReplaceAll(strings.Replace(key, "checkpoint", "log", 1), "-", "/")
	}
	for _, key := range keys(t, b, "0000/log/") {
		var pos journal.Position
		must(second(fmt.Sscanf(key, "0000/log/%d/%d", &pos.Epoch, &pos.Slot)))
		if body, err := b.Get(context.Background(), key, 0, -1); err == nil && key < newest && pos.Slot > 0 && len(body) > 64 {
			all = append(all, pos)
		}
	}
	return all
}

// adoptedBy returns the slots that serve as segments.
func (l *Log) adoptedBy() (all []journal.Position) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.state.Slots.Each(func(pos journal.Position) { all = append(all, pos) })
	return all
}

// valued is a batch of one record with a time.
func valued(ts int64, value string) record.Batch {
	b := record.NewBuilder(record.None)
	must(b.Append(&record.Record{Timestamp: ts, Value: []byte(value)}))
	out, err := b.Build()
	must(err)
	return out
}

// TestAdopt: large runs are written once. They are read from where they are, by readers
// of each kind and by the next owner, and of their slots only those are left.
func TestAdopt(t *testing.T) {
	b := &sized{Bucket: mem.New()}
	adopt := func(o *Options) { o.Upkeep.Adopt, o.TailBytes = 50_000, 1 }
	l := open(t, b, adopt)
	large, little := createTopic(t, l, "large", 2), createTopic(t, l, "little", 1)
	var want [2][]string
	var small []string
	total := 0
	fill := func(n int) {
		for range n {
			for p := range int32(2) {
				v := fmt.Sprint(len(want[p]), strings.Repeat("x", 100_000))
				appended(t, l, Append{Topic: large.ID, Partition: p, Batch: valued(int64(len(want[p])), v)})
				want[p], total = append(want[p], v), total+len(v)
			}
			small = append(small, fmt.Sprint("little", len(small)))
			appended(t, l, Append{Topic: little.ID, Batch: recordtest.Batch(small[len(small)-1])})
		}
	}
	verify := func(slots int) {
		t.Helper()
		for p := range int32(2) {
			if got := readAll(t, l, large.ID, p); !slices.Equal(got, want[p]) {
				t.Fatalf("%d records of %d in partition %d", len(got), len(want[p]), p)
			}
			for _, ts := range []int64{0, 3, int64(len(want[p]) - 1)} {
				if offset, found, err := l.OffsetByTime(t.Context(), large.ID, p, ts); offset != ts || found != ts || err != nil {
					t.Fatalf("first record at %d: %d, %d, %v", ts, offset, found, err)
				}
			}
		}
		if got := readAll(t, l, little.ID, 0); !slices.Equal(got, small) {
			t.Fatalf("%q", got)
		}
		if got := l.adoptedBy(); len(got) != slots {
			t.Fatalf("%d slots serve, want %d", len(got), slots)
		}
		sound(t, b)
	}
	fill(20)
	maintained(t, l)
	verify(40)
	maintained(t, l)
	verify(40)
	if got, want := slotsOf(t, b), l.adoptedBy(); len(got) > len(want)+5 {
		t.Errorf("%d slots are left, %d serve", len(got), len(want))
	}
	if n := b.bytes.Load(); n > int64(total+total/10) {
		t.Errorf("%d bytes were created for %d", n, total)
	}
	must(l.Close())
	l = open(t, b, adopt)
	verify(40)
	fill(3)
	maintained(t, l)
	maintained(t, l)
	verify(46)
	l = open(t, b, adopt) // takes over
	verify(46)
}

// TestAdoptedGo: slots that serve as segments are deleted when nothing in them is left,
// and not before.
func TestAdoptedGo(t *testing.T) {
	b := mem.New()
	l := open(t, b, adopting)
	first, second := createTopic(t, l, "first", 1), createTopic(t, l, "second", 1)
	for i := range 10 {
		appended(t, l, Append{Topic: first.ID, Batch: recordtest.Batch(fmt.Sprint(i))})
		appended(t, l, Append{Topic: second.ID, Batch: recordtest.Batch(fmt.Sprint(i))})
	}
	settle := func(slots int) {
		t.Helper()
		for range 3 {
			maintained(t, l)
		}
		if got, serve := slotsOf(t, b), l.adoptedBy(); len(serve) != slots || len(got) > slots+6 {
			t.Fatalf("%d slots serve, %d exist, want %d", len(serve), len(got), slots)
		}
		if r := sound(t, b); r.Orphans > 0 {
			t.Errorf("%d orphans", r.Orphans)
		}
	}
	settle(20)
	if start, err := l.DeleteRecords(t.Context(), first.ID, 0, 4); start != 4 || err != nil {
		t.Fatal(start, err)
	}
	settle(16)
	if err := l.DeleteTopic(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	settle(6)
	must(l.Close())
	l = open(t, b, adopting)
	settle(6)
	if start, got := from(t, l, first.ID, 0); start != 4 || len(got) != 6 || got[0] != "4" {
		t.Errorf("from %d: %q", start, got)
	}
}

// TestAdoptedPart: two partitions have runs in a slot. While one of them cannot be
// rewritten, the run of the other is adopted and deleted again. The slot stays.
func TestAdoptedPart(t *testing.T) { synctest.Test(t, adoptedPart) }

func adoptedPart(t *testing.T) {
	b := mem.New()
	s := &spoiled{Bucket: b}
	g := newGate(s)
	// Only runs of 500 bytes or more are adopted.
	change := func(o *Options) { adopting(o); o.Upkeep.Adopt, o.TailBytes = 500, 1 }
	l := open(t, g, change)
	stuck, other := createTopic(t, l, "stuck", 1), createTopic(t, l, "other", 1)
	appended(t, l, Append{Topic: stuck.ID, Batch: recordtest.Batch("small, so it must be rewritten")})
	damaged := journal.SlotKey(0, firstSlot(t, l, stuck.ID))
	big := strings.Repeat("x", 1000)
	slot := together(t, l, g, map[weir.TopicID]string{stuck.ID: big, other.ID: big})
	must(l.Close())
	l = open(t, s, change)
	s.set(damaged, kinds()["zeros"])
	maintained(t, l)
	if got := l.adoptedBy(); !slices.Contains(got, slot) {
		t.Fatalf("%v serve, %v does not", got, slot)
	}
	if _, err := l.DeleteRecords(t.Context(), other.ID, 0, -1); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		maintained(t, l)
	}
	if !slices.Contains(slotsOf(t, b), slot) {
		t.Fatal("the slot was deleted, though it has the only copy of a run")
	}
	s.set("", nil)
	for range 4 {
		maintained(t, l)
	}
	if got := readAll(t, l, stuck.ID, 0); !slices.Contains(got, big) {
		t.Errorf("%.40q", got)
	}
	sound(t, b)
	must(l.Close())
}

// together appends values to topics in one slot, and returns its position.
func together(t *testing.T, l *Log, g *gate, values map[weir.TopicID]string) journal.Position {
	t.Helper()
	release := g.hold()
	ahead := send(l, Append{Topic: slices.Collect(maps.Keys(values))[0], Batch: recordtest.Batch("ahead")})
	synctest.Wait()
	var answers []<-chan result
	for id, value := range values {
		answers = append(answers, send(l, Append{Topic: id, Batch: recordtest.Batch(value)}))
	}
	synctest.Wait()
	release()
	for _, answer := range append(answers, ahead) {
		must((<-answer).err)
	}
	slots := map[journal.Position]bool{}
	var slot journal.Position
	l.mu.RLock()
	defer l.mu.RUnlock()
	for id := range values {
		index := l.state.Topics[id].Parts[0].Index
		slot = index[len(index)-1].Position()
		slots[slot] = true
	}
	if len(slots) != 1 {
		t.Fatalf("they lie in slots %v", slots)
	}
	return slot
}

// TestSparse: what is left in a slot of which most is deleted is copied, and the slot is
// deleted.
func TestSparse(t *testing.T) { synctest.Test(t, sparse) }

func sparse(t *testing.T) {
	b := mem.New()
	g := newGate(b)
	l := open(t, g, adopting)
	kept, gone := createTopic(t, l, "kept", 1), createTopic(t, l, "gone", 1)
	slot := together(t, l, g, map[weir.TopicID]string{kept.ID: "some", gone.ID: strings.Repeat("x", 1000)})
	maintained(t, l)
	if got := l.adoptedBy(); !slices.Contains(got, slot) {
		t.Fatalf("%v serve", got)
	}
	if err := l.DeleteTopic(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		maintained(t, l)
	}
	if slices.Contains(l.adoptedBy(), slot) || slices.Contains(slotsOf(t, b), slot) {
		t.Errorf("slot %v is still there", slot)
	}
	if got := readAll(t, l, kept.ID, 0); !slices.Contains(got, "some") {
		t.Error(got)
	}
	if r := sound(t, b); r.Orphans > 0 {
		t.Errorf("%d orphans", r.Orphans)
	}
	must(l.Close())
}

// TestStrays: a slot that arrives after it was deleted is found by Check and deleted by
// the next owner.
func TestStrays(t *testing.T) {
	b := mem.New()
	l := open(t, b, adopting)
	topic := createTopic(t, l, "t", 1)
	for i := range 10 {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(fmt.Sprint(i))})
	}
	maintained(t, l)
	slots := l.adoptedBy()
	late, err := b.Get(t.Context(), journal.SlotKey(0, slots[2]), 0, -1)
	must(err)
	_, err = l.DeleteRecords(t.Context(), topic.ID, 0, 5)
	must(err)
	for range 3 {
		maintained(t, l)
	}
	must(l.Close())
	must(b.Create(t.Context(), journal.SlotKey(0, slots[2]), late))
	if r := sound(t, b); r.Orphans != 1 {
		t.Errorf("%d orphans", r.Orphans)
	}
	l = open(t, b, adopting)
	for range 2 {
		maintained(t, l)
	}
	if r := sound(t, b); r.Orphans != 0 {
		t.Errorf("%d orphans", r.Orphans)
	}
	if start, got := from(t, l, topic.ID, 0); start != 5 || len(got) != 5 {
		t.Errorf("from %d: %q", start, got)
	}
}

// TestLevel1AdoptsNothing: a program that does not know adopted slots can lead the log.
func TestLevel1AdoptsNothing(t *testing.T) {
	all, topic, want := lived(t, 1)
	b := mem.New()
	for key, body := range all {
		must(b.Create(t.Context(), key, body))
	}
	l := open(t, b, adopting, beside)
	maintained(t, l)
	if got := l.adoptedBy(); len(got) > 0 {
		t.Errorf("%v serve as segments", got)
	}
	if got := readAll(t, l, topic, 0); !slices.Equal(got, want[0]) {
		t.Error(got)
	}
}

// TestAdoptFaults spoils each call of a life in which slots are adopted, lose what is in
// them and are deleted, as TestFaultMatrix does.
func TestAdoptFaults(t *testing.T) {
	spoilEach(t, 25, func(b storage.Bucket) audit {
		durable, start := liveAdopting(b)
		return func(t *testing.T, b storage.Bucket, land func()) {
			l, err := Open(within(t, time.Minute), options(b, adopting))
			if err != nil {
				t.Fatal(err)
			}
			land()
			topic, found := l.Topic("t")
			if !found && len(durable) > 0 {
				t.Fatal("the topic is gone")
			}
			for round := 0; found && round < 3; round++ {
				first, got := from(t, l, topic.ID, 0)
				if first < start {
					t.Errorf("the partition begins at %d, not at %d", first, start)
				}
				for i, v := range durable {
					if int64(i) >= first && (int64(i) >= first+int64(len(got)) || got[int64(i)-first] != v) {
						t.Fatalf("%s is gone: from %d %q", v, first, got)
					}
				}
				if round < 2 {
					must(l.Maintain(t.Context()))
				}
			}
			must(l.Close())
			if r := sound(t, b); r.Orphans > 1 {
				t.Errorf("%d orphans", r.Orphans)
			}
		}
	})
}

// liveAdopting returns the values that were acknowledged, and where the partition was
// made to begin. It ends at the first error.
func liveAdopting(b storage.Bucket) (durable []string, start int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, adopting))
	if err != nil {
		return nil, 0
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	topic, err := l.CreateTopic(ctx, "t", 1, nil)
	if err != nil {
		return nil, 0
	}
	for round := range 3 {
		for i := range 3 {
			v := fmt.Sprint(round, "-", i)
			if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(v)}); r.err != nil {
				return durable, start
			}
			durable = append(durable, v)
		}
		if err := l.Maintain(ctx); err != nil {
			return durable, start
		}
		if round > 0 {
			if _, err := l.DeleteRecords(ctx, topic.ID, 0, int64(round*3-1)); err != nil {
				return durable, start
			}
			start = int64(round*3 - 1)
		}
	}
	for range 3 {
		_ = l.Maintain(ctx)
	}
	return durable, start
}

// sized counts the bytes of the objects that were created.
type sized struct {
	storage.Bucket
	bytes atomic.Int64
}

func (w *sized) Create(ctx context.Context, key string, body []byte) error {
	w.bytes.Add(int64(len(body)))
	return w.Bucket.Create(ctx, key, body)
}

func (w *sized) Unwrap() storage.Bucket { return w.Bucket }
