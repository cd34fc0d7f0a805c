package commitlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// sliced is a Machine that keeps a word for each slice. Its entries are "slice word".
type sliced struct{ words map[weir.Slice]string }

const slicedKind = 100

func newSliced() *sliced { return &sliced{make(map[weir.Slice]string)} }

func (m *sliced) Kinds() []uint16 { return []uint16{slicedKind} }

func (m *sliced) Apply(_ uint16, body []byte) error {
	slice, word := m.parse(body)
	m.words[slice] = word
	return nil
}

func (m *sliced) parse(body []byte) (slice weir.Slice, word string) {
	must(second(fmt.Sscan(string(body), &slice, &word)))
	return slice, word
}

func (m *sliced) SliceOf(_ uint16, body []byte) (weir.Slice, bool) {
	slice, _ := m.parse(body)
	return slice, true
}

func (m *sliced) encode(words map[weir.Slice]string) []byte {
	if len(words) == 0 {
		return nil
	}
	body, err := json.Marshal(words)
	must(err)
	return body
}

func (m *sliced) Snapshot() []byte { return m.encode(m.words) }

func (m *sliced) Restore(body []byte) error {
	m.words = make(map[weir.Slice]string)
	return m.Import(body)
}

func (m *sliced) Export(set weir.SliceSet) []byte {
	some := maps.Clone(m.words)
	maps.DeleteFunc(some, func(slice weir.Slice, _ string) bool { return !set.Has(slice) })
	return m.encode(some)
}

func (m *sliced) Import(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, &m.words)
}

func (m *sliced) Remove(set weir.SliceSet) {
	maps.DeleteFunc(m.words, func(slice weir.Slice, _ string) bool { return set.Has(slice) })
}

// tidy makes the upkeep run only when it is asked.
func tidy(o *Options) { o.Upkeep.Bytes, o.Upkeep.Slots, o.Upkeep.Adopt = 1<<30, 1<<30, 1 }

// openPair opens the logs of shards 0 and 1 of a bucket, each with a sliced Machine.
func openPair(t testing.TB, b storage.Bucket, change ...func(*Options)) (a, to *Log, ma, mb *sliced) {
	t.Helper()
	ma, mb = newSliced(), newSliced()
	a = open(t, b, append([]func(*Options){tidy, with(ma)}, change...)...)
	to = open(t, b, append([]func(*Options){tidy, with(mb), func(o *Options) { o.Shard = 1 }}, change...)...)
	return a, to, ma, mb
}

// moveOf is a move of the slices of some partitions.
func moveOf(n byte, from, to uint32, places ...state.Place) weir.Move {
	m := weir.Move{ID: weir.MoveID{15: n}, From: from, To: to}
	for _, p := range places {
		m.Slices.Add(p.SliceOf())
	}
	return m
}

// moved moves slices.
func moved(t testing.TB, from, to *Log, m weir.Move) {
	t.Helper()
	ctx := context.Background()
	err := from.Separate(ctx, m.Slices)
	if err == nil {
		err = from.Stop(ctx, m)
	}
	var e *Export
	if err == nil {
		e, err = from.Export(ctx, m)
	}
	if err == nil {
		err = to.Import(ctx, m, e)
	}
	if err == nil {
		err = from.MoveOut(ctx, m)
	}
	if err == nil {
		err = to.ConfirmMove(ctx, m)
	}
	if err == nil {
		err = from.Settle(ctx, m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMove: what one log has of some slices is in the other afterwards, and nowhere else;
// so it is for the next owners.
func TestMove(t *testing.T) {
	b := mem.New()
	a, to, ma, mb := openPair(t, b)
	topic := createTopic(t, a, "t", 4)
	place := func(p int32) state.Place { return state.Place{Topic: topic.ID, Partition: p} }
	var want [4][]string
	fill := func(l *Log, p int32, n int) {
		t.Helper()
		for range n {
			v := fmt.Sprint(p, " ", len(want[p]))
			if base := appended(t, l, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch(v)}); base != int64(len(want[p])) {
				t.Fatalf("%q is at offset %d", v, base)
			}
			want[p] = append(want[p], v)
		}
	}
	for p := range int32(4) {
		fill(a, p, 5)
		must(a.Propose(t.Context(), slicedKind, fmt.Appendf(nil, "%d word%d", place(p).SliceOf(), p)))
	}
	maintained(t, a) // slots that serve as segments, with all partitions
	for p := range int32(4) {
		fill(a, p, 5)
	}
	m := moveOf(1, 0, 1, place(1), place(2))
	leader := a.LeaderEpoch(topic.ID, 1)
	moved(t, a, to, m)

	verify := func() {
		t.Helper()
		for p := range int32(4) {
			has, not := a, to
			if p == 1 || p == 2 {
				has, not = to, a
			}
			if got := readAll(t, has, topic.ID, p); !slices.Equal(got, want[p]) {
				t.Fatalf("partition %d has %q", p, got)
			}
			if r := <-send(not, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch("x")}); not == a && !errors.Is(r.err, ErrMoved) {
				t.Errorf("partition %d is gone, and takes an append: %+v", p, r)
			}
			if _, err := not.Fetch(t.Context(), topic.ID, p, 0, 1); not == a && !errors.Is(err, ErrMoved) {
				t.Errorf("partition %d is gone, and is read: %v", p, err)
			}
		}
		if ma.words[place(1).SliceOf()] != "" || mb.words[place(1).SliceOf()] != "word1" || mb.words[place(0).SliceOf()] != "" || ma.words[place(3).SliceOf()] != "word3" {
			t.Errorf("%v and %v", ma.words, mb.words)
		}
		if err := a.Propose(t.Context(), slicedKind, fmt.Appendf(nil, "%d x", place(1).SliceOf())); !errors.Is(err, ErrMoved) {
			t.Errorf("an entry about a slice that is gone: %v", err)
		}
		if got := to.LeaderEpoch(topic.ID, 1); got <= leader {
			t.Errorf("leader epoch %d after %d", got, leader)
		}
	}
	reopen := func() {
		t.Helper()
		must(a.Close())
		must(to.Close())
		a, to, ma, mb = openPair(t, b)
	}
	verify()
	reopen()
	verify()
	for p := range int32(4) {
		if p == 1 || p == 2 {
			fill(to, p, 3)
		} else {
			fill(a, p, 3)
		}
	}
	for range 3 {
		maintained(t, a)
		maintained(t, to)
	}
	reopen()
	verify()
	for range 3 { // until leftovers of the epochs are deleted
		maintained(t, a)
		maintained(t, to)
		reopen()
	}
	verify()
	must(to.DropTopic(t.Context(), topic.ID, a.feed.at))
	for range 3 {
		maintained(t, to)
	}
	if left := foreign(to); left > 0 {
		t.Errorf("%d segments of the other shard are left", left)
	}
	must(a.Close())
	must(to.Close())
	for _, key := range keys(t, b, "0000/segment/") {
		if !strings.Contains(key, "/") {
			t.Error(key)
		}
	}
}

// foreign counts segments of other shards that the log has.
func foreign(l *Log) (n int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for id := range l.state.Segments {
		if id.Other != 0 {
			n++
		}
	}
	for _, id := range l.state.Garbage {
		if id.Other != 0 {
			n++
		}
	}
	return n
}
