package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// runsOf returns a state with a run of each of two partitions in slot 1/2, and one of
// the first in slot 1/3.
func runsOf() *State {
	s := Empty()
	must(s.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	second := func(e journal.Entry) journal.Entry {
		r, err := DecodeRun(e.Body)
		must(err)
		r.Partition = 1
		body := AppendRunHead(nil, r)
		at := len(body)
		body = append(body, r.Data...)
		must(SealRun(body, at))
		return journal.Entry{Kind: KindRun, Body: body, At: 5000}
	}
	must(s.Apply(journal.Position{Epoch: 1, Slot: 2}, runOf(0, recordtest.Batch("a", "b"))))
	must(s.Apply(journal.Position{Epoch: 1, Slot: 2}, second(runOf(0, recordtest.Batch("c")))))
	must(s.Apply(journal.Position{Epoch: 1, Slot: 3}, runOf(2, recordtest.Batch("d"))))
	return s
}

func place(partition int32) Place { return Place{testTopic.ID, partition} }

// TestAdopt: a run becomes a piece where it is. What is not that run, or does not lie in
// a slot that was applied, is broken.
func TestAdopt(t *testing.T) {
	now := journal.Position{Epoch: 2, Slot: 1}
	good := adopted(runsOf().Partition(place(0)), 0)
	for name, change := range map[string]func(x *Placed, pos *journal.Position){
		"whole":          func(*Placed, *journal.Position) {},
		"the same slot":  func(_ *Placed, pos *journal.Position) { *pos = journal.Position{Epoch: 1, Slot: 2} },
		"not applied":    func(x *Placed, _ *journal.Position) { x.Segment = SlotID(journal.Position{Epoch: 2, Slot: 1}) },
		"another slot":   func(x *Placed, _ *journal.Position) { x.Segment = SlotID(journal.Position{Epoch: 1, Slot: 3}) },
		"another place":  func(x *Placed, _ *journal.Position) { x.At++ },
		"another size":   func(x *Placed, _ *journal.Position) { x.Size-- },
		"another time":   func(x *Placed, _ *journal.Position) { x.Time++ },
		"other records":  func(x *Placed, _ *journal.Position) { x.Records++ },
		"two runs":       func(x *Placed, _ *journal.Position) { x.Next++ },
		"a part":         func(x *Placed, _ *journal.Position) { x.Next-- },
		"not the first":  func(x *Placed, _ *journal.Position) { *x = adopted(runsOf().Partition(place(0)), 1) },
		"smaller object": func(x *Placed, _ *journal.Position) { x.Index = x.Size - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s, x, pos := runsOf(), good, now
			change(&x, &pos)
			err := s.Apply(pos, journal.Entry{Kind: KindInstalled, Body: EncodeInstalled([]Placed{x}, 2)})
			if name != "whole" {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%v", err)
				}
				return
			}
			p := s.Partition(place(0))
			if err != nil || len(p.Pieces) != 1 || len(p.Index) != 1 || p.Pieces[0] != x.Piece || !s.Slots.Has(journal.Position{Epoch: 1, Slot: 2}) {
				t.Fatalf("%v, %+v", err, p)
			}
			if p.Bytes != p.Size() || p.Pieces[0].Data() != int64(x.Size) {
				t.Errorf("%d bytes, %d are counted", p.Size(), p.Bytes)
			}
			again := s.Apply(pos, journal.Entry{Kind: KindInstalled, Body: EncodeInstalled([]Placed{x}, 2)})
			if !errors.Is(again, ErrCorrupt) {
				t.Errorf("once more: %v", again)
			}
			s.Identity = &Identity{Level: 2, Cluster: "c"}
			if back := decoded(t, s); !reflect.DeepEqual(back.Slots.all, s.Slots.all) || back.Partition(place(0)).Pieces[0] != x.Piece {
				t.Errorf("%+v is restored as %+v", s.Slots, back.Slots)
			}
			if s.Before(journal.Position{Epoch: 1, Slot: 2}) || !s.Before(now) {
				t.Error("the state is not before what comes behind its slots")
			}
		})
	}
}

