package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// tiny makes passes that write many little segments.
func tiny(o *Options) { o.Upkeep = upkeep.Options{Bytes: 64 << 10, Segment: 32 << 10} }

// adopting is tiny, but leaves all runs in their slots.
func adopting(o *Options) {
	tiny(o)
	o.Upkeep.Adopt = 1
}

func maintained(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// firstSlot returns the slot with the first records of partition 0 of a topic.
func firstSlot(t testing.TB, l *Log, topic weir.TopicID) journal.Position {
	t.Helper()
	l.mu.RLock()
	index := slices.Clone(l.state.Topics[topic].Parts[0].Index)
	l.mu.RUnlock() // a test that ends while it holds mu cannot close the log
	if len(index) == 0 {
		t.Fatal("nothing of the partition is in a slot any more")
	}
	return index[0].Position()
}

// firstPiece returns the first piece of partition 0 of a topic.
func firstPiece(t testing.TB, l *Log, topic weir.TopicID) state.Piece {
	t.Helper()
	l.mu.RLock()
	pieces := slices.Clone(l.state.Topics[topic].Parts[0].Pieces)
	l.mu.RUnlock()
	if len(pieces) == 0 {
		t.Fatal("nothing of the partition was rewritten")
	}
	return pieces[0]
}

// keys lists the objects whose keys begin with a prefix.
func keys(t testing.TB, b storage.Bucket, prefix string) []string {
	t.Helper()
	all, err := b.List(context.Background(), prefix, "", 100_000)
	must(err)
	return all
}

// from reads the values of a partition from its first offset on. Offsets follow
// each other.
func from(t testing.TB, l *Log, topic weir.TopicID, partition int32) (start int64, values []string) {
	t.Helper()
	start, _, err := l.Bounds(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	for offset := start; ; {
		f, err := l.Fetch(context.Background(), topic, partition, offset, 64<<10)
		if err != nil {
			t.Fatalf("fetch of offset %d: %v", offset, err)
		}
		if len(f.Batches) == 0 {
			if offset != f.End {
				t.Fatalf("nothing at offset %d of %d", offset, f.End)
			}
			return start, values
		}
		for _, raw := range f.Batches {
			must(record.Batch(raw).Each(1<<24, func(r *record.Record) error {
				if r.Offset >= offset {
					if r.Offset != offset {
						t.Fatalf("offset %d where %d was due", r.Offset, offset)
					}
					offset++
					values = append(values, string(r.Value))
				}
				return nil
			}))
		}
	}
}

// Data moves from slots into segments, and the slots are deleted, without an effect on
// readers; a new owner begins at the checkpoint.
func TestMaintain(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny)
	large, little := createTopic(t, l, "large", 1), createTopic(t, l, "little", 20)
	var want []string
	fill := func(n int) {
		for range n {
			v := fmt.Sprint(len(want), strings.Repeat("x", 5000))
			want = append(want, v)
			appended(t, l, Append{Topic: large.ID, Batch: recordtest.Batch(v)})
		}
		for p := range int32(20) {
			appended(t, l, Append{Topic: little.ID, Partition: p, Batch: recordtest.Batch(fmt.Sprint(p), "second")})
		}
	}
	verify := func(rounds int) {
		t.Helper()
		if start, got := from(t, l, large.ID, 0); start != 0 || !slices.Equal(got, want) {
			t.Fatalf("%d records from offset %d on, want %d", len(got), start, len(want))
		}
		for p := range int32(20) {
			if got := readAll(t, l, little.ID, p); len(got) != 2*rounds || got[0] != fmt.Sprint(p) {
				t.Fatalf("partition %d: %q", p, got)
			}
		}
		sound(t, b)
	}
	fill(30)
	maintained(t, l)
	verify(1)
	if n := len(keys(t, b, "0000/segment/")); n < 3 || n > 10 {
		t.Errorf("%d segments", n)
	}
	if n := len(keys(t, b, "0000/checkpoint/")); n != 1 {
		t.Errorf("%d checkpoints", n)
	}
	before := len(keys(t, b, "0000/log/"))
	fill(1)
	maintained(t, l)
	verify(2)
	if n := len(keys(t, b, "0000/log/")); n > 30 {
		t.Errorf("%d slots are left of %d", n, before)
	}
	// A second owner, and the first one's life goes on in it.
	must(l.Close())
	f := storagetest.NewFaults(b, 1)
	l = open(t, f, tiny)
	if n := f.Calls(); n > 60 {
		t.Errorf("%d calls to recover", n)
	}
	verify(2)
	fill(5)
	maintained(t, l)
	maintained(t, l)
	l = open(t, b, tiny)
	verify(3)
}

// TestRetention: whole pieces go, oldest first, by size and by time, and their
// segments with them.
func TestRetention(t *testing.T) {
	b := mem.New()
	var clock atomic.Int64
	clock.Store(1_000_000)
	l := open(t, b, tiny, func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(clock.Load()) } })
	create := func(name string, configs map[string]string) state.Topic {
		topic, err := l.CreateTopic(t.Context(), name, 1, configs)
		must(err)
		return topic
	}
	kept := create("kept", nil)
	bySize := create("bytes", map[string]string{"retention.bytes": "20000"})
	byTime := create("ms", map[string]string{"retention.ms": "5000"})
	compacted := create("compacted", map[string]string{"retention.ms": "5000", "cleanup.policy": "compact"})
	for i := range 10 {
		for _, topic := range []state.Topic{kept, bySize, byTime, compacted} {
			builder := record.NewBuilder(record.None)
			must(builder.Append(&record.Record{Timestamp: clock.Load(), Key: fmt.Append(nil, "k", i), Value: []byte(strings.Repeat("v", 6000))}))
			out, err := builder.Build()
			must(err)
			appended(t, l, Append{Topic: topic.ID, Batch: out})
		}
		clock.Add(1000)
		if i < 9 {
			maintained(t, l)
		}
	}
	maintained(t, l)
	maintained(t, l)
	for topic, want := range map[weir.TopicID][2]int64{kept.ID: {0, 0}, bySize.ID: {6, 6}, byTime.ID: {5, 6}, compacted.ID: {0, 0}} {
		start, _ := from(t, l, topic, 0)
		if start < want[0] || start > want[1] {
			t.Errorf("topic %v begins at offset %d, want %v", topic, start, want)
		}
		if _, err := l.Fetch(t.Context(), topic, 0, start-1, 1); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("offset %d: %v", start-1, err)
		}
	}
	sound(t, b)
}

