package weir

import "testing"

// TestRows: a row gives a record a partition that it has, from its first sequence on.
func TestRows(t *testing.T) {
	row := Row{Partitions: 3, From: 10}
	for _, c := range []struct {
		row       Row
		partition int32
		seq       uint64
		want      bool
	}{
		{row, 0, 10, true}, {row, 2, 11, true}, {row, 3, 11, false}, {row, 0, 9, false},
		{Row{Partitions: 3}, 0, 1, false}, {Row{From: 1}, 0, 1, false}, {Row{}, 0, 0, false},
	} {
		if got := c.row.Maps(c.partition, c.seq); got != c.want {
			t.Errorf("%+v maps %d to partition %d: %v", c.row, c.seq, c.partition, got)
		}
	}
	for _, c := range []struct {
		a, b Row
		want bool
	}{
		{row, Row{Partitions: 1, From: 11}, true}, {row, Row{Partitions: 4, From: 10}, true},
		{row, row, false}, {row, Row{Partitions: 2, From: 10}, false}, {row, Row{Partitions: 9, From: 9}, false},
	} {
		if got := c.a.Before(c.b); got != c.want {
			t.Errorf("%+v before %+v: %v", c.a, c.b, got)
		}
	}
}

func TestBufferStates(t *testing.T) {
	for s, want := range []struct {
		name  string
		valid bool
	}{{"known", true}, {"new", true}, {"retired", true}, {"aside", true}, {"state-4", false}} {
		if s := BufferState(s); s.String() != want.name || s.Valid() != want.valid {
			t.Errorf("state %d: %s %v", uint8(s), s, s.Valid())
		}
	}
}
