package commitlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// unsliced is a Machine with things in slices that cannot tell what its entries are about.
type unsliced struct{ recorder }

func (unsliced) Export(weir.SliceSet) []byte { return nil }
func (unsliced) Import([]byte) error         { return nil }
func (unsliced) Remove(weir.SliceSet)        {}

// shared reports whether a segment has pieces of a partition and of others, or a slot
// serves as its segment.
func (l *Log) shares(key state.Place) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.state.Partition(key)
	mine := make(map[state.SegmentID]int)
	for i := range p.Pieces {
		if p.Pieces[i].Segment.Slot {
			return true
		}
		mine[p.Pieces[i].Segment]++
	}
	for id, n := range mine {
		if l.state.Segments[id] != n {
			return true
		}
	}
	return false
}

// TestSeparate: what shares a segment with others, or lies in a slot, is rewritten; what
// comes later is kept apart from the beginning, for some time; and what was compacted
// stays so.
func TestSeparate(t *testing.T) {
	for _, adopt := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			b := mem.New()
			l := open(t, b, tiny, func(o *Options) { o.Upkeep.Adopt, o.Upkeep.Age = adopt, time.Hour })
			topic := createCompacted(t, l, "t", 3, "min.cleanable.dirty.ratio", "0")
			place := func(p int32) state.Place { return state.Place{Topic: topic.ID, Partition: p} }
			fill := func() {
				for i := range 6 {
					for p := range int32(3) {
						appended(t, l, Append{Topic: topic.ID, Partition: p, Batch: keyed(0, kv{fmt.Sprint("k", i%4), fmt.Sprint(p), 1})})
					}
				}
			}
			fill()
			maintained(t, l)
			fill()
			rewritten(t, l)
			if !l.shares(place(1)) {
				t.Fatal("there is nothing to separate")
			}
			clean := dirty(l.pieces(place(1)))
			want := holes(t, l, topic.ID, 1)
			m := moveOf(1, 0, 1, place(1))
			must(l.Separate(t.Context(), m.Slices))
			if l.shares(place(1)) {
				t.Error("it still shares")
			}
			if got := dirty(l.pieces(place(1))); got != clean || clean == 0 {
				t.Errorf("%d pieces are clean, %d were", got, clean)
			}
			sameRecords(t, holes(t, l, topic.ID, 1), want)
			fill()
			rewritten(t, l)
			if maintained(t, l); l.shares(place(1)) {
				t.Error("what came later shares")
			}
			if n := dirty(l.pieces(place(0))); n == len(l.pieces(place(0))) {
				t.Error("it was compacted meanwhile")
			}
			time.Sleep(2 * time.Hour) // nobody moves it
			maintained(t, l)
			fill()
			rewritten(t, l)
			maintained(t, l)
			if !l.shares(place(1)) {
				t.Error("it is kept apart for good")
			}
			must(l.Close())
			sound(t, b)
		})
	}
}