// TestDeleteRecords: the first offset moves, also into the middle of a batch, and
// stays; the space is freed.
func TestDeleteRecords(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny)
	topic := createTopic(t, l, "t", 2)
	for i := range 10 {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(fmt.Sprint(2*i), fmt.Sprint(2*i+1))})
	}
	move := func(offset, want int64, wantErr error) {
		t.Helper()
		if start, err := l.DeleteRecords(t.Context(), topic.ID, 0, offset); start != want || !errors.Is(err, wantErr) {
			t.Fatalf("to %d: %d, %v", offset, start, err)
		}
	}
	verify := func(first int) {
		t.Helper()
		start, got := from(t, l, topic.ID, 0)
		if start != int64(first) || len(got) != 20-first || len(got) > 0 && got[0] != fmt.Sprint(first) {
			t.Fatalf("from %d: %q", start, got)
		}
		sound(t, b)
	}
	move(3, 3, nil)
	verify(3)
	move(1, 3, nil) // moving back is no error and changes nothing
	move(21, 3, ErrOffsetOutOfRange)
	if _, err := l.DeleteRecords(t.Context(), topic.ID, 2, 0); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	maintained(t, l)
	verify(3)
	move(7, 7, nil)
	verify(7)
	l = open(t, b, tiny)
	verify(7)
	if offset, _, err := l.OffsetByTime(t.Context(), topic.ID, 0, 0); offset != 7 || err != nil {
		t.Errorf("first by time: %d, %v", offset, err)
	}
	move(-1, 20, nil)
	verify(20)
	if offset, _, err := l.MaxTimestamp(t.Context(), topic.ID, 0); offset != -1 || err != nil {
		t.Errorf("latest of an empty partition: %d, %v", offset, err)
	}
	maintained(t, l)
	maintained(t, l)
	if segments := keys(t, b, "0000/segment/"); len(segments) > 0 {
		t.Errorf("%q are left of an empty topic", segments)
	}
	// It goes on behind.
	if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("20")}); base != 20 {
		t.Error(base)
	}
	maintained(t, l)
	sound(t, b)
}

// The space of a deleted topic is freed, also if it is deleted while its records are
// being rewritten.
func TestDeletedTopicGivesSpaceBack(t *testing.T) { synctest.Test(t, deletedTopicGivesSpaceBack) }

