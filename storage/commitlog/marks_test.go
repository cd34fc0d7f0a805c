package commitlog

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// tombstones is how many retired buffers of a gateway are remembered.
const tombstones = 256

func marksOf(l *Log, gateway string) []weir.Mark {
	marks, _ := l.Marks(gateway)
	return marks
}

func buffer(counter uint32) weir.BufferID {
	var id weir.BufferID
	binary.BigEndian.PutUint32(id[:], counter)
	id[11] = 7
	return id
}

func stream(gateway string, counter uint32) *weir.Stream {
	return &weir.Stream{Gateway: gateway, Buffer: buffer(counter), Lane: 1}
}

func source(gateway string, counter uint32, prev, first, last uint64) *state.Source {
	return &state.Source{Stream: *stream(gateway, counter), Prev: prev, First: first, Last: last}
}

// mapped adds a row to a source.
func mapped(s *state.Source, partitions int32, from uint64) state.Source {
	s.Row = weir.Row{Partitions: partitions, From: from}
	return *s
}

// The rules of a single append against the mark: prev, duplicates, straddle,
// hole.
func TestMarkRules(t *testing.T) {
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 2)
	for _, c := range []struct {
		name              string
		prev, first, last uint64
		base              int64
		refused           bool
		mark              uint64 // afterwards
	}{
		{"hole before anything", 3, 4, 5, -1, true, 0},
		{"first", 0, 2, 3, 0, false, 3},
		{"again", 0, 2, 3, -1, false, 3},
		{"part of it again", 0, 2, 2, -1, false, 3},
		{"from an unknown past", 0, 1, 1, -1, false, 3},
		{"straddle", 0, 2, 5, -1, true, 3},
		{"straddle with the right prev", 3, 3, 5, -1, true, 3},
		{"hole", 5, 6, 7, -1, true, 3},
		{"prev behind the mark", 2, 4, 5, -1, true, 3},
		{"goes on", 3, 6, 9, 1, false, 9},
	} {
		r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(c.name), Source: source("g", 1, c.prev, c.first, c.last)})
		if c.refused {
			if got := refusal(t, r); got.Mark != c.mark || got.Reason != ReasonSequence {
				t.Errorf("%s: %+v", c.name, got)
			}
		} else if r.err != nil || r.base != c.base {
			t.Errorf("%s: %+v", c.name, r)
		}
		if mark, err := l.Mark(context.Background(), *stream("g", 1), topic.ID, 0); mark != c.mark || err != nil {
			t.Errorf("%s: mark %d, %v, want %d", c.name, mark, err, c.mark)
		}
	}
	// Other partitions, lanes, buffers and gateways have marks of their own.
	other := source("g", 1, 0, 4, 4)
	other.Stream.Lane = 2
	for _, a := range []Append{
		{Partition: 1, Source: source("g", 1, 0, 5, 5)}, {Source: other},
		{Source: source("g", 2, 0, 1, 1)}, {Source: source("h", 1, 0, 1, 1)},
	} {
		a.Topic, a.Batch = topic.ID, recordtest.Batch("other")
		if base := appended(t, l, a); base < 0 {
			t.Errorf("%+v was taken for a duplicate", a.Source)
		}
	}
	if n := len(marksOf(l, "g")); n != 4 {
		t.Errorf("%d marks of the gateway, want 4", n)
	}
}

