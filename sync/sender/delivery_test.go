package sender

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

var (
	testBuffer = weir.BufferID{3: 1}
	keyA       = partKey{topic: weir.TopicID{1}}
	keyB       = partKey{topic: weir.TopicID{1}, partition: 1}
	gapKey     = partKey{topic: weir.TopicID{9}}
	now        = time.Unix(1e9, 0)
)

func testDelivery(marks ...weir.Mark) *delivery {
	l := newDelivery(testBuffer, weir.Live, 1, marks, map[weir.TopicID]bool{gapKey.topic: true}, limits{window: 1 << 20, readAhead: 1 << 20, batch: 1 << 16})
	l.gapKey = func(uint64) (partKey, bool) { return gapKey, true }
	return l
}

func mark(k partKey, last uint64) weir.Mark {
	return weir.Mark{Buffer: testBuffer, Lane: weir.Live, Topic: k.topic, Partition: k.partition, Last: last}
}

func item(seq uint64) Item {
	return Item{Seq: seq, Topic: "t", Record: record.Record{Value: []byte("v")}}
}

// push puts sequences first to last into a partition.
func push(l *delivery, k partKey, first, last uint64) {
	for s := first; s <= last; s++ {
		l.push(item(s), k)
	}
}

// next takes the next frame in short: partition, prev, first-last, round.
func next(l *delivery) string {
	c, ok := l.next(now, nil)
	if !ok {
		return "-"
	}
	what := "P"
	if c.ranges != nil {
		what = "G"
	}
	return fmt.Sprintf("%s%d %d<%d-%d r%d", what, c.key.partition, c.prev, c.first, c.last, c.round)
}

func refusedFrame(k partKey, round uint32, first, last, mark uint64, why wire.Reason) *wire.Refused {
	return &wire.Refused{Buffer: testBuffer, Lane: weir.Live, Topic: k.topic, Partition: k.partition,
		Round: round, First: first, Last: last, Mark: mark, Reason: why}
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestLedgerChainsAndTrims(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 2)
	push(l, keyB, 3, 3)
	expect(t, "first", next(l), "P0 0<1-2 r0")
	push(l, keyA, 4, 4)
	expect(t, "second", next(l), "P1 0<3-3 r0")
	expect(t, "third", next(l), "P0 2<4-4 r0")
	expect(t, "nothing left", next(l), "-")
	for _, x := range []struct {
		k     partKey
		seq   uint64
		floor uint64
	}{{keyB, 3, 0}, {keyA, 4, 4}} {
		if err := l.ack(x.k, x.seq); err != nil {
			t.Fatal(err)
		}
		if got := l.floor(); got != x.floor {
			t.Errorf("floor after ack of %d: %d, want %d", x.seq, got, x.floor)
		}
	}
	if l.inFlight != 0 || l.waiting != 0 || len(l.order) != 0 {
		t.Errorf("books are not empty: %+v", l)
	}
	if err := l.ack(keyA, 5); !errors.Is(err, errUnsent) {
		t.Errorf("ack of what was not sent: %v", err)
	}
}

func TestLedgerStartsFromMarks(t *testing.T) {
	l := testDelivery(mark(keyA, 5), mark(keyB, 2), weir.Mark{Buffer: weir.BufferID{9}, Lane: weir.Live, Topic: keyA.topic, Last: 99})
	push(l, keyA, 1, 1)
	push(l, keyB, 2, 3)
	push(l, keyA, 4, 6)
	expect(t, "B", next(l), "P1 2<3-3 r0")
	expect(t, "A", next(l), "P0 5<6-6 r0")
}

