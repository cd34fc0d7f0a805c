package state

import (
	"cmp"
	"slices"

	"github.com/weirmq/weir/storage/journal"
)

// AdoptedSlots knows what is alive in the slots that serve as segments. There may be a
// million: 24 bytes each.
type AdoptedSlots struct {
	all  []adoptedSlot // in order of positions
	dead int           // of them, without live pieces
}

// adoptedSlot is one of them. It follows from its pieces.
type adoptedSlot struct {
	epoch, slot uint64
	size        uint32 // bytes of records that it had when it was adopted
	live        uint32 // bytes of its live pieces; 0: it has none
}

// SlotID names the slot at a position as a segment.
func SlotID(pos journal.Position) SegmentID {
	return SegmentID{Epoch: pos.Epoch, Number: pos.Slot, Slot: true}
}

// Position returns the position of a slot that serves as a segment.
func (id SegmentID) Position() journal.Position {
	return journal.Position{Epoch: id.Epoch, Slot: id.Number}
}

func (a *AdoptedSlots) find(pos journal.Position) (int, bool) {
	return slices.BinarySearchFunc(a.all, pos, func(x adoptedSlot, pos journal.Position) int {
		return cmp.Or(cmp.Compare(x.epoch, pos.Epoch), cmp.Compare(x.slot, pos.Slot))
	})
}

// add counts a live piece, in any order of slots. sort must follow the last one.
func (a *AdoptedSlots) add(x *Piece) {
	a.all = append(a.all, adoptedSlot{x.Segment.Epoch, x.Segment.Number, x.Index, uint32(x.Data())})
}

// sort makes one of all that add has counted for a slot.
func (a *AdoptedSlots) sort() {
	slices.SortFunc(a.all, func(x, y adoptedSlot) int {
		return cmp.Or(cmp.Compare(x.epoch, y.epoch), cmp.Compare(x.slot, y.slot))
	})
	n := 0
	for _, x := range a.all {
		if n == 0 || a.all[n-1].epoch != x.epoch || a.all[n-1].slot != x.slot {
			a.all[n] = x
			n++
			continue
		}
		last := &a.all[n-1]
		last.live, last.size = last.live+x.live, max(last.size, x.size)
	}
	a.all = a.all[:n]
}

// hold counts a live piece. Slots are adopted about in their order, so it is put near
// the end.
func (a *AdoptedSlots) hold(x *Piece) {
	pos := x.Segment.Position()
	i, found := a.find(pos)
	if !found {
		a.all = slices.Insert(a.all, i, adoptedSlot{epoch: pos.Epoch, slot: pos.Slot})
	} else if a.all[i].live == 0 {
		a.dead--
	}
	s := &a.all[i]
	s.live += uint32(x.Data())
	s.size = max(s.size, x.Index)
}

// release counts a live piece less, and reports whether it was the last of its slot.
func (a *AdoptedSlots) release(x *Piece) bool {
	i, found := a.find(x.Segment.Position())
	if !found || a.all[i].live == 0 {
		return false
	}
	s := &a.all[i]
	if s.live -= min(s.live, uint32(x.Data())); s.live > 0 {
		return false
	}
	if a.dead++; a.dead > 1024 && a.dead > len(a.all)/2 {
		a.all = slices.Clone(slices.DeleteFunc(a.all, func(x adoptedSlot) bool { return x.live == 0 }))
		a.dead = 0
	}
	return true
}

// Len returns how many slots have live pieces.
func (a *AdoptedSlots) Len() int { return len(a.all) - a.dead }

// Has reports whether the slot at a position has live pieces.
func (a *AdoptedSlots) Has(pos journal.Position) bool {
	i, found := a.find(pos)
	return found && a.all[i].live > 0
}

// Sparse returns the slots of which less than half is alive: copying what is left gives
// back more space than it takes.
func (a *AdoptedSlots) Sparse() map[journal.Position]bool {
	sparse := make(map[journal.Position]bool)
	for i := range a.all {
		if x := &a.all[i]; x.live > 0 && x.live < x.size/2 {
			sparse[journal.Position{Epoch: x.epoch, Slot: x.slot}] = true
		}
	}
	return sparse
}

// Each calls fn with the positions of the slots that have live pieces, in order.
func (a *AdoptedSlots) Each(fn func(journal.Position)) {
	for i := range a.all {
		if x := &a.all[i]; x.live > 0 {
			fn(journal.Position{Epoch: x.epoch, Slot: x.slot})
		}
	}
}

// Last returns the position of the last of them, the zero Position if there is none.
func (a *AdoptedSlots) Last() (last journal.Position) {
	for i := len(a.all) - 1; i >= 0; i-- {
		if x := &a.all[i]; x.live > 0 {
			return journal.Position{Epoch: x.epoch, Slot: x.slot}
		}
	}
	return last
}