// In flight: the marks that admission uses are ahead of those that callers see.
func TestMarksInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		defer release()
		a := func(prev, first, last uint64) <-chan result {
			answer := send(l, Append{Topic: topic.ID, Batch: full(), Source: source("g", 1, prev, first, last)})
			synctest.Wait()
			return answer
		}
		first := a(0, 1, 2)
		again := a(0, 1, 2)   // a duplicate of what flies
		next := a(2, 3, 3)    // goes on behind what flies
		refused := a(7, 8, 8) // a hole behind what flies
		asked := make(chan uint64, 1)
		go func() {
			mark, err := l.Mark(context.Background(), *stream("g", 1), topic.ID, 0)
			if err != nil {
				t.Error(err)
			}
			asked <- mark
		}()
		synctest.Wait()
		last := a(3, 4, 4)
		if flying, _ := l.flight.state(); flying != 3 {
			t.Fatalf("%d slots fly, want those of the three batches that were taken", flying)
		}
		if !pending(first) || !pending(again) || !pending(next) || !pending(refused) || len(asked) > 0 {
			t.Fatal("answered while the slot flies")
		}
		if marks := marksOf(l, "g"); len(marks) != 0 {
			t.Fatalf("marks %v are visible and not durable", marks)
		}
		if s := l.BufferState("g", buffer(1)); s != weir.BufferNew {
			t.Fatalf("buffer is %v before anything of it is durable", s)
		}
		release()
		if r := <-first; r.err != nil || r.base != 0 {
			t.Error(r)
		}
		if r := <-again; r.err != nil || r.base != -1 {
			t.Error(r)
		}
		if r := <-next; r.err != nil || r.base != 1 {
			t.Error(r)
		}
		if got := refusal(t, <-refused); got.Mark < 3 {
			t.Errorf("refused with mark %d, before what flew had landed", got.Mark)
		}
		if mark := <-asked; mark < 3 {
			t.Errorf("mark %d, want what flew", mark)
		}
		if r := <-last; r.err != nil || r.base != 2 {
			t.Error(r)
		}
		if s := l.BufferState("g", buffer(1)); s != weir.BufferKnown {
			t.Errorf("buffer is %v", s)
		}
	})
}

// A duplicate of a batch whose slot is lost must not be acknowledged, and the
// new owner must take the batch.
func TestDuplicateOfLostSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := newGate(b)
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		defer release()
		a := Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 1, 1)}
		first := send(l, a)
		synctest.Wait()
		a.Batch = full()
		again := send(l, a)
		synctest.Wait()

		next := open(t, b)
		release() // into a SEAL
		for _, answer := range []<-chan result{first, again} {
			if r := <-answer; !errors.Is(r.err, ErrFenced) {
				t.Errorf("%+v, want ErrFenced", r)
			}
		}
		a.Batch = recordtest.Batch("x")
		if base := appended(t, next, a); base != 0 {
			t.Errorf("offset %d at the new owner, want 0", base)
		}
		sound(t, b)
	})
}

// Refusing one of several streams in a slot does not affect the others.
func TestRefusalLeavesNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		blocker := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("-")})
		synctest.Wait()
		good := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("a"), Source: source("g1", 1, 0, 1, 1)})
		bad := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("b"), Source: source("g2", 1, 4, 5, 5)})
		good2 := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("c"), Source: source("g3", 1, 0, 1, 1)})
		release()
		if r := <-blocker; r.err != nil {
			t.Fatal(r.err)
		}
		if r := <-good; r.base != 1 || r.err != nil {
			t.Error(r)
		}
		if got := refusal(t, <-bad); got.Mark != 0 {
			t.Error(got)
		}
		if r := <-good2; r.base != 2 || r.err != nil {
			t.Error(r)
		}
		sound(t, g)
	})
}

// A topic that was deleted, or deleted and created again, refuses batches for the old
// topic, and its marks are gone.
func TestMarksOfDeletedTopic(t *testing.T) {
	ctx := context.Background()
	l := open(t, mem.New())
	old := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: old.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 1, 1)})
	if err := l.DeleteTopic(ctx, old.ID); err != nil {
		t.Fatal(err)
	}
	fresh := createTopic(t, l, "t", 1)
	r := <-send(l, Append{Topic: old.ID, Batch: recordtest.Batch("y"), Source: source("g", 1, 1, 2, 2)})
	if got := refusal(t, r); got.Reason != ReasonTopic || !errors.Is(r.err, ErrUnknownTopic) || got.Mark != 0 {
		t.Errorf("%+v", got)
	}
	if marks := marksOf(l, "g"); len(marks) != 0 {
		t.Error(marks)
	}
	if s := l.BufferState("g", buffer(1)); s != weir.BufferKnown {
		t.Errorf("buffer is %v: what it delivered may not be forgotten", s)
	}
	if base := appended(t, l, Append{Topic: fresh.ID, Batch: recordtest.Batch("y"), Source: source("g", 1, 0, 2, 2)}); base != 0 {
		t.Error(base)
	}
}

