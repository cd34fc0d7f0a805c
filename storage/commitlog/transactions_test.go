package commitlog

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// finish is the end of a transaction of producer 7 in some partitions of a topic.
func finish(topic weir.TopicID, epoch int16, commit bool, partitions ...int32) *TransactionEnd {
	end := &TransactionEnd{Producer: 7, Epoch: epoch, Commit: commit}
	for _, p := range partitions {
		end.Partitions = append(end.Partitions, state.Place{Topic: topic, Partition: p})
	}
	return end
}

// consumer reads what is committed as clients do.
type consumer struct {
	values  []string // of the records, in their order
	offsets []int64
	next    int64 // where it goes on
}

// read goes on up to the last stable offset, a few bytes at a time.
func (r *consumer) read(t testing.TB, l *Log, topic weir.TopicID, partition int32, maxBytes int) {
	t.Helper()
	for {
		f, err := l.FetchCommitted(context.Background(), topic, partition, r.next, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Batches) == 0 {
			return
		}
		r.take(t, f)
		if r.next > f.Stable {
			t.Fatalf("read up to offset %d, only what is before %d is decided", r.next, f.Stable)
		}
	}
}

// take handles an answer as Java's client does: it remembers the aborted transactions
// that began until it meets the abort marker. Counting markers, as franz-go does, must
// give the same result.
func (r *consumer) take(t testing.TB, f Fetched) {
	t.Helper()
	if !slices.IsSortedFunc(f.Aborted, func(a, b state.Aborted) int { return int(a.First - b.First) }) {
		t.Fatalf("not in order: %v", f.Aborted)
	}
	queue, dead := slices.Clone(f.Aborted), map[int64]bool{}
	counted := map[int64][]int64{}
	for _, x := range f.Aborted {
		counted[x.Producer] = append(counted[x.Producer], x.First)
	}
	for _, raw := range f.Batches {
		b := record.Batch(raw)
		must(b.Verify())
		for len(queue) > 0 && queue[0].First < b.NextOffset() {
			dead[queue[0].Producer] = true
			queue = queue[1:]
		}
		id := b.ProducerID()
		aborted := b.Transactional() && dead[id]
		if other := b.Transactional() && len(counted[id]) > 0 && b.BaseOffset() >= counted[id][0]; other != aborted && !b.Control() {
			t.Fatalf("batch at offset %d is aborted for one client and not for the other: %v", b.BaseOffset(), f.Aborted)
		}
		if b.Control() {
			m, err := b.Marker()
			must(err)
			if !m.Commit {
				delete(dead, id)
				if len(counted[id]) == 0 {
					t.Fatalf("the marker at offset %d ends what was not told of", b.BaseOffset())
				}
				counted[id] = counted[id][1:]
			}
		} else if !aborted {
			must(b.Each(1<<24, func(rec *record.Record) error {
				if rec.Offset >= r.next {
					r.values, r.offsets = append(r.values, string(rec.Value)), append(r.offsets, rec.Offset)
				}
				return nil
			}))
		}
		r.next = b.NextOffset()
	}
}

func committed(t testing.TB, l *Log, topic weir.TopicID, partition int32) []string {
	t.Helper()
	var r consumer
	r.read(t, l, topic, partition, 100)
	return r.values
}

func stableIs(t testing.TB, l *Log, topic weir.TopicID, partition int32, want int64) {
	t.Helper()
	stableIsFrom(t, l, topic, partition, 0, want)
}

// stableIsFrom is for a partition that does not begin at 0.
func stableIsFrom(t testing.TB, l *Log, topic weir.TopicID, partition int32, start, want int64) {
	t.Helper()
	got, err := l.Stable(topic, partition)
	f, ferr := l.Fetch(context.Background(), topic, partition, start, 1)
	if got != want || err != nil || f.Stable != want || ferr != nil {
		t.Errorf("the last stable offset is %d and %d, want %d, %v %v", got, f.Stable, want, err, ferr)
	}
}

