package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// testMove moves the slice of the first partition of testTopic from shard 1 to 2.
func testMove() weir.Move {
	m := weir.Move{ID: weir.MoveID([]byte("0123456789abcdef")), From: 1, To: 2}
	m.Slices.Add(Place{Topic: testTopic.ID}.SliceOf())
	return m
}

func moveEntries() []journal.Entry {
	m := testMove()
	first := weir.FirstMap(5)
	return []journal.Entry{
		{Kind: KindSliceMap, Body: EncodeSliceMap(&weir.Map{})},
		{Kind: KindSliceMap, Body: EncodeSliceMap(&first)},
		{Kind: KindShardCount, Body: EncodeShardCount(5)},
		{Kind: KindMovedOut, Body: EncodeMovedOut(m)},
		{Kind: KindMovedOut, Body: EncodeMoveVoid(m.ID)},
		{Kind: KindMovedOut, Body: EncodeMoveSettled(m.ID)},
		{Kind: KindImported, Body: EncodeImported(m, 1, 3, []byte("part"))},
		{Kind: KindImported, Body: EncodeImportConfirmed(m.ID)},
		{Kind: KindImported, Body: EncodeImportCancelled(m.ID)},
	}
}

func recodeMove(kind uint16, body []byte) ([]byte, error) {
	x, err := decodeMove(kind, body)
	if err != nil {
		return nil, err
	}
	out := [...]func(moveEntry) []byte{
		func(x moveEntry) []byte { return EncodeMovedOut(x.move) },
		func(x moveEntry) []byte { return EncodeMoveVoid(x.move.ID) },
		func(x moveEntry) []byte { return EncodeMoveSettled(x.move.ID) },
	}
	in := [...]func(moveEntry) []byte{
		func(x moveEntry) []byte { return EncodeImported(x.move, x.part, x.of, x.body) },
		func(x moveEntry) []byte { return EncodeImportConfirmed(x.move.ID) },
		func(x moveEntry) []byte { return EncodeImportCancelled(x.move.ID) },
	}
	if kind == KindMovedOut {
		return out[x.op](x), nil
	}
	return in[x.op](x), nil
}

// The bytes at rest do not change by accident.
func TestGoldenMoves(t *testing.T) {
	m := testMove()
	set := string(appendSlices(nil, &m.Slices))
	if len(set) != 128 || strings.Count(set, "\x00") != 127 {
		t.Fatalf("%q", set)
	}
	move := "0123456789abcdef\x00\x00\x00\x01\x00\x00\x00\x02" + set
	halves := weir.Map{}
	for i := range 512 {
		halves[512+i] = 300
	}
	want := []string{
		"\x01\x80\x08\x00", "", "\x01\x00\x00\x00\x05",
		"\x01\x00" + move, "\x01\x010123456789abcdef", "\x01\x020123456789abcdef",
		"\x01\x00" + move + "\x00\x00\x00\x01\x00\x00\x00\x03part", "\x01\x010123456789abcdef", "\x01\x020123456789abcdef",
	}
	for i, e := range moveEntries() {
		if want[i] != "" && string(e.Body) != want[i] {
			t.Errorf("kind %d:\n got %q\nwant %q", e.Kind, e.Body, want[i])
		}
	}
	if got := string(EncodeSliceMap(&halves)); got != "\x01\x80\x04\x00\x80\x04\xac\x02" {
		t.Errorf("map: %q", got)
	}
	s := Empty()
	s.Moves = &Moves{
		Out: []weir.Move{m}, Away: m.Slices, Lent: map[SegmentID]bool{{Epoch: 2, Number: 4}: true}, Biases: map[weir.Slice]int32{5: 300},
		In:    []*Arrival{{Move: weir.Move{ID: weir.MoveID{1}, From: 2, To: 1, Slices: m.Slices}, Body: []byte("body"), Parts: 1, Of: 2, dropped: map[weir.TopicID]bool{testTopic.ID: true}}},
		Ended: []EndedMove{{weir.MoveID([]byte("fedcba9876543210")), MoveVoid}},
	}
	s.Layout = &Layout{Map: halves, Shards: 301}
	id := func(n byte) string { return string([]byte{n}) + strings.Repeat("\x00", 15) }
	wants := "\x06\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00" + // as version 5
		"\x01" + "\x01" + move + "\x01" + id(1) + "\x00\x00\x00\x02\x00\x00\x00\x01" + set + "\x01\x02" + "\x01" + id(1) + "\x04body" +
		"\x01fedcba9876543210\x01" + set + "\x01\x00\x04\x08" + "\x01\x05\xac\x02" +
		"\x01\xad\x02\x80\x04\x00\x80\x04\xac\x02"
	if got := string(s.encode()); got != wants {
		t.Errorf("state:\n got %q\nwant %q", got, wants)
	}
	decoded(t, s)
}