func TestLedgerRewindsOncePerRound(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 1)
	next(l)
	push(l, keyA, 2, 2)
	next(l)
	if got := l.refuse(refusedFrame(keyA, 0, 2, 2, 0, wire.ReasonHole), now); got != nil {
		t.Errorf("dead letters %v", got)
	}
	expect(t, "again", next(l), "P0 0<1-2 r1")
	l.refuse(refusedFrame(keyA, 0, 1, 1, 0, wire.ReasonHole), now) // of the round before
	expect(t, "stale", next(l), "-")
	l.refuse(refusedFrame(keyA, 0, 1, 1, 1, wire.ReasonHole), now) // stale, but its mark counts
	if l.floor() != 1 {
		t.Errorf("floor %d", l.floor())
	}
}

// The mark of a refusal may lie beyond everything sent: an older session's
// frames have landed.
func TestLedgerMarkBeyondWhatWasSent(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 2)
	next(l)
	l.refuse(refusedFrame(keyA, 0, 1, 2, 7, wire.ReasonHole), now)
	push(l, keyA, 3, 9)
	expect(t, "goes on", next(l), "P0 7<8-9 r1")
	if l.floor() != 7 {
		t.Errorf("floor %d", l.floor())
	}
}

func TestLedgerPauses(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 1)
	push(l, keyB, 2, 2)
	next(l)
	l.refuse(refusedFrame(keyA, 0, 1, 1, 0, wire.ReasonBusy), now)
	expect(t, "the other partition", next(l), "P1 0<2-2 r0")
	expect(t, "paused", next(l), "-")
	at := l.resume(now)
	if d := at.Sub(now); d != minPause {
		t.Errorf("pause of %v", d)
	}
	if c, ok := l.next(at, nil); !ok || c.round != 1 {
		t.Error("pause does not end")
	}
	l.refuse(refusedFrame(keyA, 1, 1, 1, 0, wire.ReasonMoved), at)
	if d := l.resume(at).Sub(at); d != 2*minPause {
		t.Errorf("second pause of %v", d)
	}
}

// A frame that is refused while an earlier one of its partition is refused too
// says nothing about its own records yet.
func TestLedgerBlamesTheRightFrame(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 1)
	next(l)
	push(l, keyA, 2, 2)
	next(l)
	if got := l.refuse(refusedFrame(keyA, 0, 2, 2, 0, wire.ReasonTooLarge), now); got != nil {
		t.Errorf("%d dead letters", len(got))
	}
	c, ok := l.next(now.Add(time.Minute), nil)
	if !ok || c.first != 1 || c.last != 2 {
		t.Errorf("got %+v", c)
	}
}

func TestLedgerFindsTheBadRecord(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 8)
	bad := uint64(6)
	var dead []*entry
	at := now
	for range 100 {
		c, ok := l.next(at, nil)
		if !ok {
			break
		}
		if c.ranges != nil {
			break
		}
		if c.first <= bad && bad <= c.last {
			m := l.parts[keyA].mark
			dead = append(dead, l.refuse(refusedFrame(keyA, c.round, c.first, c.last, m, wire.ReasonCorrupt), at)...)
		} else if err := l.ack(keyA, c.last); err != nil {
			t.Fatal(err)
		}
	}
	if len(dead) != 1 || dead[0].first != bad {
		t.Fatalf("%d dead letters", len(dead))
	}
}

// Nothing behind a dead letter leaves its partition before the gap is acked,
// and the gap leaves only when all before it is settled.
func TestLedgerHoldsBehindBuried(t *testing.T) {
	l := testDelivery()
	push(l, keyB, 1, 1)
	push(l, keyA, 2, 2)
	expect(t, "B", next(l), "P1 0<1-1 r0")
	expect(t, "A", next(l), "P0 0<2-2 r0")
	push(l, keyA, 3, 3)
	dead := l.refuse(refusedFrame(keyA, 0, 2, 2, 0, wire.ReasonGone), now)
	expect(t, "before it is a dead letter", next(l), "-")
	l.markDead(dead, "gone")
	expect(t, "before B is settled", next(l), "-")
	if err := l.ack(keyB, 1); err != nil {
		t.Fatal(err)
	}
	expect(t, "gap", next(l), "G0 0<2-2 r0")
	expect(t, "before the gap is acked", next(l), "-")
	if l.floor() != 1 {
		t.Errorf("floor %d", l.floor())
	}
	if err := l.ack(gapKey, 2); err != nil {
		t.Fatal(err)
	}
	expect(t, "after", next(l), "P0 0<3-3 r1")
	if l.floor() != 2 {
		t.Errorf("floor %d", l.floor())
	}
}

