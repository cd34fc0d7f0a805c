package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// same compares states; what is empty may be nil, and garbage has no order.
func same(a, b *State) bool {
	a, b = tidied(a), tidied(b)
	return reflect.DeepEqual(a, b)
}

// tidied is a copy of what the log determines of a state.
func tidied(s *State) *State {
	c := Empty()
	c.Become(s)
	c.Garbage = append([]SegmentID(nil), s.Garbage...)
	slices.SortFunc(c.Garbage, SegmentID.compare)
	c.Slots = AdoptedSlots{} // without those that are dead
	for _, x := range s.Slots.all {
		if x.live > 0 {
			c.Slots.all = append(c.Slots.all, adoptedSlot{x.epoch, x.slot, 0, x.live})
		}
	}
	if m := s.Moves; m != nil { // what is empty is nil
		c.Moves = &Moves{Out: append([]weir.Move(nil), m.Out...), Ended: append([]EndedMove(nil), m.Ended...), Away: m.Away, Lent: m.Lent, Biases: m.Biases}
		for _, a := range m.In {
			b := *a
			b.Body = append([]byte{}, a.Body...)
			c.Moves.In = append(c.Moves.In, &b)
		}
	}
	c.Topics, c.Names = make(map[weir.TopicID]*TopicData), make(map[string]*TopicData)
	for id, t := range s.Topics {
		copied := &TopicData{Topic: t.Topic, Opened: t.Opened, Deleting: t.Deleting}
		for _, p := range t.Parts {
			q := &Partition{Key: p.Key, Bias: p.Bias, Start: p.Start, End: p.End}
			q.Pieces, q.Index = append(q.Pieces, p.Pieces...), append(q.Index, p.Index...)
			if len(p.Producers.Young) > 0 {
				q.Producers.Young = p.Producers.Young
			}
			if len(p.Producers.Old) > 0 {
				q.Producers.Old = p.Producers.Old
			}
			if len(p.Producers.Open) > 0 {
				q.Producers.Open = p.Producers.Open
			}
			q.Aborted, q.Epochs = append(q.Aborted, p.Aborted...), append(q.Epochs, p.Epochs...)
			copied.Parts = append(copied.Parts, q)
		}
		c.Topics[id], c.Names[t.Name] = copied, copied
	}
	return c
}

// decoded proves that a state survives a checkpoint, and returns what came back.
func decoded(t testing.TB, s *State) *State {
	t.Helper()
	body := s.encode()
	got, err := decodeState(body)
	if err != nil {
		t.Fatal(err)
	}
	if !same(got, s) {
		t.Fatalf("decoded\n%+v, want\n%+v", tidied(got), tidied(s))
	}
	if again := got.encode(); !bytes.Equal(again, body) {
		t.Fatalf("encoded again:\n%x, want\n%x", again, body)
	}
	return got
}

// A state that comes from a checkpoint is the state, at each place in a log: it
// is equal, and the entries behind make the same of both.
func TestStateRoundTrip(t *testing.T) {
	for seed := range uint64(40) {
		w := newWanderer(seed)
		fork := Empty()
		for range 250 {
			pos, e := w.next()
			must(w.s.Apply(pos, e))
			if err := fork.Apply(pos, e); err != nil {
				t.Fatalf("seed %d: kind %d is not applied to the state from a checkpoint: %v", seed, e.Kind, err)
			}
			if w.rng.IntN(25) == 0 {
				fork = decoded(t, w.s)
			}
		}
		if !same(fork, w.s) || !bytes.Equal(fork.encode(), w.s.encode()) {
			t.Fatalf("seed %d: the same entries made another state", seed)
		}
		if m := w.s.Moves; w.sharded && (m == nil || len(m.Ended) < 3) {
			t.Errorf("seed %d: hardly any slices moved", seed)
		}
		if seed%4 == 3 && len(w.s.Dropped) == 0 || seed%4 == 1 && w.s.hasOpened() {
			t.Errorf("seed %d: %d topics were dropped", seed, len(w.s.Dropped))
		}
		if !w.s.Before(journal.Position{Epoch: w.pos.Epoch, Slot: w.pos.Slot + 1}) {
			t.Errorf("seed %d: the state is not before the end of its log", seed)
		}
	}
}