// A log that breaks a rule of moves must not be led.
func TestMoveRules(t *testing.T) {
	m := testMove()
	other := m
	other.To = 3
	out := func(body []byte) journal.Entry { return journal.Entry{Kind: KindMovedOut, Body: body} }
	in := func(body []byte) journal.Entry { return journal.Entry{Kind: KindImported, Body: body} }
	part := func(m weir.Move, part, of int) journal.Entry { return in(EncodeImported(m, part, of, []byte("x"))) }
	left, void, settled := out(EncodeMovedOut(m)), out(EncodeMoveVoid(m.ID)), out(EncodeMoveSettled(m.ID))
	confirmed, cancelled := in(EncodeImportConfirmed(m.ID)), in(EncodeImportCancelled(m.ID))
	count := func(n uint32) journal.Entry { return journal.Entry{Kind: KindShardCount, Body: EncodeShardCount(n)} }
	for name, c := range map[string]struct {
		entries []journal.Entry
		want    string
	}{
		"out twice":            {[]journal.Entry{left, left}, "was so before"},
		"out after void":       {[]journal.Entry{void, left}, "was given up"},
		"out with runs":        {[]journal.Entry{created(), runOf(0, recordtest.Batch("a")), left}, "in slots"},
		"void after out":       {[]journal.Entry{left, void}, "has ended before"},
		"void twice":           {[]journal.Entry{void, void}, "has ended before"},
		"void after settled":   {[]journal.Entry{left, settled, void}, "has ended before"},
		"settled before out":   {[]journal.Entry{settled}, "did not move out"},
		"settled twice":        {[]journal.Entry{left, settled, settled}, "did not move out"},
		"second part first":    {[]journal.Entry{part(m, 1, 2)}, "follows another one"},
		"part twice":           {[]journal.Entry{part(m, 0, 2), part(m, 0, 2)}, "follows another one"},
		"part of another":      {[]journal.Entry{part(m, 0, 2), part(other, 1, 2)}, "follows another one"},
		"another number":       {[]journal.Entry{part(m, 0, 2), part(m, 1, 3)}, "follows another one"},
		"confirmed without":    {[]journal.Entry{confirmed}, "is not here"},
		"confirmed half":       {[]journal.Entry{part(m, 0, 2), confirmed}, "is not here"},
		"confirmed nonsense":   {[]journal.Entry{part(m, 0, 1), confirmed}, "corrupt"},
		"cancelled without":    {[]journal.Entry{cancelled}, "there is none"},
		"import after the end": {[]journal.Entry{part(m, 0, 2), cancelled, part(m, 0, 2)}, "has ended before"},
		"fewer shards":         {[]journal.Entry{count(3), count(2)}, "2 shards follow 3"},
		"too many shards":      {[]journal.Entry{count(weir.MaxShards + 1)}, "shards follow"},
	} {
		if _, err := applied(c.entries...); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string][]byte{
		"to shard 0":  EncodeMovedOut(weir.Move{ID: m.ID, From: 1, Slices: m.Slices}),
		"to itself":   EncodeMovedOut(weir.Move{ID: m.ID, From: 1, To: 1, Slices: m.Slices}),
		"no slices":   EncodeMovedOut(weir.Move{ID: m.ID, From: 1, To: 2}),
		"unknown op":  {1, 3},
		"short":       EncodeMovedOut(m)[:50],
		"beyond map":  append(EncodeSliceMap(&weir.Map{}), 0, 0),
		"not maximal": {1, 1, 0, 0xff, 7, 0},
	} {
		kind := KindMovedOut
		if strings.Contains(name, "ma") {
			kind = KindSliceMap
		}
		if _, err := applied(journal.Entry{Kind: kind, Body: body}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A checkpoint bounds what it says of moves that have ended.
func TestMovesForgotten(t *testing.T) {
	s := Empty()
	for i := range 2 * maxEnded {
		id := weir.MoveID{byte(i), byte(i >> 8), 1}
		must(s.Apply(journal.Position{Epoch: 1, Slot: uint64(i + 1)}, journal.Entry{Kind: KindMovedOut, Body: EncodeMoveVoid(id)}))
	}
	if len(s.Moves.Ended) != maxEnded || s.MoveEnded(weir.MoveID{0, 0, 1}) != 0 || s.MoveEnded(weir.MoveID{255, 1, 1}) != MoveVoid {
		t.Errorf("%d moves are remembered", len(s.Moves.Ended))
	}
	decoded(t, s)
}

// moving is an entry of a log whose slices come and go.
func (w *wanderer) moving() (uint16, []byte) {
	ms := w.s.Moves
	id := weir.MoveID{byte(w.rng.IntN(256)), byte(w.rng.IntN(256)), byte(w.pos.Slot), 1}
	switch n := w.rng.IntN(12); {
	case n == 0:
		m := weir.FirstMap(1 + w.rng.IntN(5))
		return KindSliceMap, EncodeSliceMap(&m)
	case n == 1 && (w.s.Layout == nil || w.s.Layout.Shards < 1000):
		count := uint32(5)
		if w.s.Layout != nil {
			count = max(count, w.s.Layout.Shards+w.rng.Uint32N(2))
		}
		return KindShardCount, EncodeShardCount(count)
	case n == 2:
		return KindMovedOut, EncodeMoveVoid(id)
	case n == 3 && ms != nil && len(ms.Out) > 0:
		return KindMovedOut, EncodeMoveSettled(ms.Out[w.rng.IntN(len(ms.Out))].ID)
	case n < 8 && ms != nil && len(ms.In) > 0:
		return w.arriving(ms.In[0])
	case n < 10 && len(w.away) > 0 && (ms == nil || len(ms.In) == 0):
		return w.back(id)
	}
	return w.leaving(id)
}

// leaving moves slices out, if something that can move is there.
func (w *wanderer) leaving(id weir.MoveID) (uint16, []byte) {
	m := weir.Move{ID: id, From: 1, To: 2}
	for _, topic := range sortedTopics(w.s.Topics) {
		t := w.s.Topics[topic]
		for _, p := range t.Parts {
			m.Slices = weir.SliceSet{}
			if m.Slices.Add(p.Key.SliceOf()); p.End == 0 || w.s.IsAway(p.Key) || w.s.Arriving(p.Key.SliceOf()) || !t.Deleting.IsZero() {
				continue
			}
			x, err := w.s.Departing(m, int32(w.pos.Epoch), w.pos)
			if err != nil {
				continue
			}
			w.away, w.bodies = append(w.away, m), append(w.bodies, Machines{}.Export(x.Append(nil), m.Slices))
			maps.DeleteFunc(w.marks, func(k MarkKey, _ uint64) bool { return m.Slices.Has(k.Place.SliceOf()) })
			return KindMovedOut, EncodeMovedOut(m)
		}
	}
	return 0, nil
}

// back imports the first half of what is away, as the other shard would export it.
func (w *wanderer) back(id weir.MoveID) (uint16, []byte) {
	s, _, err := DecodeExport(w.away[0], w.bodies[0])
	must(err)
	m := weir.Move{ID: id, From: 2, To: 1, Slices: w.away[0].Slices}
	s.Moves.Biases = nil
	x, err := s.Departing(m, int32(w.pos.Epoch)+5, w.pos)
	must(err)
	w.away[0], w.bodies[0] = m, Machines{}.Export(x.Append(nil), m.Slices)
	return KindImported, EncodeImported(m, 0, 2, w.bodies[0][:len(w.bodies[0])/2])
}

// arriving goes on with an import, or ends it.
func (w *wanderer) arriving(a *Arrival) (uint16, []byte) {
	body := w.bodies[0]
	switch n := w.rng.IntN(3); {
	case n == 0:
		w.away[0].ID = weir.MoveID{byte(w.rng.IntN(256)), byte(w.rng.IntN(256)), byte(w.pos.Slot), 2}
		w.reexport(a.ID)
		return KindImported, EncodeImportCancelled(a.ID)
	case !a.Whole():
		return KindImported, EncodeImported(a.Move, 1, 2, body[len(body)/2:])
	}
	s, _, err := DecodeExport(a.Move, body)
	must(err)
	for name, g := range s.Gateways {
		for id, b := range g.Buffers {
			retired := w.s.Gateways[name] != nil && w.s.Gateways[name].state(id) == weir.BufferRetired
			for k, last := range b.Marks {
				if w.s.Partition(k.Place) != nil && !retired {
					w.marks[MarkKey{weir.Stream{Gateway: name, Buffer: id, Lane: k.Lane}, k.Place}] = last
				}
			}
		}
	}
	w.away, w.bodies = w.away[1:], w.bodies[1:]
	return KindImported, EncodeImportConfirmed(a.ID)
}

// reexport makes what the other shard has the body of another move, from here to there.
func (w *wanderer) reexport(old weir.MoveID) {
	was := w.away[0]
	was.ID = old
	s, _, err := DecodeExport(was, w.bodies[0])
	must(err)
	m := weir.Move{ID: w.away[0].ID, From: 1, To: 2, Slices: was.Slices}
	leaders := maps.Clone(s.Moves.Biases)
	s.Moves.Biases = nil
	x, err := s.Departing(m, 0, w.pos)
	must(err)
	x.Moves.Biases = leaders
	for _, t := range x.Topics {
		for _, p := range t.Parts {
			p.Bias = x.bias(p.Key)
		}
	}
	w.away[0], w.bodies[0] = m, Machines{}.Export(x.Append(nil), m.Slices)
}

// What is exported and comes back is what it was, but for its leader epochs, which grow.
func TestMoveThereAndBack(t *testing.T) {
	moves := 0
	for seed := uint64(3); seed < 120; seed += 4 {
		w := newWanderer(seed)
		w.walk(150)
		before := w.s.encode()
		s, err := decodeState(before)
		must(err)
		kind, body := w.leaving(weir.MoveID{9, 9})
		if body == nil {
			continue
		}
		moves++
		m, export := w.away[len(w.away)-1], w.bodies[len(w.bodies)-1]
		pos := journal.Position{Epoch: w.pos.Epoch, Slot: w.pos.Slot + 1}
		must(s.Apply(pos, journal.Entry{Kind: kind, Body: body}))
		if len(s.encode()) >= len(before)+256 {
			t.Errorf("seed %d: nothing was forgotten", seed)
		}
		again, _, err := DecodeExport(m, export)
		must(err)
		home := weir.Move{ID: weir.MoveID{8}, From: 2, To: 1, Slices: m.Slices}
		leader := int32(0)
		for _, bias := range again.Moves.Biases {
			leader = max(leader, bias)
		}
		again.Moves.Biases = nil
		x, err := again.Departing(home, leader+3, pos)
		must(err)
		all := Machines{}.Export(x.Append(nil), m.Slices)
		must(s.Apply(pos, journal.Entry{Kind: KindImported, Body: EncodeImported(home, 0, 1, all)}))
		must(s.Apply(pos, journal.Entry{Kind: KindImported, Body: EncodeImportConfirmed(home.ID)}))
		for id, topic := range w.s.Topics {
			for i, p := range topic.Parts {
				q := s.Topics[id].Parts[i]
				if m.Slices.Has(p.Key.SliceOf()) {
					if q.LeaderEpoch(int32(pos.Epoch)) != leader+4 {
						t.Errorf("seed %d: leader epoch %d after %d", seed, q.LeaderEpoch(int32(pos.Epoch)), leader+3)
					}
					q.Bias = p.Bias
				}
			}
		}
		was, err := decodeState(before)
		must(err)
		if len(s.Moves.Lent) > 0 && (was.Moves == nil || len(was.Moves.Lent) == 0) {
			t.Errorf("seed %d: %v are lent", seed, s.Moves.Lent)
		}
		s.Moves, was.Moves, s.Catalogue = nil, nil, was.Catalogue
		if a, b := s.encode(), was.encode(); !bytes.Equal(a, b) {
			t.Errorf("seed %d:\n%x\n%x", seed, a, b)
		}
	}
	if moves < 10 {
		t.Error(fmt.Sprint(moves, " moves"))
	}
}
