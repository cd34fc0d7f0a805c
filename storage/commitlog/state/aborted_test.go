package state

import (
	"fmt"
	"testing"
)

func TestOverlapping(t *testing.T) {
	all := []Abort{{Aborted{1, 0, 9}, 5}, {Aborted{2, 5, 20}, 21}, {Aborted{3, 30, 30}, 31}, {Aborted{1, 31, 50}, 40}, {Aborted{4, 40, 60}, 61}, {Aborted{1, 70, 80}, 81}}
	for want, r := range map[string][2]int64{
		"[{1 0 9} {2 5 20}]": {0, 6}, "[{2 5 20}]": {10, 30}, "[{3 30 30} {1 31 50}]": {21, 32}, "[]": {61, 70}, "[{1 31 50} {4 40 60}]": {45, 46}, "[{1 70 80}]": {80, 100},
	} {
		if got := fmt.Sprint(Overlapping(all, r[0], r[1])); got != want {
			t.Errorf("%v: %s, want %s", r, got, want)
		}
	}
	if got := behind(all, 20); len(got) != 5 || got[0].Last != 20 {
		t.Error(got)
	}
}
