package split

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// sizes returns how many slices each shard has.
func sizes(m weir.Map, shards int) []int {
	n := make([]int, shards)
	for _, shard := range m {
		n[shard]++
	}
	return n
}

// play applies a plan, and fails the test if a slice moves that is not where it is said to be.
func play(t *testing.T, m weir.Map, steps []Step) weir.Map {
	t.Helper()
	for _, s := range steps {
		for slice := range s.Slices.All() {
			if m[slice] != s.From {
				t.Fatalf("slice %d is in shard %d, and moves from %d", slice, m[slice], s.From)
			}
			m[slice] = s.To
		}
	}
	return m
}

// TestPlan: shard 0 is left without slices, and the others have as many each, if their number
// doubles. The partitions of a topic, which lie in a row, are spread.
func TestPlan(t *testing.T) {
	m := weir.FirstMap(1)
	for _, to := range []int{2, 4, 8, 64, 1024} {
		shards := to/2 + 1
		switch to {
		case 2:
			shards = 1
		case 64:
			shards = 9
		case 1024:
			shards = 65
		}
		steps, err := Plan(m, shards, to, weir.SliceSet{})
		if err != nil || len(steps) != to+1-shards {
			t.Fatalf("to %d: %d steps, %v", to, len(steps), err)
		}
		m = play(t, m, steps)
		for shard, n := range sizes(m, to+1) {
			want := weir.Slices / to
			if shard == 0 {
				want = 0
			}
			if n != want {
				t.Fatalf("to %d: shard %d has %d slices, want %d", to, shard, n, want)
			}
		}
		if to == 4 {
			row := make(map[uint32]int)
			for _, shard := range m[100:116] {
				row[shard]++
			}
			for shard, n := range row {
				if n < 3 || n > 5 {
					t.Errorf("16 partitions of a topic: shard %d has %d", shard, n)
				}
			}
		}
	}
}

// TestPlanRest: a plan that was not finished can be made again, and other numbers than twice
// as many are as even as halves allow.
func TestPlanRest(t *testing.T) {
	m := weir.FirstMap(1)
	steps, err := Plan(m, 1, 5, weir.SliceSet{})
	if err != nil {
		t.Fatal(err)
	}
	m = play(t, m, steps[:2])
	if steps, err = Plan(m, 3, 5, weir.SliceSet{}); err != nil || len(steps) != 3 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	m = play(t, m, steps)
	for shard, n := range sizes(m, 6) {
		if shard > 0 && (n < 204 || n > 206) || shard == 0 && n > 0 {
			t.Errorf("shard %d has %d slices", shard, n)
		}
	}
	steps, err = Plan(m, 6, 7, weir.SliceSet{})
	if err != nil {
		t.Fatal(err)
	}
	for shard, n := range sizes(play(t, m, steps), 8) {
		if shard > 0 && (n < 102 || n > 206) {
			t.Errorf("of 7, shard %d has %d slices", shard, n)
		}
	}
}

// TestPlanKeep: slices that cannot move stay.
func TestPlanKeep(t *testing.T) {
	var keep weir.SliceSet
	keep.Add(162)
	steps, err := Plan(weir.FirstMap(1), 1, 3, keep)
	if err != nil {
		t.Fatal(err)
	}
	m := play(t, weir.FirstMap(1), steps)
	if n := sizes(m, 4); m[162] != 0 || n[0] != 1 {
		t.Errorf("%v", n)
	}
}

// TestPlanRefused: what cannot be is an error.
func TestPlanRefused(t *testing.T) {
	for _, c := range [][2]int{{1, 1}, {1, 0}, {1, -1}, {5, 4}, {5, 3}, {5, 1025}} {
		if _, err := Plan(weir.FirstMap(c[0]), c[0], c[1], weir.SliceSet{}); !errors.Is(err, ErrShards) {
			t.Errorf("%d shards, %d with data: %v", c[0], c[1], err)
		}
	}
}
