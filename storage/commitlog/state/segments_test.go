package state

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// flaggedPieces are pieces of each sort of segment that level 2 has.
func flaggedPieces() []Placed {
	id := weir.TopicID([]byte("0123456789abcdef"))
	var all []Placed
	for i, s := range []SegmentID{
		{Epoch: 2, Number: 4}, {Epoch: 2, Number: CleanNumbers + 4}, {Epoch: 2, Number: 4, Slot: true},
		{Epoch: 2, Number: 4, Other: 1}, {Epoch: 2, Number: CleanNumbers + 1, Other: 301},
	} {
		x := Piece{Base: 300, Next: 305, Time: 1000, Segment: s, At: 64, Size: 1000, Index: 130, Records: 7}
		if s.Slot {
			x.Index = 1200 // all that was in the slot
		}
		all = append(all, Placed{Place{id, int32(i)}, x})
	}
	return all
}

func TestFlaggedIDs(t *testing.T) {
	all := flaggedPieces()
	body := EncodeInstalled(all, 2)
	if got, err := decodeInstalled(body); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%v %v", got, err)
	}
	head := "0123456789abcdef"
	want := "\x02\x00\x00\x00\x05" +
		head + "\x00" + "\xac\x02\x05\xd0\x0f" + "\x00\x02\x04" + "\x40\xe8\x07\x82\x01\x07" +
		head + "\x01" + "\xac\x02\x05\xd0\x0f" + "\x02\x02\x04" + "\x40\xe8\x07\x82\x01\x07" +
		head + "\x02" + "\xac\x02\x05\xd0\x0f" + "\x04\x02\x04" + "\x40\xe8\x07\xb0\x09\x07" +
		head + "\x03" + "\xac\x02\x05\xd0\x0f" + "\x01\x00\x02\x04" + "\x40\xe8\x07\x82\x01\x07" +
		head + "\x04" + "\xac\x02\x05\xd0\x0f" + "\x03\xac\x02\x02\x01" + "\x40\xe8\x07\x82\x01\x07"
	if string(body) != want {
		t.Errorf("\n got %q\nwant %q", body, want)
	}
	ids := []SegmentID{all[1].Segment, all[2].Segment, all[4].Segment}
	if _, _, got, err := decodeSwept(EncodeSwept(3, journal.Position{Epoch: 2, Slot: 9}, ids, 2)); err != nil || !reflect.DeepEqual(got, ids) {
		t.Errorf("%v %v", got, err)
	}
	unknown := strings.Replace(want, "\x00\x02\x04", "\x08\x02\x04", 1)
	if _, err := decodeInstalled([]byte(unknown)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "flags 0x8") {
		t.Errorf("unknown flag: %v", err)
	}
	if _, err := decodeInstalled([]byte("\x03" + want[1:])); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown version: %v", err)
	}
	clean := strings.Replace(want, "\x02\x02\x04", "\x02\x02\x00", 1)
	if _, err := decodeInstalled([]byte(clean)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("clean segment 0: %v", err)
	}
}

// A segment of another shard is in a checkpoint, and is not installed: it comes by an
// import. A slot of another shard is nowhere.
func TestForeignSegments(t *testing.T) {
	for _, x := range flaggedPieces()[3:] {
		s := goldenState()
		err := s.Apply(journal.Position{Epoch: 2, Slot: 1}, journal.Entry{Kind: KindInstalled, Body: EncodeInstalled([]Placed{x}, 2)})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "of another one") {
			t.Errorf("%+v is installed: %v", x.Segment, err)
		}
		s.Identity = &Identity{Level: 2, Cluster: "c"}
		p := s.Partition(Place{Topic: x.Key.Topic})
		p.Pieces[0].Segment = x.Segment
		s.Segments = map[SegmentID]int{x.Segment: 1}
		decoded(t, s)
		if key, own := x.Segment.Key(1), x.Segment.Other; !strings.HasPrefix(key, fmt.Sprintf("%04d/", own-1)) {
			t.Errorf("%+v is %s", x.Segment, key)
		}
		slot := SegmentID{Epoch: 2, Number: 3, Other: 5, Slot: true}
		p.Pieces[0].Segment, p.Pieces[0].Index = slot, p.Pieces[0].Size
		if _, err := decodeState(s.encode()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a slot of another shard is restored: %v", err)
		}
	}
}

// An entry that a later version has written is refused by name.
func TestReservedKinds(t *testing.T) {
	for kind, name := range map[uint16]string{
		18:  "paged",
		170: "participant", 173: "participant", 180: "queues", 199: "queues", 21: "kind 21", 174: "kind 174", 200: "kind 200",
	} {
		err := Empty().Apply(journal.Position{Epoch: 1, Slot: 1}, journal.Entry{Kind: kind})
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), name) {
			t.Errorf("kind %d: %v", kind, err)
		}
		if later := strings.Contains(err.Error(), "later version"); later != (reserved(kind) != "") {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	if err := (Machines{}).Check(sections{{kind: 180}}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "queues") {
		t.Error(err)
	}
}