// TestAdoptLater: two partitions have a run in a slot. That of one is adopted and
// trimmed, and then that of the other is adopted: the slot is no longer garbage.
func TestAdoptLater(t *testing.T) {
	s, pos := runsOf(), journal.Position{Epoch: 1, Slot: 9}
	slot := SlotID(journal.Position{Epoch: 1, Slot: 2})
	apply := func(kind uint16, body []byte, garbage ...SegmentID) {
		t.Helper()
		pos.Slot++
		if err := s.Apply(pos, journal.Entry{Kind: kind, Body: body}); err != nil || len(s.Garbage)+len(garbage) > 0 && !reflect.DeepEqual(s.Garbage, garbage) {
			t.Fatalf("%v, garbage is %v", err, s.Garbage)
		}
	}
	a, b := adopted(s.Partition(place(0)), 0), adopted(s.Partition(place(1)), 0)
	apply(KindInstalled, EncodeInstalled([]Placed{a}, 2))
	apply(KindTrimmed, EncodeTrimmed(place(0), 2), slot)
	apply(KindInstalled, EncodeInstalled([]Placed{b}, 2))
	if !s.Slots.Has(slot.Position()) {
		t.Error("the slot does not serve")
	}
	apply(KindTrimmed, EncodeTrimmed(place(1), 1), slot)
	apply(KindSwept, EncodeSwept(0, journal.Position{}, []SegmentID{slot}, 2))
	// One that comes too late makes the slot garbage, too: it may never have served.
	s = runsOf()
	apply(KindTrimmed, EncodeTrimmed(place(0), 2))
	apply(KindInstalled, EncodeInstalled([]Placed{a}, 2), slot)
	apply(KindInstalled, EncodeInstalled([]Placed{b}, 2))
}

// TestAdoptedSlots compares them with a map.
func TestAdoptedSlots(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a AdoptedSlots
	var all []Piece
	live := map[journal.Position]int{}
	for i := range 20_000 {
		if n := len(all); n > 0 && rng.IntN(10) < 4+i/5000 {
			k := rng.IntN(n)
			x := all[k]
			all[k] = all[n-1]
			all = all[:n-1]
			pos := x.Segment.Position()
			if live[pos]--; live[pos] == 0 {
				delete(live, pos)
			}
			if last := a.release(&x); last != (live[pos] == 0) {
				t.Fatalf("last piece of slot %v: %v", pos, last)
			}
			continue
		}
		pos := journal.Position{Epoch: 1 + uint64(i/7000), Slot: uint64(i/3 + rng.IntN(20))}
		x := Piece{Segment: SlotID(pos), Size: 100, Index: 300}
		all = append(all, x)
		live[pos]++
		a.hold(&x)
	}
	var restored AdoptedSlots
	for i := range all {
		restored.add(&all[i])
	}
	restored.sort()
	for _, a := range []*AdoptedSlots{&a, &restored} {
		var last journal.Position
		seen := 0
		a.Each(func(pos journal.Position) {
			if seen++; !last.Before(pos) || live[pos] == 0 || !a.Has(pos) {
				t.Errorf("slot %v behind %v has %d pieces", pos, last, live[pos])
			}
			last = pos
		})
		if seen != len(live) || a.Len() != seen || a.Last() != last || a.Has(journal.Position{Epoch: 9, Slot: 9}) {
			t.Errorf("%d of %d slots, %d, the last is %v", seen, len(live), a.Len(), a.Last())
		}
		sparse := a.Sparse()
		for pos, n := range live {
			if sparse[pos] != (n == 1) {
				t.Errorf("slot %v with %d of 3 pieces: %v", pos, n, sparse[pos])
			}
		}
	}
}

// TestSlotKeys: a slot and a segment with the same numbers are different objects.
func TestSlotKeys(t *testing.T) {
	pos := journal.Position{Epoch: 3, Slot: 7}
	slot, seg := SlotID(pos), SegmentID{Epoch: 3, Number: 7}
	if slot == seg || slot.compare(seg) == 0 || slot.Key(2) != journal.SlotKey(2, pos) || !strings.Contains(seg.Key(2), "/segment/") || slot.Position() != pos {
		t.Error(fmt.Sprint(slot.Key(2), seg.Key(2)))
	}
}
