package state

import (
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/storage/weir"
)

// numbered is a State as a machine whose snapshots do not depend on ids.
type numbered struct{ *State }

func (numbered) Kinds() []uint16 { return Kinds() }

func (n numbered) Import(body []byte) error {
	_, err := n.State.Import(body)
	return err
}

func (n numbered) Remove(set weir.SliceSet) { n.State.Remove(set) }

func (n numbered) Snapshot() []byte {
	again := New()
	var all weir.SliceSet
	for s := range weir.Slice(weir.Slices) {
		all.Add(s)
	}
	if body := n.Export(all); body != nil {
		if _, err := again.Import(body); err != nil {
			panic(err)
		}
	}
	return again.Snapshot()
}

// TestMove: random share partitions that move to another shard and back are what they were.
func TestMove(t *testing.T) {
	moved := 0
	about := make(map[uint16]bool)
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		s := New()
		for range random.IntN(8) {
			place := Place{string(rune('a' + random.IntN(3))), weir.TopicID{byte(random.IntN(3))}, random.Int32N(3)}
			begun := Begun{Place: place, Start: random.Int64N(20)}
			begun.Lent = begun.Start - 1 + random.Int64N(5)
			about[KindBegun] = machinetest.Apply(t, numbered{s}, KindBegun, begun.Append(nil))
			for range random.IntN(10) {
				e := randomUpdate(random, s.Partition(place))
				about[KindUpdated] = machinetest.Apply(t, numbered{s}, KindUpdated, e.Append(nil))
			}
			opened := Opened{ID: s.Partition(place).ID, Mark: random.Int64N(20)}
			about[KindOpened] = machinetest.Apply(t, numbered{s}, KindOpened, opened.Append(nil))
		}
		moved += machinetest.Split(t, random, numbered{s}, func() machinetest.Slicer { return numbered{New()} })
	}
	if moved < 50 {
		t.Errorf("only %d of 100 had anything to move", moved)
	}
	if !about[KindBegun] || !about[KindUpdated] || !about[KindOpened] {
		t.Errorf("entries of these kinds are about one share partition: %v", about)
	}
}

// TestMoveIDs: what comes gets ids that were never given out here.
func TestMoveIDs(t *testing.T) {
	one, two := New(), New()
	begun := Begun{Place: at, Start: 3, Lent: 2}
	apply(t, one, KindBegun, begun.Append(nil))
	apply(t, two, KindBegun, begun.Append(nil))
	var set weir.SliceSet
	set.Add(at.slice())
	if gone := two.Remove(set); len(gone) != 1 || gone[0] != at || two.Len() != 0 {
		t.Errorf("removed %v", gone)
	}
	if ids, err := two.Import(one.Export(set)); err != nil || len(ids) != 1 || ids[0] != 2 {
		t.Errorf("ids %v, %v", ids, err)
	}
}