// The two generations of producers, and more tombstones than are remembered.
func TestStateAtItsLimits(t *testing.T) {
	s := Empty()
	must(s.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	for i := range int64(producerLimit + 100) {
		// The second hundred comes back and moves to the young.
		id := i % (producerLimit + 50)
		pos := journal.Position{Epoch: 1, Slot: uint64(i + 2)}
		must(s.Apply(pos, runOf(i, recordtest.Produced(id*7, int16(i/(producerLimit+50)), 0, "v"))))
	}
	for i := range uint32(tombstones + 3) {
		s.retire(BufferKey{"g", buffer(i)})
		if i == tombstones-1 {
			decoded(t, s)
		}
	}
	p := s.Partition(Place{testTopic.ID, 0})
	if len(p.Producers.Old) == 0 || len(p.Producers.Young) == 0 || !s.Gateways["g"].forgotten {
		t.Fatal("the limits are not reached")
	}
	got := decoded(t, s)
	if len(got.Partition(p.Key).Producers.Old) != len(p.Producers.Old) {
		t.Error("old producers are lost")
	}
}

func TestBefore(t *testing.T) {
	s := goldenState()
	for pos, ok := range map[journal.Position]bool{{Epoch: 3, Slot: 1}: false, {Epoch: 3, Slot: 2}: true} {
		if s.Before(pos) != ok {
			t.Errorf("at %v: %v", pos, !ok)
		}
	}
	s.Segments[SegmentID{Epoch: 4, Number: 1}] = 1
	if s.Before(journal.Position{Epoch: 3, Slot: 2}) {
		t.Error("a segment of a later epoch")
	}
}

func TestSections(t *testing.T) {
	a, c := &recorder{kinds: []uint16{300, 101, 200}, got: []string{"a"}}, &recorder{kinds: []uint16{150}, got: []string{"c"}}
	ms, err := NewMachines([]Machine{c, a})
	must(err)
	s := goldenState()
	body := ms.Checkpoint(s.Append)
	own, sections, err := splitBody(body)
	if err != nil || len(sections) != 2 || sections[0].kind != 101 || sections[1].kind != 150 || !bytes.Equal(own, s.encode()) {
		t.Errorf("%v %v", sections, err)
	}
	if got, again, err := DecodeCheckpoint(body); err != nil || !same(got, s) || !reflect.DeepEqual(again, sections) {
		t.Errorf("%v %v", again, err)
	}
}

func TestBodyDamage(t *testing.T) {
	a := &recorder{kinds: []uint16{100}, got: []string{"x"}}
	ms, err := NewMachines([]Machine{a})
	must(err)
	w := newWanderer(1)
	w.walk(30)
	body := ms.Checkpoint(w.s.Append)
	for n := range body {
		// Without its last section it is whole, but for a byte or more.
		if _, sections, err := DecodeCheckpoint(body[:n]); !errors.Is(err, ErrCorrupt) && len(sections) > 0 {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := DecodeCheckpoint([]byte{2}); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	own := body[:5+binary.BigEndian.Uint32(body[1:])]
	for name, tail := range map[string][]byte{
		"own kind":      {0, 99, 0, 0, 0, 0},
		"twice":         {0, 100, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0},
		"out of order":  {0, 101, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0},
		"too long":      {0, 100, 0, 0, 0, 1},
		"short head":    {0, 100, 0},
		"bytes behind":  {0, 100, 0, 0, 0, 0, 1},
		"kind and half": {0, 100, 0, 0, 0, 1, 7, 0},
	} {
		if _, _, err := splitBody(slices.Concat(own, tail)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A damaged state is found, or it is another state: nothing decodes that would
// have been encoded otherwise. (The journal's checksum is what finds flips.)
func TestStateDamage(t *testing.T) {
	for seed := range uint64(4) {
		w := newWanderer(seed)
		w.walk(60)
		body := w.s.encode()
		for n := range body {
			strict(t, body[:n])
			if _, err := decodeState(body[:n]); err == nil {
				t.Errorf("seed %d: cut at %d of %d is not found", seed, n, len(body))
			}
		}
		for i := range body {
			for bit := range 8 {
				damaged := bytes.Clone(body)
				damaged[i] ^= 1 << bit
				strict(t, damaged)
			}
		}
	}
}

// strict fails if a body decodes that is not canonical.
func strict(t testing.TB, body []byte) {
	t.Helper()
	s, err := decodeState(body)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		return
	}
	if body[0] == 1 {
		_ = decoded(t, s) // of the version before
	} else if again := s.encode(); !bytes.Equal(again, body) {
		t.Fatalf("decoded\n%x, which is encoded as\n%x", body, again)
	}
}

// goldenState has one of everything.
func goldenState() *State {
	s := Empty()
	s.ProducerIDs, s.Cleaned, s.truncated = 1001, 2, journal.Position{Epoch: 2, Slot: 7}
	id := weir.TopicID([]byte("0123456789abcdef"))
	must(s.createTopic(Topic{ID: id, Name: "ab", Partitions: 2, Created: 256, Configs: map[string]string{"x": "1"}}))
	p := s.Topics[id].Parts[0]
	p.Start, p.End = 5, 30
	p.Pieces = []Piece{{Base: 3, Next: 10, Time: 1000, Segment: SegmentID{Epoch: 2, Number: 4}, At: 64, Size: 1000, Index: 130, Records: 7}}
	p.Index = []Extent{
		{Base: 10, Time: 1001, slot: 9, epoch: 2, Leader: 2, At: 200, Size: 100},
		{Base: 20, Time: 990, slot: 1, epoch: 3, Leader: 3, At: 40, Size: 300},
	}
	p.Producers.Young = map[int64]*Producer{7: {Known: true, Epoch: 1, n: 2, last: [remembered]sequences{{3, 4, 10}, {5, 5, 12}}, time: 1001}}
	p.Producers.Old = map[int64]*Producer{300: {Known: true, n: 1, last: [remembered]sequences{{0, 0, 1}}, time: -1}, 301: {Known: true, Epoch: 4, time: 1000}}
	p.Producers.Open = map[int64]*Producer{5: {Known: true, n: 1, last: [remembered]sequences{{0, 2, 20}}, time: 1000, Open: true, First: 20}}
	p.Aborted = []Abort{{Aborted{9, 2, 6}, 7}, {Aborted{301, 11, 21}, 20}}
	p.Epochs = Epochs{{1, 5}, {2, 8}, {3, 20}}
	s.Segments[SegmentID{Epoch: 2, Number: 4}] = 1
	s.Garbage = []SegmentID{{Epoch: 2, Number: 3}, {Epoch: 1, Number: 9}}
	g := s.gateway("g1")
	g.retired = []weir.BufferID{buffer(1)}
	g.Buffers[buffer(2)] = &progress{
		Marks:   map[laneKey]uint64{{1, Place{id, 0}}: 300, {1, Place{id, 1}}: 299},
		Rows:    map[rowKey]weir.Row{{1, id}: {Partitions: 2, From: 1}},
		Reached: map[weir.Lane]uint64{1: 300},
	}
	return s
}

// The bytes at rest do not change by accident.
func TestGoldenState(t *testing.T) {
	s := goldenState()
	want := "\x02" + "\xe9\x07" + "\x02" + "\x02\x07" +
		"\x01" + // topics
		"\x29" + "\x01" + "0123456789abcdef" + "\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x02ab" + "\x00\x01" + "\x00\x01x\x00\x011" +
		"\x05\x01\x02" + "\x02" + // partition 0
		"\x07" + "\xd0\x0f" + "\x04\x08" + "\x40" + "\xe8\x07" + "\x82\x01" + "\x07" +
		"\x0a" + "\x02" + "\x00\x02" + "\xc8\x01" + "\x64" +
		"\x0a" + "\x15" + "\x01\x01" + "\x28" + "\xac\x02" +
		"\x01" + "\x07\x02\x16\x02\x06\x14" + "\x02" + "\x02\x00" +
		"\x02" + "\xac\x02\x00\xd3\x0f\x01\x00\x1d" + "\x00" + "\x01\x08\xd2\x0f\x00" +
		"\x01" + "\x05\x00\x00\x0a\x01\x00\x0a\x04" +
		"\x02" + "\x09\x01\x04\x00" + "\xad\x02\x0f\x0a\x02" +
		"\x03" + "\x01" + "\x01\x03" + "\x01\x0c" +
		"\x00\x00\x00\x00\x00\x00\x00\x00" + // partition 1
		"\x01" + "\x02g1" + "\x00" + "\x01" + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x01" + "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07" + "\x01\x01\xac\x02" + "\x01" + "\x01\x00\x02\x01\x02" + "\x00\xac\x02" + "\x01\xab\x02" +
		"\x02" + "\x01\x09" + "\x01\x03" // garbage
	if got := string(s.encode()); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	decoded(t, s)
	a, b := &recorder{kinds: []uint16{100, 101}}, &recorder{kinds: []uint16{258}, got: []string{"x"}}
	ms, err := NewMachines([]Machine{b, a})
	must(err)
	body := ms.Checkpoint(s.Append)
	if got, want := string(body), "\x01\x00\x00\x00\xbc"+want+"\x00\x64\x00\x00\x00\x04null"+"\x01\x02\x00\x00\x00\x05[\"x\"]"; got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// A state of version 1 is read: it has no transactions, and of what lies in segments
// no epochs.
func TestStateOfVersion1(t *testing.T) {
	old := "\x01" + "\xe9\x07" + "\x02" + "\x02\x07" +
		"\x01" + "\x29" + "\x01" + "0123456789abcdef" + "\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x02ab" + "\x00\x01" + "\x00\x01x\x00\x011" +
		"\x05\x01\x02" + "\x02" +
		"\x07" + "\xd0\x0f" + "\x04\x08" + "\x40" + "\xe8\x07" + "\x82\x01" + "\x07" +
		"\x0a" + "\x02" + "\x00\x02" + "\xc8\x01" + "\x64" +
		"\x0a" + "\x15" + "\x01\x01" + "\x28" + "\xac\x02" +
		"\x01" + "\x07\x02\x02\x06\x14" + "\x02" + "\x02\x00" +
		"\x01" + "\xac\x02\x00\x01\x00\x1d" + "\x00" +
		"\x00\x00\x00\x00\x00" +
		"\x01" + "\x02g1" + "\x00" + "\x01" + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x01" + "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07" + "\x01\x01\xac\x02" + "\x01" + "\x01\x00\x02\x01\x02" + "\x00\xac\x02" + "\x01\xab\x02" +
		"\x02" + "\x01\x09" + "\x01\x03"
	want := goldenState()
	p := want.Topics[weir.TopicID([]byte("0123456789abcdef"))].Parts[0]
	p.Producers.Young[7].time, p.Producers.Open, p.Aborted, p.Epochs = -1, nil, nil, Epochs{{1, 5}, {2, 10}, {3, 20}}
	delete(p.Producers.Old, 301)
	got, err := decodeState([]byte(old))
	if err != nil || !same(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	decoded(t, got)
	for i := range old {
		strict(t, []byte(old[:i]))
	}
}

// FuzzDecodeState: what decodes encodes to the same bytes, and nothing panics.
func FuzzDecodeState(f *testing.F) {
	f.Add(Empty().encode())
	f.Add(goldenState().encode())
	f.Add(Machines{}.Checkpoint(goldenState().Append))
	f.Add(append([]byte{1}, Empty().encode()[1:]...))
	f.Add(goldenOpened().encode())
	for seed := range uint64(4) {
		w := newWanderer(seed)
		w.walk(20)
		f.Add(w.s.encode())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		strict(t, body)
		s, sections, err := DecodeCheckpoint(body)
		if err != nil || body[5] == 1 || len(sections) > 0 {
			return
		}
		if again := (Machines{}).Checkpoint(s.Append); !bytes.Equal(again, body) {
			t.Errorf("%x is restored and becomes %x", body, again)
		}
	})
}

// BenchmarkState: 10,000 partitions with 4 pieces and 10 extents each.
func BenchmarkState(b *testing.B) {
	s := Empty()
	must(s.createTopic(Topic{ID: weir.TopicID{1}, Name: "t", Partitions: MaxPartitions, Configs: map[string]string{}}))
	const now = 1_700_000_000_000
	for i, p := range s.Topics[weir.TopicID{1}].Parts {
		for k := range 4 {
			id := SegmentID{Epoch: 3, Number: uint64(k*40 + i/250)}
			p.Pieces = append(p.Pieces, Piece{
				Base: p.End, Next: p.End + 5000, Time: now + int64(k)*60_000 + int64(i)%977, Segment: id,
				At: 64 + uint32(i%250)*60_000, Size: 60_000, Index: 120, Records: 5000,
			})
			s.Segments[id]++
			p.End += 5000
		}
		for k := range 10 {
			p.Index = append(p.Index, Extent{
				Base: p.End, Time: now + 300_000 + int64(k)*1000 + int64(i)%977, slot: uint64(5000 + k*100 + i%100), epoch: 4, Leader: 4,
				At: uint32(i*397) % (4 << 20), Size: 700 + uint32(i)%300,
			})
			p.End += 50
		}
		p.Epochs = p.indexed()
	}
	body := decoded(b, s).encode()
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.encode()
		}
		b.ReportMetric(float64(len(body)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeState(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