// A transaction becomes visible when it has committed, in all partitions at once, or
// never.
func TestTransaction(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	m := &recorder{kinds: []uint16{130}}
	l := open(t, b, with(m))
	topic := createTopic(t, l, "t", 2)
	put := func(p int32, b record.Batch) int64 {
		return appended(t, l, Append{Topic: topic.ID, Partition: p, Batch: b})
	}
	put(0, recordtest.Batch("a"))
	put(0, recordtest.Transactional(7, 0, 0, "b", "c"))
	put(1, recordtest.Transactional(7, 0, 0, "B"))
	put(0, recordtest.Batch("d"))
	stableIs(t, l, topic.ID, 0, 1)
	if got := committed(t, l, topic.ID, 0); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q is committed", got)
	}
	must(l.ProposeAll(ctx, []Command{{130, []byte("end")}}, finish(topic.ID, 0, true, 0, 1)))
	stableIs(t, l, topic.ID, 0, 5)
	if got := committed(t, l, topic.ID, 0); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("%q is committed", got)
	}
	put(0, recordtest.Transactional(7, 0, 2, "e")) // the same epoch: sequences go on
	put(0, recordtest.Transactional(7, 0, 3, "f"))
	must(l.ProposeAll(ctx, nil, finish(topic.ID, 1, false, 0, 1)))
	if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 4, "g")}); !errors.Is(r.err, state.ErrProducerFenced) {
		t.Error(r.err)
	}
	if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 1, 4, "g")}); !errors.Is(r.err, state.ErrOutOfOrderSequence) {
		t.Error(r.err)
	}
	put(0, recordtest.Transactional(7, 1, 0, "g"))
	if got := committed(t, l, topic.ID, 0); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("%q is committed", got)
	}
	must(l.ProposeAll(ctx, []Command{{130, []byte("end 2")}}, finish(topic.ID, 1, true, 0)))
	transacted(t, l, topic)
	if !slices.Equal(m.got, []string{"130:end", "130:end 2"}) {
		t.Error(m.got)
	}
	l = open(t, b, with(&recorder{kinds: []uint16{130}}))
	transacted(t, l, topic)
	maintained(t, l)
	transacted(t, l, topic)
	l = open(t, b, with(&recorder{kinds: []uint16{130}}))
	transacted(t, l, topic)
	sound(t, b)
}

