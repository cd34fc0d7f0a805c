package machinetest

import (
	"bytes"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Sliced is a state machine that can tell what its entries are about.
type Sliced interface {
	Slicer
	SliceOf(kind uint16, body []byte) (weir.Slice, bool)
}

var _ state.Sliced = Sliced(nil)

// Apply applies an entry. It fails the test if the machine says which slice that is about, and
// it changes what the machine has of others. It reports whether the machine says that.
func Apply(t *testing.T, m Sliced, kind uint16, body []byte) bool {
	t.Helper()
	slice, about := m.SliceOf(kind, body)
	var others weir.SliceSet
	for s := range weir.Slice(weir.Slices) {
		if s != slice {
			others.Add(s)
		}
	}
	before := m.Export(others)
	if err := m.Apply(kind, body); err != nil {
		t.Fatal(err)
	}
	if after := m.Export(others); about && !bytes.Equal(before, after) {
		t.Fatalf("an entry of kind %d is about slice %d, it says, and changes others from\n%x to\n%x", kind, slice, before, after)
	}
	if _, damaged := m.SliceOf(kind, nil); damaged {
		t.Fatalf("an empty entry of kind %d is about a slice", kind)
	}
	return about
}