// Topic weir.gaps has grown: a gap does not leave for its new partition while one
// flies to the old. The mark of the new one would pass it.
func TestLedgerGapsWaitForEachOther(t *testing.T) {
	l := testDelivery()
	grown := partKey{topic: gapKey.topic, partition: 1}
	l.gapKey = func(seq uint64) (partKey, bool) {
		if seq >= 3 {
			return grown, true
		}
		return gapKey, true
	}
	l.pushGap(Item{Seq: 2, Gap: &weir.Gap{First: 1, Last: 2}})
	l.pushGap(Item{Seq: 4, Gap: &weir.Gap{First: 3, Last: 4}})
	expect(t, "the first", next(l), "G0 0<1-2 r0")
	expect(t, "while it flies", next(l), "-")
	if err := l.ack(gapKey, 2); err != nil {
		t.Fatal(err)
	}
	expect(t, "the second", next(l), "G1 0<3-4 r0")
}

// What lies at or below the mark of weir.gaps is settled, whatever the marks of
// its partition say.
func TestLedgerGapMarkSettles(t *testing.T) {
	l := testDelivery(mark(gapKey, 3), mark(keyA, 1))
	push(l, keyA, 1, 2)
	l.pushGap(Item{Seq: 5, Gap: &weir.Gap{First: 2, Last: 5, Reason: "damaged", Exact: true}})
	c, ok := l.next(now, nil)
	if !ok || len(c.ranges) != 1 || c.ranges[0] != (wire.Range{First: 4, Last: 5}) || c.prev != 3 || !c.exact {
		t.Errorf("got %+v", c)
	}
}

// A cloud that lacks what was acknowledged and freed is told of, once.
func TestLedgerCloudWentBack(t *testing.T) {
	for _, c := range []struct {
		from, reached uint64
		marks         []weir.Mark
		first         uint64 // 0: nothing is gone
	}{
		{1, 0, nil, 0},
		{10, 9, []weir.Mark{mark(keyA, 9)}, 0},
		{10, 9, nil, 0}, // the topic was deleted
		{10, 12, []weir.Mark{mark(keyA, 4), mark(keyB, 12)}, 0},
		{10, 9, []weir.Mark{mark(keyA, 4), mark(gapKey, 9)}, 0},
		{10, 8, []weir.Mark{mark(keyA, 8)}, 9},
		{10, 7, []weir.Mark{mark(keyA, 4), mark(keyB, 7)}, 5},
		{10, 6, []weir.Mark{mark(keyA, 4), mark(gapKey, 6)}, 7},
		{10, 6, nil, 7},
		{10, 0, nil, 1},
	} {
		l := newDelivery(testBuffer, weir.Live, c.from, c.marks, map[weir.TopicID]bool{gapKey.topic: true}, limits{window: 1 << 20, readAhead: 1 << 20, batch: 1 << 16})
		if first, gone := l.forgotten(c.reached); gone != (c.first > 0) || first != c.first {
			t.Errorf("from %d, reached %d, marks %v: %d, %v", c.from, c.reached, c.marks, first, gone)
		}
	}
}

