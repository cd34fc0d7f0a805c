package weir

import (
	"slices"
	"testing"
)

func TestIDs(t *testing.T) {
	if s := (TopicID{1, 15: 0xab}).String(); s != "010000000000000000000000000000ab" {
		t.Error(s)
	}
	id := BufferID{0, 1, 0, 2, 11: 0xab}
	if s := id.String(); s != "0001000200000000000000ab" || id.Counter() != 0x10002 {
		t.Error(s, id.Counter())
	}
}

// TestBufferOrder: the counter comes first and is compared as a number.
func TestBufferOrder(t *testing.T) {
	ids := []BufferID{{3: 9, 4: 0xff}, {3: 10}, {3: 10, 11: 1}, {2: 1}}
	got := slices.Clone(ids)
	slices.Reverse(got)
	slices.SortFunc(got, BufferID.Compare)
	if !slices.Equal(got, ids) {
		t.Error(got)
	}
}

func TestLanes(t *testing.T) {
	for l, want := range []struct {
		name  string
		valid bool
	}{{"alarm", true}, {"live", true}, {"bulk", true}, {"lane-3", false}} {
		if l := Lane(l); l.String() != want.name || l.Valid() != want.valid {
			t.Errorf("lane %d: %s %v", uint8(l), l, l.Valid())
		}
		if got, err := ParseLane(want.name); (err == nil) != want.valid || want.valid && got != Lane(l) {
			t.Errorf("%s is lane %d, %v", want.name, got, err)
		}
	}
}
