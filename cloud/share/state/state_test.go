package state

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// naive is a share partition as an array of records.
type naive struct {
	start, lent int64
	done        [200]bool
	count       [200]int
}

func (n *naive) settle() {
	for n.done[n.start] {
		n.start++
	}
	n.lent = max(n.lent, n.start-1)
}

func (n *naive) updated(e Updated) {
	n.lent = max(n.lent, e.Lent)
	for i := range max(e.Start, 0) {
		n.done[i] = true
	}
	n.start = max(n.start, e.Start)
	n.settle()
	for _, c := range e.Changes {
		for i := c.First; i <= min(c.Last, n.lent); i++ {
			if !n.done[i] && i >= n.start {
				n.done[i], n.count[i] = c.Done, c.Count
			}
		}
		n.settle()
	}
}

func (n *naive) opened(e Opened) {
	last := n.start - 1
	for i := n.start; i < int64(len(n.done)); i++ {
		if n.done[i] || n.count[i] > 0 {
			last = i
		}
	}
	n.lent = max(min(n.lent, e.Mark), last)
	for i := n.start; i <= min(e.Mark, n.lent); i++ {
		if !n.done[i] {
			n.count[i]++
		}
	}
}

func (n *naive) same(t *testing.T, what string, p *Partition) {
	t.Helper()
	if p.Start != n.start || p.Lent != n.lent || !p.valid() {
		t.Fatalf("%s: start %d, lent %d, runs %v; want %d, %d", what, p.Start, p.Lent, p.Runs, n.start, n.lent)
	}
	waiting := int64(0)
	for i := range int64(len(n.done)) {
		r := p.At(i)
		done, count := n.done[i] || i < n.start, n.count[i]
		if done {
			count = 0
		} else {
			waiting++
		}
		if r.First > i || r.Last < i || r.Done != done || r.Count != count {
			t.Fatalf("%s: record %d is in %+v, want done %v, %d deliveries", what, i, r, done, count)
		}
		if got := p.Records(i + 1); got != waiting {
			t.Fatalf("%s: %d records up to %d, want %d", what, got, i, waiting)
		}
	}
}

var at = Place{"workers", weir.TopicID{1}, 3}

// TestModel compares random entries with an array of records, and every state with the
// one that its snapshot restores.
func TestModel(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := New()
		n := &naive{start: random.Int64N(20)}
		n.lent = n.start - 1 + random.Int64N(5)
		begun := Begun{Place: at, Start: n.start, Lent: n.lent}
		apply(t, s, KindBegun, begun.Append(nil))
		for i := range n.start {
			n.done[i] = true
		}
		for step := range 60 {
			p := s.Partition(at)
			what := fmt.Sprintf("seed %d, step %d", seed, step)
			if random.IntN(12) == 0 {
				e := Opened{p.ID, random.Int64N(150)}
				apply(t, s, KindOpened, e.Append(nil))
				n.opened(e)
			} else {
				e := randomUpdate(random, p)
				apply(t, s, KindUpdated, e.Append(nil))
				n.updated(e)
			}
			n.same(t, what, p)
			again := New()
			if err := again.Restore(s.Snapshot()); err != nil || !bytes.Equal(again.Snapshot(), s.Snapshot()) {
				t.Fatalf("%s: %v", what, err)
			}
			if random.IntN(3) == 0 {
				s = again
				n.same(t, what, s.Partition(at))
			}
		}
	}
}

func randomUpdate(random *rand.Rand, p *Partition) Updated {
	e := Updated{ID: p.ID, Lent: -1}
	if random.IntN(6) == 0 {
		e.Start = random.Int64N(min(p.Start+10, 150))
	}
	if random.IntN(2) == 0 {
		e.Lent = min(p.Lent+random.Int64N(20), 150)
	}
	for from := p.Start - random.Int64N(min(p.Start, 3)+1); random.IntN(4) > 0 && from < 150; {
		c := Run{First: from + random.Int64N(9), Done: random.IntN(2) == 0}
		c.Last = c.First + random.Int64N(7)
		if !c.Done {
			c.Count = random.IntN(3)
		}
		from = c.Last + 1 + random.Int64N(2)
		e.Changes = append(e.Changes, c)
	}
	return e
}

func apply(t *testing.T, s *State, kind uint16, body []byte) {
	t.Helper()
	if err := s.Apply(kind, body); err != nil {
		t.Fatal(err)
	}
}