// goldenState2 is goldenState in a bucket of level 2, with a bias and a clean piece.
func goldenState2() *State {
	s := goldenState()
	s.Identity = &Identity{Level: 2, Cluster: "cl", Sums: []Sum{{Key: "cluster", CRC: 0x01020304}}}
	p := s.Partition(Place{Topic: weir.TopicID([]byte("0123456789abcdef"))})
	p.Bias = 4
	for i := range p.Index {
		p.Index[i].Leader += p.Bias
	}
	p.Epochs = Epochs{{1, 5}, {6, 10}, {7, 20}}
	clean := SegmentID{Epoch: 2, Number: CleanNumbers + 3}
	p.Pieces[0].Segment, s.Segments = clean, map[SegmentID]int{clean: 1}
	s.Garbage = []SegmentID{{Epoch: 1, Number: 9}, {Epoch: 2, Number: 3}, {Epoch: 2, Number: CleanNumbers + 1}}
	return s
}

func TestGoldenStateOfLevel2(t *testing.T) {
	s := goldenState2()
	want := "\x04" + "\xe9\x07" + "\x02" + "\x02\x07" +
		"\x01" + // topics
		"\x29" + "\x01" + "0123456789abcdef" + "\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x02ab" + "\x00\x01" + "\x00\x01x\x00\x011" +
		"\x05\x04\x01\x02" + "\x02" + // partition 0
		"\x07" + "\xd0\x0f" + "\x02\x04\x06" + "\x40" + "\xe8\x07" + "\x82\x01" + "\x07" +
		"\x0a" + "\x02" + "\x00\x02" + "\xc8\x01" + "\x64" +
		"\x0a" + "\x15" + "\x01\x01" + "\x28" + "\xac\x02" +
		"\x01" + "\x07\x02\x16\x02\x06\x14" + "\x02" + "\x02\x00" +
		"\x02" + "\xac\x02\x00\xd3\x0f\x01\x00\x1d" + "\x00" + "\x01\x08\xd2\x0f\x00" +
		"\x01" + "\x05\x00\x00\x0a\x01\x00\x0a\x04" +
		"\x02" + "\x09\x01\x04\x00" + "\xad\x02\x0f\x0a\x02" +
		"\x03" + "\x01" + "\x05\x05" + "\x01\x0a" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // partition 1
		"\x01" + "\x02g1" + "\x00" + "\x01" + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x01" + "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07" + "\x01\x01\xac\x02" + "\x01" + "\x01\x00\x02\x01\x02" + "\x00\xac\x02" + "\x01\xab\x02" +
		"\x03" + "\x00\x02\x12" + "\x00\x02\x0b" + "\x02\x00\x03" + // garbage
		"\x00\x02" + "\x00\x02cl" + "\x00\x01" + "\x00\x07cluster" + "\x01\x02\x03\x04"
	if got := string(s.encode()); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	got := decoded(t, s)
	p := got.Partition(Place{Topic: weir.TopicID([]byte("0123456789abcdef"))})
	if p.Bias != 4 || p.LeaderEpoch(9) != 13 || p.Index[1].Leader != 7 || p.Index[1].Position().Epoch != 3 || !p.Pieces[0].Segment.Clean() {
		t.Errorf("%+v", p)
	}
	for i := range want {
		strict(t, []byte(want[:i]))
	}
	if _, err := decodeState([]byte("\x03" + want[1:])); !errors.Is(err, ErrFormat) {
		t.Errorf("version 3: %v", err)
	}
}

// The leader epoch of a run is the journal's epoch and the partition's bias.
func TestBias(t *testing.T) {
	s := Empty()
	must(s.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	s.Partition(Place{testTopic.ID, 0}).Bias = 2
	if err := s.Apply(journal.Position{Epoch: 1, Slot: 2}, runOf(0, recordtest.Batch("a"))); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "leader epoch 1 in epoch 1") {
		t.Errorf("without the bias: %v", err)
	}
	must(s.Apply(journal.Position{Epoch: 1, Slot: 2}, runIn(3, 0, recordtest.Batch("a"))))
	p := s.Partition(Place{testTopic.ID, 0})
	if x := p.Index[0]; x.Leader != 3 || x.Position() != (journal.Position{Epoch: 1, Slot: 2}) || p.Epochs[0].Epoch != 3 {
		t.Errorf("%+v %v", x, p.Epochs)
	}
	if pos := (journal.Position{Epoch: 1, Slot: 3}); !s.Before(pos) {
		t.Errorf("the state is not before %v", pos)
	}
}
