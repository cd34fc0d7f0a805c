package machinetest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Slicer is a state machine that has things in slices.
type Slicer interface {
	state.Machine
	Export(weir.SliceSet) []byte
	Import([]byte) error
	Remove(weir.SliceSet)
}

// Split moves random slices from a machine to a new one, and back. It fails the test if
// anything is lost, doubled or changed on the way. It returns how many machines had
// something to move.
func Split(t *testing.T, random *rand.Rand, m Slicer, empty func() Slicer) (moved int) {
	t.Helper()
	var set, rest weir.SliceSet
	for s := range weir.Slice(weir.Slices) {
		if random.IntN(2) == 0 {
			set.Add(s)
		} else {
			rest.Add(s)
		}
	}
	before, staying := m.Snapshot(), m.Export(rest)
	body := m.Export(set)
	if !bytes.Equal(body, m.Export(set)) {
		t.Fatal("the same state is exported in two ways")
	}
	other := empty()
	if body != nil {
		moved = 1
		for i := range body { // damage is an error, or another state, and never a panic
			_ = empty().Import(body[:i])
		}
		if err := other.Import(body); err != nil {
			t.Fatal(err)
		}
	}
	m.Remove(set)
	for what, c := range map[string][2][]byte{
		"what moves, at the new shard": {other.Export(set), body},
		"what stays, at the old shard": {m.Export(rest), staying},
		"what stays, at the new shard": {other.Export(rest), nil},
		"what moved, at the old shard": {m.Export(set), nil},
	} {
		if !bytes.Equal(c[0], c[1]) {
			t.Fatalf("%s: %x, want %x", what, c[0], c[1])
		}
	}
	for _, one := range []Slicer{m, other} {
		again := empty()
		if err := again.Restore(one.Snapshot()); err != nil {
			t.Fatalf("a half is not restored: %v", err)
		}
	}
	if body != nil {
		if err := m.Import(other.Export(set)); err != nil {
			t.Fatal(err)
		}
	}
	if after := m.Snapshot(); !bytes.Equal(before, after) {
		t.Fatalf("split and joined again, it is\n%x\nand was\n%x", after, before)
	}
	return moved
}