// TestGone: entries for a share partition that was deleted, forgotten or begun again do
// not apply to the next one, and ids do not repeat, through a snapshot neither.
func TestGone(t *testing.T) {
	other := Place{"workers", weir.TopicID{2}, 0}
	for what, end := range map[string]func(s *State, id ID) (uint16, []byte){
		"deleted":   func(_ *State, id ID) (uint16, []byte) { return KindDeleted, EncodeDeleted([]ID{id, 99}) },
		"forgotten": func(*State, ID) (uint16, []byte) { return KindForgotten, EncodeForgotten(at.Topic) },
		"begun":     func(*State, ID) (uint16, []byte) { e := Begun{at, 5, 4}; return KindBegun, e.Append(nil) },
	} {
		s := New()
		for _, place := range []Place{at, other} {
			e := Begun{place, 5, 9}
			apply(t, s, KindBegun, e.Append(nil))
		}
		old := s.Partition(at).ID
		kind, body := end(s, old)
		apply(t, s, kind, body)
		if again := s.Partition(at); (again == nil) != (what != "begun") || s.ByID(old) != nil {
			t.Errorf("%s: %+v", what, again)
		}
		if got := len(s.Of("workers")); got != s.Len() || !s.Has("workers") || len(s.Groups()) != 1 {
			t.Errorf("%s: %d of %d share partitions", what, got, s.Len())
		}
		if err := s.Restore(s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		e := Begun{at, 5, 9}
		apply(t, s, KindBegun, e.Append(nil))
		before := s.Snapshot()
		late := Updated{ID: old, Lent: -1, Changes: []Run{{First: 5, Last: 9, Done: true}}}
		apply(t, s, KindUpdated, late.Append(nil))
		opened := Opened{old, 9}
		apply(t, s, KindOpened, opened.Append(nil))
		if !bytes.Equal(before, s.Snapshot()) || s.Partition(at).ID <= old+1 {
			t.Errorf("%s: %+v", what, s.Partition(at))
		}
		apply(t, s, KindDeleted, EncodeDeleted([]ID{s.Partition(at).ID, s.Partition(other).ID}))
		if s.Len() != 0 || s.Has("workers") || len(s.Snapshot()) == 0 {
			t.Errorf("%s: %d share partitions are left, or the ids are forgotten", what, s.Len())
		}
	}
}

// TestEmpty: a state in which nothing was shared is not in a checkpoint.
func TestEmpty(t *testing.T) {
	s := New()
	if len(s.Snapshot()) != 0 {
		t.Error("it has a snapshot")
	}
	e := Begun{at, 0, -1}
	apply(t, s, KindBegun, e.Append(nil))
	if err := s.Restore(nil); err != nil || s.Len() != 0 || len(s.Snapshot()) != 0 {
		t.Errorf("%d share partitions: %v", s.Len(), err)
	}
}

// TestCorrupt: what this package does not write is refused, and changes nothing.
func TestCorrupt(t *testing.T) {
	s := New()
	begun := Begun{at, 5, 9}
	apply(t, s, KindBegun, begun.Append(nil))
	update := Updated{ID: 1, Lent: 12, Changes: []Run{{First: 5, Last: 5, Done: true}, {First: 7, Last: 8, Count: 2}}}
	body := update.Append(nil)
	before := s.Snapshot()
	for n := range body {
		if err := s.Apply(KindUpdated, body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, bad := range [][]byte{append(bytes.Clone(body), 0), append([]byte{2}, body[1:]...)} {
		if err := s.Apply(KindUpdated, bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if err := s.Apply(190, body); !errors.Is(err, ErrCorrupt) {
		t.Errorf("kind 190: %v", err)
	}
	apply(t, s, KindUpdated, body)
	after := s.Snapshot()
	for i := range after {
		bad := bytes.Clone(after)
		bad[i] ^= 0x81
		_ = s.Restore(bad) // some are other states
		if err := s.Restore(after[:i]); i > 0 && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if err := s.Restore(before); err != nil || !bytes.Equal(before, s.Snapshot()) {
		t.Error(err)
	}
	// Two runs that are one, a run of nothing, done records at the start, a run that was not lent.
	for _, runs := range [][]Run{{{5, 5, false, 1}, {6, 6, false, 1}}, {{6, 6, false, 0}}, {{5, 6, true, 0}}, {{9, 11, false, 1}}} {
		p := Partition{ID: 1, Place: at, Start: 5, Lent: 10, Runs: runs}
		bad := &State{last: 1, places: map[Place]*Partition{at: &p}}
		if err := s.Restore(bad.Snapshot()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", runs, err)
		}
	}
}

// FuzzState: no body makes a state that its own snapshot does not restore.
func FuzzState(f *testing.F) {
	begun, opened := Begun{at, 5, 9}, Opened{1, 7}
	update := Updated{ID: 1, Start: 6, Lent: 12, Changes: []Run{{First: 7, Last: 7, Done: true}, {First: 8, Last: 9, Count: 2}}}
	f.Add(begun.Append(nil), update.Append(nil), KindUpdated)
	f.Add(begun.Append(nil), opened.Append(nil), KindOpened)
	f.Add(begun.Append(nil), EncodeDeleted([]ID{1}), KindDeleted)
	f.Fuzz(func(t *testing.T, first, second []byte, kind uint16) {
		s := New()
		_ = s.Apply(KindBegun, first)
		_ = s.Apply(kind, second)
		body := s.Snapshot()
		if err := New().Restore(body); err != nil {
			t.Fatalf("%x: %v", body, err)
		}
		if s.Restore(second) == nil && !bytes.Equal(s.Snapshot(), second) {
			t.Fatalf("%x restores to %x", second, s.Snapshot())
		}
	})
}