// A delete that is still in flight refuses already, and an append before it in
// the same slot still counts.
func TestDeleteInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		before := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 1, 1)})
		synctest.Wait()
		deleted := make(chan error, 1)
		same := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("y"), Source: source("g", 1, 1, 2, 2)})
		go func() { deleted <- l.DeleteTopic(ctx, topic.ID) }()
		synctest.Wait()
		after := send(l, Append{Topic: topic.ID, Batch: full(), Source: source("g", 1, 2, 3, 3)})
		synctest.Wait()
		if !pending(after) || len(deleted) > 0 {
			t.Error("answered by what is in flight")
		}
		if _, ok := l.TopicByID(topic.ID); !ok {
			t.Error("the topic is gone before that is durable")
		}
		release()
		if r := <-before; r.err != nil {
			t.Error(r)
		}
		if r := <-same; r.err != nil {
			t.Error(r)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
		if got := refusal(t, <-after); got.Reason != ReasonTopic {
			t.Error(got)
		}
		sound(t, g)
	})
}

func TestRetire(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 1)
	stateIs := func(l *Log, counter uint32, want weir.BufferState) {
		t.Helper()
		if got := l.BufferState("g", buffer(counter)); got != want {
			t.Errorf("buffer %d is %v, want %v", counter, got, want)
		}
	}
	// A bulk lane of buffer 3 has waited while buffer 5 came and went.
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 5, 0, 1, 1)})
	for range 2 { // again is no error
		if err := l.Retire(ctx, "g", buffer(5)); err != nil {
			t.Fatal(err)
		}
	}
	stateIs(l, 5, weir.BufferRetired)
	stateIs(l, 3, weir.BufferNew)
	stateIs(l, 6, weir.BufferNew)
	if marks := marksOf(l, "g"); len(marks) != 0 {
		t.Error(marks)
	}
	for _, s := range []*state.Source{source("g", 5, 0, 1, 1), source("g", 5, 1, 2, 2), source("g", 5, 0, 9, 9)} {
		if got := refusal(t, <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: s})); got.Reason != ReasonRetired {
			t.Errorf("%+v", got)
		}
	}
	if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 3, 0, 1, 1)}); base != 1 {
		t.Error(base)
	}
	// The newest 256 tombstones are kept. What is older than all of them may
	// have been retired.
	for counter := uint32(10); counter < 10+tombstones; counter++ {
		if err := l.Retire(ctx, "g", buffer(counter)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(l *Log) {
		t.Helper()
		stateIs(l, 10, weir.BufferRetired)
		stateIs(l, 9+tombstones, weir.BufferRetired)
		stateIs(l, 5, weir.BufferAside)
		stateIs(l, 9, weir.BufferAside)
		stateIs(l, 3, weir.BufferKnown)
		stateIs(l, 10+tombstones, weir.BufferNew)
	}
	check(l)
	if got := refusal(t, <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 5, 0, 1, 1)})); got.Reason != ReasonAside {
		t.Errorf("%+v", got)
	}
	if s := l.BufferState("another", buffer(5)); s != weir.BufferNew {
		t.Errorf("another gateway's buffer is %v", s)
	}
	check(open(t, b))
	sound(t, b)

	// A buffer that is open cannot have been retired: its gateway has a new
	// card, and counts from the beginning.
	l = open(t, b)
	l.Adopt("g", buffer(7))
	stateIs(l, 7, weir.BufferNew)
	stateIs(l, 6, weir.BufferAside)
	topic, _ = l.Topic(topic.Name)
	if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 7, 0, 1, 1)}); base != 2 {
		t.Error(base)
	}
	stateIs(l, 7, weir.BufferKnown)
	l.Adopt("g", buffer(8))
	stateIs(open(t, b), 8, weir.BufferAside) // the gateway must tell the next owner again
	sound(t, b)
}