// transacted expects what TestTransaction has written.
func transacted(t *testing.T, l *Log, topic state.Topic) {
	t.Helper()
	if got := committed(t, l, topic.ID, 0); !slices.Equal(got, []string{"a", "b", "c", "d", "g"}) {
		t.Errorf("%q is committed", got)
	}
	if got := committed(t, l, topic.ID, 1); !slices.Equal(got, []string{"B"}) {
		t.Errorf("%q is committed", got)
	}
	f, err := l.FetchCommitted(t.Context(), topic.ID, 0, 6, 1<<20)
	if err != nil || !reflect.DeepEqual(f.Aborted, []state.Aborted{{Producer: 7, First: 5, Last: 7}}) || f.Stable != 10 {
		t.Errorf("%+v, %v", f.Aborted, err)
	}
	all, err := l.Producers(topic.ID, 0)
	if len(all) != 1 || err != nil || all[0].LastTimestamp < 1000 || all[0].Epoch != 1 || all[0].LastSequence != 0 || all[0].TransactionStart != -1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// All of it is refused before anything is stored.
func TestProposeAllRefuses(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	m := &recorder{kinds: []uint16{130}}
	l := open(t, b, with(m), func(o *Options) { o.SlotBytes = 64 << 10 })
	topic := createTopic(t, l, "t", 2)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 3, 0, "a")})
	command := []Command{{130, []byte("x")}}
	for name, c := range map[string]struct {
		commands []Command
		end      *TransactionEnd
		err      error
	}{
		"kind":       {[]Command{{130, []byte("x")}, {99, nil}}, nil, state.ErrFormat},
		"large":      {[]Command{{130, make([]byte, 40<<10)}, {130, make([]byte, 40<<10)}}, nil, ErrTooLarge},
		"partitions": {command, finish(topic.ID, 3, true, make([]int32, 500)...), ErrTooLarge},
		"fenced":     {command, finish(topic.ID, 2, true, 1, 0), state.ErrProducerFenced},
		"epoch":      {command, finish(topic.ID, -1, true, 0), state.ErrCorrupt},
	} {
		if err := l.ProposeAll(ctx, c.commands, c.end); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(m.got) > 0 {
		t.Errorf("applied %q", m.got)
	}
	for p, want := range []int64{1, 0} {
		if _, end, err := l.Bounds(topic.ID, int32(p)); end != want || err != nil {
			t.Errorf("partition %d ends at %d, %v", p, end, err)
		}
	}
	// A deleted topic, a partition that does not exist, and one that another client
	// wrote to with this id do not delay the end.
	other := createTopic(t, l, "u", 1)
	appended(t, l, Append{Topic: other.ID, Batch: recordtest.Produced(7, 9, 0, "forged")})
	end := finish(topic.ID, 3, true, 0, 1, 2)
	end.Partitions = append(end.Partitions, state.Place{Topic: weir.TopicID{9}, Partition: 0}, state.Place{Topic: other.ID, Partition: 0})
	must(l.ProposeAll(ctx, command, end))
	for place, want := range map[state.Place]int64{{Topic: topic.ID, Partition: 0}: 2, {Topic: topic.ID, Partition: 1}: 1, {Topic: other.ID, Partition: 0}: 1} {
		if _, end, err := l.Bounds(place.Topic, place.Partition); end != want || err != nil {
			t.Errorf("%v ends at %d, %v", place, end, err)
		}
	}
	must(l.Close())
	if err := l.ProposeAll(ctx, command, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	for _, a := range []Append{{Topic: topic.ID, Batch: record.NewMarker(7, 0, record.Marker{}, 0)}, {Topic: topic.ID, Batch: recordtest.InTransaction(recordtest.Batch("a"))}} {
		if r := <-send(l, a); !errors.Is(r.err, ErrUnsupported) && !errors.Is(r.err, state.ErrCorrupt) {
			t.Error(r.err)
		}
	}
	sound(t, b)
}

// Entries in flight count: a batch behind an end in flight is judged by it.
func TestTransactionsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := newGate(b)
		l := open(t, g, func(o *Options) { o.Depth = 10 })
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		full := strings.Repeat("x", leaveBytes)
		put := func(b record.Batch) <-chan result {
			a := send(l, Append{Topic: topic.ID, Batch: b})
			synctest.Wait()
			return a
		}
		end := func(epoch int16, commit bool) <-chan result {
			answer := make(chan result, 2)
			l.Submit(Proposal{End: finish(topic.ID, epoch, commit, 0)}, func(_ []int64, err error) { answer <- result{0, err} })
			return answer
		}
		answers := []<-chan result{
			put(recordtest.Transactional(7, 0, 0, full)), put(recordtest.Produced(7, 0, 1, full)), put(recordtest.Transactional(7, 0, 1, "a")), end(0, true),
			put(recordtest.Produced(7, 0, 2, full)), put(recordtest.Transactional(7, 0, 3, "b")), end(1, false), put(recordtest.Transactional(7, 0, 4, full)), put(recordtest.Transactional(7, 1, 0, full)), end(0, true),
		}
		for i, a := range answers {
			if !pending(a) {
				t.Errorf("answer %d is early", i)
			}
		}
		release()
		want := []error{nil, state.ErrTransactionOpen, nil, nil, nil, nil, nil, state.ErrProducerFenced, nil, state.ErrProducerFenced}
		for i, a := range answers {
			if r := <-a; !errors.Is(r.err, want[i]) || (r.err == nil) != (want[i] == nil) {
				t.Errorf("answer %d is %+v, want %v", i, r, want[i])
			}
		}
		stableIs(t, l, topic.ID, 0, 6)
		sound(t, b)
	})
}

// A reader that waits for committed records is woken when a marker is applied.
func TestWatchWakesAtMarkers(t *testing.T) {
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 0, "a")})
	grown := l.Watch(topic.ID, 0)
	must(l.ProposeAll(t.Context(), nil, finish(topic.ID, 0, true, 0)))
	select {
	case <-grown:
	default:
		t.Error("nobody is woken")
	}
}