// TestMoveOrder: a step that is not its turn does nothing, and one that is repeated is
// done.
func TestMoveOrder(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	from, to, _, _ := openPair(t, b)
	topic := createTopic(t, from, "t", 3)
	appended(t, from, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
	m, other := moveOf(1, 0, 1, state.Place{Topic: topic.ID}), moveOf(2, 0, 1, state.Place{Topic: topic.ID, Partition: 1})
	late := moveOf(3, 0, 1, state.Place{Topic: topic.ID})
	want := func(what string, got error, kind error) {
		t.Helper()
		if !errors.Is(got, kind) || kind == nil && got != nil {
			t.Errorf("%s: %v, want %v", what, got, kind)
		}
	}
	export := func(m weir.Move) (*Export, error) { return from.Export(ctx, m) }
	want("export before stop", second(export(m)), ErrMoveEnded)
	want("out before stop", from.MoveOut(ctx, m), ErrMoveEnded)
	want("in the wrong log", to.Stop(ctx, m), ErrUnsupported)
	want("to itself", from.Stop(ctx, weir.Move{ID: m.ID, Slices: m.Slices}), ErrUnsupported)
	want("confirmed before import", to.ConfirmMove(ctx, m), ErrMoveEnded)
	want("settled before out", from.Settle(ctx, m), ErrMoveEnded)
	want("cancelled before import", to.Cancel(ctx, m), nil)
	want("stop", from.Stop(ctx, m), nil)
	want("stop again", from.Stop(ctx, m), nil)
	want("another one", from.Stop(ctx, other), ErrMoving)
	want("separate meanwhile", from.Separate(ctx, other.Slices), ErrMoving)
	want("out before export", from.MoveOut(ctx, m), ErrMoveEnded)
	want("topic deleted", from.DeleteTopic(ctx, topic.ID), ErrMoving)
	want("topic dropped", from.DropTopic(ctx, topic.ID, journal.Position{Epoch: 1, Slot: 1}), ErrMoving)
	want("trimmed", second(from.DeleteRecords(ctx, topic.ID, 0, -1)), ErrMoving)
	want("marker", from.ProposeAll(ctx, nil, &TransactionEnd{Producer: 1, Partitions: []state.Place{{Topic: topic.ID}}}), ErrMoving)
	want("entry of the slice", from.Propose(ctx, slicedKind, fmt.Appendf(nil, "%d x", weir.SliceOf(topic.ID, 0))), ErrMoving)
	want("entry of another", from.Propose(ctx, slicedKind, fmt.Appendf(nil, "%d x", weir.SliceOf(topic.ID, 2))), nil)
	if got := appended(t, from, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("b")}); got != 0 {
		t.Error(got)
	}
	if got := readAll(t, from, topic.ID, 0); len(got) != 1 {
		t.Errorf("reads see %q", got)
	}
	e, err := export(m)
	must(err)
	want("import of another move", to.Import(ctx, late, e), state.ErrCorrupt)
	want("import", to.Import(ctx, m, e), nil)
	want("import again", to.Import(ctx, m, e), ErrMoving)
	if _, in := to.Moves(); len(in) != 1 || in[0] != m {
		t.Errorf("imports %v", in)
	}
	if r := <-send(to, Append{Topic: topic.ID, Batch: recordtest.Batch("c")}); !errors.Is(r.err, ErrMoving) {
		t.Errorf("an append before it is confirmed: %+v", r)
	}
	want("out", from.MoveOut(ctx, m), nil)
	want("out again", from.MoveOut(ctx, m), nil)
	if moved, err := from.Void(ctx, m); !moved || err != nil {
		t.Error("void after out: ", moved, err)
	}
	if out, _ := from.Moves(); len(out) != 1 || out[0] != m {
		t.Errorf("exports %v", out)
	}
	want("confirm", to.ConfirmMove(ctx, m), nil)
	want("confirm again", to.ConfirmMove(ctx, m), nil)
	want("topic deleted before that is settled", from.DeleteTopic(ctx, topic.ID), ErrMoving)
	want("topic dropped before that is settled", from.DropTopic(ctx, topic.ID, journal.Position{Epoch: 1, Slot: 1}), ErrMoving)
	want("cancel after that", to.Cancel(ctx, m), ErrMoveEnded)
	want("settle", from.Settle(ctx, m), nil)
	want("settle again", from.Settle(ctx, m), nil)
	want("stop what is gone", from.Stop(ctx, late), ErrMoved)
	want("stop what has ended", from.Stop(ctx, m), ErrMoveEnded)
	if moved, err := from.Void(ctx, m); !moved || err != nil {
		t.Error("void after settle: ", moved, err)
	}
	want("stop another one", from.Stop(ctx, other), nil)
	if moved, err := from.Void(ctx, other); moved || err != nil {
		t.Error("void: ", moved, err)
	}
	want("out after void", from.MoveOut(ctx, other), ErrMoveEnded)
	appended(t, from, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("d")})
	want("delete after that", from.DeleteTopic(ctx, topic.ID), nil)
}