// While a Retire is in flight its buffer is refused already.
func TestRetireInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x"), Source: source("g", 1, 0, 1, 1)})
		release := g.hold()
		retired := make(chan error, 1)
		go func() { retired <- l.Retire(context.Background(), "g", buffer(1)) }()
		synctest.Wait()
		late := send(l, Append{Topic: topic.ID, Batch: full(), Source: source("g", 1, 1, 2, 2)})
		synctest.Wait()
		if s := l.BufferState("g", buffer(1)); s != weir.BufferKnown || !pending(late) || len(retired) > 0 {
			t.Error("the retirement is visible before it is durable")
		}
		release()
		if err := <-retired; err != nil {
			t.Error(err)
		}
		if got := refusal(t, <-late); got.Reason != ReasonRetired || got.Mark != 0 {
			t.Errorf("%+v", got)
		}
		sound(t, g)
	})
}

// Marks survive: a new owner goes on where the last one was.
func TestMarksAfterReopen(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 2)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a"), Source: source("g", 1, 0, 1, 4)})
	appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("b"), Source: source("g", 1, 0, 2, 2)})
	if err := l.GrowTopic(context.Background(), topic.ID, 3); err != nil {
		t.Fatal(err)
	}
	appended(t, l, Append{Topic: topic.ID, Partition: 2, Batch: recordtest.Batch("c"), Source: source("g", 1, 0, 5, 5)})
	want := sorted(marksOf(l, "g"))
	l = open(t, b)
	if got := sorted(marksOf(l, "g")); !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("marks %v, want %v", got, want)
	}
	if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a"), Source: source("g", 1, 0, 1, 4)}); base != -1 {
		t.Error(base)
	}
	if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("d"), Source: source("g", 1, 4, 6, 6)}); base != 1 {
		t.Error(base)
	}
}

func sorted(marks []weir.Mark) []weir.Mark {
	slices.SortFunc(marks, func(a, b weir.Mark) int { return int(a.Partition - b.Partition) })
	return marks
}

// The log keeps the newest row of each stream and topic as long as its marks,
// and takes none that cannot have given a record its partition.
func TestRows(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	topic, other := createTopic(t, l, "t", 4), createTopic(t, l, "u", 1)
	put := func(topic state.Topic, partition int32, src state.Source) {
		t.Helper()
		appended(t, l, Append{Topic: topic.ID, Partition: partition, Batch: recordtest.Batch("x"), Source: &src})
	}
	put(topic, 0, mapped(source("g", 1, 0, 1, 4), 1, 1))
	put(topic, 3, mapped(source("g", 1, 0, 9, 9), 4, 6))
	put(topic, 1, mapped(source("g", 1, 0, 5, 5), 2, 5)) // late: the row that was told is newer
	put(other, 0, mapped(source("g", 1, 0, 7, 7), 1, 1))
	put(other, 0, *source("g", 2, 0, 1, 1)) // without one
	want := func(rows ...weir.MapRow) {
		t.Helper()
		_, got := l.Marks("g")
		slices.SortFunc(got, func(a, b weir.MapRow) int { return strings.Compare(a.Name, b.Name) })
		if !slices.Equal(got, rows) {
			t.Errorf("rows %+v, want %+v", got, rows)
		}
	}
	first := weir.MapRow{Buffer: buffer(1), Lane: weir.Live, Topic: topic.ID, Name: "t", Row: weir.Row{Partitions: 4, From: 6}}
	second := weir.MapRow{Buffer: buffer(1), Lane: weir.Live, Topic: other.ID, Name: "u", Row: weir.Row{Partitions: 1, From: 1}}
	want(first, second)
	l = open(t, b)
	want(first, second)

	for _, bad := range []weir.Row{{Partitions: 2, From: 1}, {Partitions: 4}, {Partitions: 4, From: 12}, {Partitions: state.MaxPartitions + 1, From: 1}, {From: 1}} {
		src := source("g", 1, 9, 10, 11)
		src.Row = bad
		if r := <-send(l, Append{Topic: topic.ID, Partition: 3, Batch: recordtest.Batch("x"), Source: src}); !errors.Is(r.err, state.ErrCorrupt) {
			t.Errorf("%+v: %v", bad, r.err)
		}
	}
	must(l.DeleteTopic(t.Context(), topic.ID))
	want(second)
	must(l.Retire(t.Context(), "g", buffer(1)))
	want()
	sound(t, b)
}