// The part of a gap that may have been delivered is not exact.
func TestLedgerInexactGaps(t *testing.T) {
	l := testDelivery(mark(keyA, 4))
	l.pushGap(Item{Seq: 9, Gap: &weir.Gap{First: 1, Last: 9, Exact: true}})
	for _, want := range []struct {
		r     wire.Range
		exact bool
	}{{wire.Range{First: 1, Last: 4}, false}, {wire.Range{First: 5, Last: 9}, true}} {
		c, ok := l.next(now, nil)
		if !ok || len(c.ranges) != 1 || c.ranges[0] != want.r || c.exact != want.exact {
			t.Errorf("got %+v, want %+v", c, want)
		}
	}
}

func TestLedgerJoinsGaps(t *testing.T) {
	l := testDelivery()
	push(l, keyA, 1, 6)
	next(l)
	dead := l.refuse(refusedFrame(keyA, 0, 1, 6, 0, wire.ReasonNotAllowed), now)
	push(l, keyB, 7, 7)
	l.pushGap(Item{Seq: 9, Gap: &weir.Gap{First: 8, Last: 9, Reason: "damaged", Exact: true}})
	l.markDead(dead, "not-allowed")
	c, _ := l.next(now, nil)
	if len(c.ranges) != 1 || c.ranges[0] != (wire.Range{First: 1, Last: 6}) || c.count != 6 || c.of != "t" {
		t.Errorf("got %+v", c)
	}
	expect(t, "B", next(l), "P1 0<7-7 r0")
	expect(t, "second gap waits for B", next(l), "-")
}

func TestLedgerBounds(t *testing.T) {
	l := testDelivery()
	l.limits = limits{window: 1000, readAhead: 2000, batch: 300}
	seq := uint64(0)
	for l.wantsMore() {
		seq++
		l.push(item(seq), keyA)
	}
	if l.waiting > 2000+entryOverhead+1 {
		t.Errorf("%d bytes waiting", l.waiting)
	}
	for next(l) != "-" {
	}
	if l.inFlight < 1000 || l.inFlight > 1300 {
		t.Errorf("%d bytes in flight", l.inFlight)
	}
}

// A deep backlog of small records goes in few frames, a trickle in one each.
func TestLedgerCollectsWhenBusy(t *testing.T) {
	l := testDelivery()
	frames := 0
	for s := uint64(1); s <= 100; s++ {
		l.push(item(s), keyA)
		if next(l) != "-" {
			frames++
		}
	}
	if frames != maxUnacked {
		t.Errorf("%d frames in flight", frames)
	}
	if err := l.ack(keyA, 1); err != nil {
		t.Fatal(err)
	}
	expect(t, "the rest in one", next(l), "P0 8<9-100 r0")
}

func TestTable(t *testing.T) {
	first := weir.MapRow{Name: "a", Topic: weir.TopicID{1}, Lane: weir.Live, Row: weir.Row{Partitions: 2, From: 1}}
	grown := weir.MapRow{Name: "a", Topic: weir.TopicID{1}, Lane: weir.Live, Row: weir.Row{Partitions: 3, From: 10}}
	again := weir.MapRow{Name: "a", Topic: weir.TopicID{2}, Lane: weir.Live, Row: weir.Row{Partitions: 1, From: 10}}
	other := weir.MapRow{Name: "b", Topic: weir.TopicID{3}, Lane: weir.Live, Row: weir.Row{Partitions: 1, From: 5}}
	bulk := weir.MapRow{Name: "a", Topic: weir.TopicID{1}, Lane: weir.Bulk, Row: weir.Row{Partitions: 9, From: 1}}
	tab := newTable([]weir.MapRow{first, bulk, other, grown, again}, weir.Live)
	for seq, want := range map[uint64]weir.MapRow{1: first, 9: first, 10: again, 99: again} {
		if got, ok := tab.find("a", seq); !ok || got != want {
			t.Errorf("at %d: %+v", seq, got)
		}
	}
	if _, ok := tab.find("b", 4); ok {
		t.Error("row before its first sequence")
	}
	if got := fmt.Sprint(tab.topics()); got != "[a b]" {
		t.Errorf("topics %s", got)
	}
}