// A Machine that cannot tell what its entries are about waits while slices are stopped. A
// buffer that is retired meanwhile is retired afterwards, and in the other shard, too.
func TestStoppedOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, b := t.Context(), mem.New()
		machine := func() func(*Options) { return with(&unsliced{recorder{kinds: []uint16{100}}}) }
		from := open(t, b, tidy, machine())
		to := open(t, b, tidy, machine(), func(o *Options) { o.Shard = 1 })
		topic := createTopic(t, from, "t", 2)
		appended(t, from, Append{Topic: topic.ID, Batch: recordtest.Batch("a"), Source: source("g", 1, 0, 1, 1)})
		m := moveOf(1, 0, 1, state.Place{Topic: topic.ID})
		must(from.Stop(ctx, m))
		if err := from.Propose(ctx, 100, nil); !errors.Is(err, ErrMoving) {
			t.Error(err)
		}
		retired := make(chan error, 1)
		go func() { retired <- from.Retire(ctx, "g", buffer(1)) }()
		synctest.Wait()
		if len(retired) > 0 {
			t.Error("retired while slices are stopped")
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		if err := from.Retire(short, "g", buffer(2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		e, err := from.Export(ctx, m)
		must(err)
		must(to.Import(ctx, m, e))
		must(from.MoveOut(ctx, m))
		must(<-retired)
		must(to.ConfirmMove(ctx, m))
		must(from.Propose(ctx, 100, nil))
		if marks := marksOf(to, "g"); len(marks) != 1 || marks[0].Last != 1 {
			t.Errorf("marks %v", marks)
		}
		if got := from.BufferState("g", buffer(1)); got != weir.BufferRetired {
			t.Error(got)
		}
		must(to.Retire(ctx, "g", buffer(1)))
		must(from.Close())
		must(to.Close())
	})
}