func deletedTopicGivesSpaceBack(t *testing.T) {
	b := mem.New()
	g := newGate(b)
	l := open(t, g, tiny)
	gone, stays := createTopic(t, l, "gone", 3), createTopic(t, l, "stays", 1)
	for p := range int32(3) {
		appended(t, l, Append{Topic: gone.ID, Partition: p, Batch: recordtest.Batch(strings.Repeat("x", 1000))})
	}
	appended(t, l, Append{Topic: stays.ID, Batch: recordtest.Batch("here")})
	release := g.hold()
	pass := make(chan error, 1)
	go func() { pass <- l.Maintain(context.Background()) }()
	deleted := make(chan error, 1)
	go func() { deleted <- l.DeleteTopic(context.Background(), gone.ID) }()
	synctest.Wait()
	if len(keys(t, b, "0000/segment/")) == 0 {
		t.Fatal("nothing was rewritten")
	}
	release()
	must(<-pass)
	must(<-deleted)
	maintained(t, l)
	maintained(t, l)
	if got := readAll(t, l, stays.ID, 0); !slices.Equal(got, []string{"here"}) {
		t.Error(got)
	}
	sound(t, b)
	if err := l.DeleteTopic(t.Context(), stays.ID); err != nil {
		t.Fatal(err)
	}
	maintained(t, l)
	maintained(t, l)
	if segments := keys(t, b, "0000/segment/"); len(segments) > 0 {
		t.Errorf("%q are left", segments)
	}
}

// A segment that was stored and never installed is deleted by the next owner.
func TestLeftovers(t *testing.T) { synctest.Test(t, leftovers) }

func leftovers(t *testing.T) {
	b := mem.New()
	g := newGate(b)
	l := open(t, g, tiny)
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
	release := g.hold()
	go l.Maintain(context.Background())
	synctest.Wait()
	if len(keys(t, b, "0000/segment/")) == 0 {
		t.Fatal("nothing was rewritten")
	}
	_ = g.Close()
	release()
	if r := sound(t, b); r.Orphans != 1 {
		t.Errorf("%d orphans", r.Orphans)
	}
	next := open(t, b, tiny)
	maintained(t, next)
	if r := sound(t, b); r.Orphans != 0 || r.Segments != 1 {
		t.Errorf("%d orphans, %d segments", r.Orphans, r.Segments)
	}
	if got := readAll(t, next, topic.ID, 0); !slices.Equal(got, []string{"a"}) {
		t.Error(got)
	}
}

// Readers see every record while everything below them is rewritten, deleted and
// recovered.
func TestReadersDuringUpkeep(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny, func(o *Options) { o.TailBytes, o.BlockBytes = 1, 1<<20 })
	topic := createTopic(t, l, "t", 1)
	const records = 400
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for next := int64(0); next < records; {
				watch := l.Watch(topic.ID, 0)
				f, err := l.Fetch(context.Background(), topic.ID, 0, next, 10_000)
				if err != nil {
					t.Error(err)
					return
				}
				for _, raw := range f.Batches {
					must(record.Batch(raw).Each(1<<20, func(r *record.Record) error {
						if r.Offset == next {
							next++
						}
						return nil
					}))
				}
				if len(f.Batches) == 0 {
					<-watch
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := l.Maintain(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range records {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(fmt.Sprint(i, strings.Repeat("x", 500)))})
		if i%50 == 0 {
			sound(t, b) // beside an owner that rewrites and deletes
		}
	}
	wg.Wait()
	sound(t, b)
}