// Neither retention nor DeleteRecords removes records of an open transaction. A search
// by time finds records, not markers.
func TestOpenTransactionStays(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	var now clock
	now.Store(50_000)
	l := open(t, b, asked, func(o *Options) { o.Now = now.time })
	topic, err := l.CreateTopic(ctx, "t", 1, map[string]string{"retention.ms": "1"})
	must(err)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
	maintained(t, l)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 0, "b")})
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("c")})
	maintained(t, l)
	for _, offset := range []int64{2, 3, -1} {
		if start, err := l.DeleteRecords(ctx, topic.ID, 0, offset); start != 1 || err != nil {
			t.Errorf("the records before %d are gone, %v", start, err)
		}
	}
	if _, err := l.DeleteRecords(ctx, topic.ID, 0, 4); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Error(err)
	}
	must(l.ProposeAll(ctx, nil, finish(topic.ID, 0, false, 0)))
	now.Store(500) // nothing is old
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Timed(3000)})
	for range 2 { // in a slot, and in a segment
		if offset, ts, err := l.MaxTimestamp(ctx, topic.ID, 0); offset != 4 || ts != 3000 || err != nil {
			t.Error(offset, ts, err)
		}
		for ts, want := range map[int64]int64{1000: 1, 2000: 4, 4000: -1} {
			if offset, _, err := l.OffsetByTime(ctx, topic.ID, 0, ts); offset != want || err != nil {
				t.Error(offset, err)
			}
		}
		if start, err := l.DeleteRecords(ctx, topic.ID, 0, 1); start != 1 || err != nil {
			t.Error(start, err)
		}
		rewritten(t, l)
	}
	now.Store(50_000)
	maintained(t, l)
	if start, end, err := l.Bounds(topic.ID, 0); start != 5 || end != 5 || err != nil {
		t.Error(start, end, err)
	}
	if p := l.state.Partition(state.Place{Topic: topic.ID, Partition: 0}); len(p.Aborted) > 0 {
		t.Errorf("%v is remembered", p.Aborted)
	}
	sound(t, b)
}

func TestEpochEnd(t *testing.T) {
	b := mem.New()
	var topic state.Topic
	for i := range 5 { // epochs 1 to 5; 3 writes nothing
		l := open(t, b)
		if i == 0 {
			topic = createTopic(t, l, "t", 1)
			if found, end, err := l.EpochEnd(topic.ID, 0, 1); found != -1 || end != 0 || err != nil {
				t.Error(found, end, err)
			}
		}
		if i != 2 {
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a", "b")})
		}
		if i == 3 {
			maintained(t, l)
		}
		must(l.Close())
	}
	l := open(t, b)
	ask := func(want map[int32][2]int64) {
		t.Helper()
		for epoch, w := range want {
			found, end, err := l.EpochEnd(topic.ID, 0, epoch)
			if int64(found) != w[0] || end != w[1] || err != nil {
				t.Errorf("epoch %d: %d until %d, %v, want %v", epoch, found, end, err, w)
			}
		}
	}
	ask(map[int32][2]int64{0: {-1, 0}, 1: {1, 2}, 2: {2, 4}, 3: {2, 4}, 4: {4, 6}, 5: {5, 8}, 9: {5, 8}})
	for _, start := range []int64{3, 8} {
		if _, err := l.DeleteRecords(t.Context(), topic.ID, 0, start); err != nil {
			t.Fatal(err)
		}
		if start == 3 {
			ask(map[int32][2]int64{1: {-1, 3}, 2: {2, 4}, 4: {4, 6}, 5: {5, 8}})
		}
	}
	ask(map[int32][2]int64{4: {-1, 8}, 5: {5, 8}, 6: {5, 8}})
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("c")})
	ask(map[int32][2]int64{5: {-1, 8}, 6: {6, 9}})
	if _, _, err := l.EpochEnd(topic.ID, 1, 1); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	sound(t, b)
	must(checkpointIsReplay(b))
}