// TestSetMap: the map of slices is in the log of shard 0 and in mirrors, also behind a
// checkpoint.
func TestSetMap(t *testing.T) {
	ctx, b := t.Context(), mem.New()
	l := open(t, b)
	if m, n := l.Map(); m != (weir.Map{}) || n != 1 {
		t.Errorf("%d shards at creation", n)
	}
	mirror, err := NewMirror(l.CatalogueSnapshot())
	must(err)
	if _, n := mirror.Map(); n != 0 {
		t.Errorf("a mirror has %d shards, which it cannot know", n)
	}
	m := weir.FirstMap(4)
	must(l.SetMap(ctx, m, 4))
	m[7] = 4
	must(l.SetMap(ctx, m, 5))
	before := l.acked.Load()
	must(l.SetMap(ctx, m, 5))
	if l.acked.Load() != before {
		t.Error("the same map was logged again")
	}
	for name, err := range map[string]error{
		"fewer shards":  l.SetMap(ctx, weir.FirstMap(4), 4),
		"unknown shard": l.SetMap(ctx, weir.FirstMap(7), 6),
		"too many":      l.SetMap(ctx, m, weir.MaxShards+1),
		"another log":   open(t, b, func(o *Options) { o.Shard = 1 }).SetMap(ctx, m, 5),
	} {
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	verify := func(got weir.Map, n uint32) {
		t.Helper()
		if got != m || n != 5 {
			t.Errorf("%d shards, slice 7 in %d", n, got[7])
		}
	}
	u, _ := l.CatalogueAfter(mirror.Position())
	must(mirror.Apply(u))
	verify(mirror.Map())
	again, err := NewMirror(l.CatalogueSnapshot())
	must(err)
	verify(again.Map())
	must(l.Maintain(ctx))
	must(l.Close())
	l = open(t, b)
	verify(l.Map())
	read, err := ReadMirror(ctx, b)
	must(err)
	verify(read.Map())
}

// TestCheckMoves: what is wrong between shards is found, whichever is read first.
func TestCheckMoves(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		do   func(from, to *Log, m weir.Move, e *Export)
		want string
	}{
		"stopped":   {func(_, _ *Log, _ weir.Move, _ *Export) {}, ""},
		"imported":  {func(_, to *Log, m weir.Move, e *Export) { must(to.Import(ctx, m, e)) }, ""},
		"moved out": {func(from, to *Log, m weir.Move, e *Export) { must(to.Import(ctx, m, e)); must(from.MoveOut(ctx, m)) }, ""},
		"confirmed": {func(from, to *Log, m weir.Move, e *Export) {
			must(to.Import(ctx, m, e))
			must(from.MoveOut(ctx, m))
			must(to.ConfirmMove(ctx, m))
		}, ""},
		"settled without a map": {func(from, to *Log, m weir.Move, e *Export) {
			must(to.Import(ctx, m, e))
			must(from.MoveOut(ctx, m))
			must(to.ConfirmMove(ctx, m))
			must(from.Settle(ctx, m))
		}, "belongs to shard 0, from which it moved away"},
		"confirmed only": {func(_, to *Log, m weir.Move, e *Export) {
			must(to.Import(ctx, m, e))
			must(to.ConfirmMove(ctx, m))
		}, "has records in shard 0 and in shard 1"},
		"moved nowhere": {func(from, _ *Log, m weir.Move, _ *Export) { must(from.MoveOut(ctx, m)) }, "which does not have them"},
		"moved and cancelled": {func(from, to *Log, m weir.Move, e *Export) {
			must(to.Import(ctx, m, e))
			must(from.MoveOut(ctx, m))
			must(to.Cancel(ctx, m))
		}, "which does not have them"},
	} {
		b := mem.New()
		from, to, _, _ := openPair(t, b)
		topic := createTopic(t, from, "t", 2)
		appended(t, from, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		must(from.SetMap(ctx, weir.Map{}, 2))
		m := moveOf(1, 0, 1, state.Place{Topic: topic.ID})
		must(from.Stop(ctx, m))
		e, err := from.Export(ctx, m)
		must(err)
		c.do(from, to, m, e)
		must(from.Close())
		must(to.Close())
		r, err := check.Check(ctx, b, nil)
		must(err)
		if got := strings.Join(r.Problems, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
		if r.Orphans > 0 && name != "moved nowhere" && name != "moved and cancelled" {
			t.Errorf("%s: %d orphans", name, r.Orphans)
		}
	}
}

// A topic that is dropped between import and confirmation does not come with it, and what
// it had is deleted.
func TestDroppedMeanwhile(t *testing.T) {
	ctx, b := t.Context(), mem.New()
	from, to, _, _ := openPair(t, b)
	topic := createTopic(t, from, "t", 1)
	appended(t, from, Append{Topic: topic.ID, Batch: recordtest.Batch("a"), Source: source("g", 1, 0, 1, 1)})
	m := moveOf(1, 0, 1, state.Place{Topic: topic.ID})
	must(from.Stop(ctx, m))
	e, err := from.Export(ctx, m)
	must(err)
	must(to.Import(ctx, m, e))
	at := journal.Position{Epoch: 1, Slot: 100}
	must(to.DropTopic(ctx, topic.ID, at))
	must(to.ForgetDropped(ctx, journal.Position{Epoch: 1, Slot: 101}, func(weir.TopicID) bool { return false }))
	must(to.Maintain(ctx)) // the checkpoint knows it
	must(to.Close())
	to = open(t, b, tidy, with(newSliced()), func(o *Options) { o.Shard = 1 })
	must(from.MoveOut(ctx, m))
	must(to.ConfirmMove(ctx, m))
	if _, found := to.TopicByID(topic.ID); found || len(marksOf(to, "g")) > 0 {
		t.Error("the topic has come back")
	}
	must(from.Settle(ctx, m))
	must(from.DeleteTopic(ctx, topic.ID))
	for range 3 {
		maintained(t, to)
		maintained(t, from)
	}
	if left := keys(t, b, "0000/segment/"); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// A repair does not take what slices that moved away have left in their old shard for
// records of a lost topic: another log refers to it.
func TestRepairMoved(t *testing.T) {
	ctx, b := t.Context(), mem.New()
	from, to, _, _ := openPair(t, b)
	topic := createTopic(t, from, "t", 2)
	for p := range int32(2) {
		appended(t, from, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch("a")})
	}
	m := moveOf(1, 0, 1, state.Place{Topic: topic.ID, Partition: 1})
	moved(t, from, to, m)
	where := weir.Map{}
	for slice := range m.Slices.All() {
		where[slice] = 1
	}
	must(from.SetMap(ctx, where, 2))
	for range 2 {
		maintained(t, from)
	}
	must(from.Close())
	must(to.Close())
	must(b.Delete(ctx, keys(t, b, "0000/checkpoint/")...))
	var told []string
	must(Repair(ctx, options(b, with(newSliced())), func(what string) { told = append(told, what) }))
	from, to, _, _ = openPair(t, b)
	if got := readAll(t, to, topic.ID, 1); len(got) != 1 {
		t.Errorf("%q", got)
	}
	for _, x := range from.Topics() {
		for p := range x.Partitions {
			if _, end, err := from.Bounds(x.ID, p); x.ID == topic.ID && p == 1 && end > 0 && err == nil {
				t.Errorf("the repair has taken %q, too: %q", x.Name, told)
			}
		}
	}
}