// TestRandomUpkeep runs random lives of a log against a model of it.
func TestRandomUpkeep(t *testing.T) {
	for range storagetest.Rounds(25) {
		seed := rand.Uint64()
		if err := randomUpkeep(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

type modelPartition struct {
	start  int64
	values []string // of all offsets from 0 on
}

func randomUpkeep(t *testing.T, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := mem.New()
	f := storagetest.NewFaults(b, seed)
	l := open(t, f, tiny)
	model := map[weir.TopicID][]*modelPartition{}
	var topics []state.Topic
	for step := range 60 {
		switch v := rng.IntN(100); {
		case v < 5 || len(topics) == 0:
			topic := createTopic(t, l, fmt.Sprint("t", step), 1+rng.Int32N(4))
			topics = append(topics, topic)
			for range topic.Partitions {
				model[topic.ID] = append(model[topic.ID], &modelPartition{})
			}
		case v < 8:
			i := rng.IntN(len(topics))
			must(l.DeleteTopic(t.Context(), topics[i].ID))
			delete(model, topics[i].ID)
			topics = slices.Delete(topics, i, i+1)
		case v < 14:
			topic := topics[rng.IntN(len(topics))]
			p := rng.IntN(len(model[topic.ID]))
			m := model[topic.ID][p]
			to := m.start + rng.Int64N(int64(len(m.values))-m.start+1)
			if start, err := l.DeleteRecords(t.Context(), topic.ID, int32(p), to); err != nil || start != to {
				return fmt.Errorf("delete to %d: %d, %w", to, start, err)
			}
			m.start = to
		case v < 28:
			maintained(t, l)
		case v < 33:
			if rng.IntN(2) == 0 {
				must(l.Close())
			}
			_ = f.Close() // a kill
			f = storagetest.NewFaults(b, seed)
			l = open(t, f, tiny)
		default:
			topic := topics[rng.IntN(len(topics))]
			p := rng.IntN(len(model[topic.ID]))
			m := model[topic.ID][p]
			var values []string
			for range 1 + rng.IntN(5) {
				values = append(values, fmt.Sprint(len(m.values)+len(values), strings.Repeat("x", rng.IntN(3000))))
			}
			base := appended(t, l, Append{Topic: topic.ID, Partition: int32(p), Batch: recordtest.Batch(values...)})
			if base != int64(len(m.values)) {
				return fmt.Errorf("base %d instead of %d", base, len(m.values))
			}
			m.values = append(m.values, values...)
		}
	}
	_ = f.Close()
	l = open(t, b, tiny)
	maintained(t, l)
	for id, partitions := range model {
		for p, m := range partitions {
			start, got := from(t, l, id, int32(p))
			if start != m.start || !slices.Equal(got, m.values[start:]) {
				return fmt.Errorf("partition %d: %d values from %d on, want %d from %d on", p, len(got), start, len(m.values)-int(m.start), m.start)
			}
		}
	}
	report, err := check.Check(t.Context(), b, nil)
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
		return fmt.Errorf("%+v, %w", report, err)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return errors.Join(summed(l.state), checkpointIsReplay(b))
}

// summed compares what partitions keep as their size with what they hold.
func summed(s *state.State) error {
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			sum := int64(0)
			for i := range p.Pieces {
				sum += p.Pieces[i].Data()
			}
			for i := range p.Index {
				sum += int64(p.Index[i].Size)
			}
			if sum != p.Bytes {
				return fmt.Errorf("%v holds %d bytes and says %d", p.Key, sum, p.Bytes)
			}
		}
	}
	return nil
}

// follower is a journal.State that keeps the state of the log alone.
type follower struct{ state *state.State }

func (f *follower) Restore(_ journal.Position, body []byte) (err error) {
	f.state, _, err = state.DecodeCheckpoint(body)
	return err
}

func (f *follower) Apply(pos journal.Position, entries []journal.Entry) error {
	for _, e := range entries {
		if e.Kind >= state.FirstMachineKind {
			continue
		}
		if err := f.state.Apply(pos, e); err != nil {
			return err
		}
	}
	return nil
}

// checkpointIsReplay compares the state of a recovery with that of one which has
// gone on without checkpoints: there is none left to compare with once slots are
// deleted, so it compares the state with itself, restored.
func checkpointIsReplay(b storage.Bucket) error {
	a := &follower{state.Empty()}
	if _, err := journal.Replay(context.Background(), journal.Options{Bucket: b}, a); err != nil {
		return err
	}
	raw := state.Machines{}.Checkpoint(a.state.Append)
	again, _, err := state.DecodeCheckpoint(raw)
	if err != nil {
		return err
	}
	if string(state.Machines{}.Checkpoint(again.Append)) != string(raw) {
		return errors.New("a state that was restored is another one")
	}
	return errors.Join(summed(a.state), summed(again))
}

// A log without writers comes to rest: after everything is rewritten and leftovers are
// deleted, it makes no more requests to the bucket.
func TestIdleLogRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storagetest.NewFaults(mem.New(), 1)
		l, err := Open(t.Context(), options(f))
		must(err)
		topic := createTopic(t, l, "t", 1)
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		time.Sleep(time.Hour)
		if n := len(keys(t, f, "0000/segment/")); n != 1 {
			t.Errorf("%d segments after an hour", n)
		}
		calls := f.Calls()
		time.Sleep(24 * time.Hour)
		if n := f.Calls() - calls; n > 0 {
			t.Errorf("%d calls of the bucket in an idle day", n)
		}
		must(l.Close())
	})
}
