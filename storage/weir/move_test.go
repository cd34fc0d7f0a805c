package weir

import (
	"slices"
	"testing"
)

func TestSliceSet(t *testing.T) {
	var s, other SliceSet
	want := []Slice{0, 1, 63, 64, 500, 1023}
	for _, slice := range want {
		s.Add(slice)
	}
	s.Add(500)
	if got := slices.Collect(s.All()); !slices.Equal(got, want) || s.Len() != len(want) {
		t.Errorf("%v, %d of them", got, s.Len())
	}
	for range s.All() {
		break
	}
	if s.Has(2) || s.Has(Slices) || !s.Has(1023) || other.Has(0) || other.Len() > 0 {
		t.Error("a slice is in a set in which it was not put")
	}
	other.Add(2)
	if s.Overlaps(&other) {
		t.Error("sets without a common slice overlap")
	}
	other.Add(63)
	if !s.Overlaps(&other) {
		t.Error("63 is in both")
	}
	if got := slices.Collect(all(s.With(other))); !slices.Equal(got, []Slice{0, 1, 2, 63, 64, 500, 1023}) {
		t.Error(got)
	}
	if got := slices.Collect(all(s.Without(other))); !slices.Equal(got, []Slice{0, 1, 64, 500, 1023}) {
		t.Error(got)
	}
	if id := (MoveID{1, 15: 0xab}).String(); id != "010000000000000000000000000000ab" {
		t.Error(id)
	}
}

func all(s SliceSet) func(func(Slice) bool) { return s.All() }
