package state

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/storagetest"
)

// TestSet: sets with random ranges around the borders of containers and parts say what a
// map says, and have the same bytes, whatever made them.
func TestSet(t *testing.T) {
	for _, border := range []int64{150_000, 5 << 16, 1 << 32, 3<<32 + 1<<16} {
		for seed := range uint64(storagetest.Rounds(5)) {
			r := rand.New(rand.NewPCG(seed, uint64(border)))
			var s set
			base := border - 150_000
			want := make([]bool, 450_000)
			near := func() int64 { return base + r.Int64N(300_000) }
			for range 60 {
				first := near()
				last := first + []int64{0, 3, 100, 70_000, 140_000}[r.IntN(5)]
				present, adds := int64(0), r.IntN(3) > 0
				for id := first; id <= last; id++ {
					if want[id-base] {
						present++
					}
					want[id-base] = adds
				}
				if adds {
					s.add(first, last)
				} else if got := s.remove(first, last); got != present {
					t.Fatalf("seed %d at %d: %d were removed, not %d", seed, border, got, present)
				}
			}
			var ids []int64
			for i, is := range want {
				if is {
					ids = append(ids, base+int64(i))
				}
			}
			checkSet(t, &s, ids, near)
		}
	}
}

func checkSet(t *testing.T, s *set, want []int64, near func() int64) {
	t.Helper()
	var again set
	next := int64(0)
	for i, id := range want {
		again.add(id, id)
		if got, ok := s.next(next); !ok || got != id || !s.has(id) {
			t.Fatalf("from %d on the first is %d, not %d", next, got, id)
		}
		next = id + 1
		if i+1 == len(want) || want[i+1] != next {
			if s.has(next) {
				t.Fatalf("%d is there", next)
			}
		}
	}
	if id, ok := s.next(next); ok || s.n != int64(len(want)) {
		t.Fatalf("%d of %d; %d is there", s.n, len(want), id)
	}
	if !bytes.Equal(s.append(nil), again.append(nil)) {
		t.Fatal("equal sets have other bytes")
	}
	for range 10 { // runs of what was written, and of ranges
		first, last := near(), near()
		some, from := new(set), first
		some.addAll([]*set{s})
		for from <= last { // in parts
			to := min(last, from+40_000)
			some.remove(from, to)
			from = to + 1
		}
		if got := s.count(first, last); got != s.n-some.n || some.count(first, last) != 0 {
			t.Fatalf("%d of %d to %d are there, %d with a part removed", got, first, last, s.n-some.n)
		}
		if some.addAll([]*set{s, new(set), s}); !bytes.Equal(some.append(nil), s.append(nil)) || some.n != s.n {
			t.Fatal("the union of a part and the whole is not the whole")
		}
		var got []int64
		end := int64(-2)
		for x := range s.runs(first, last) {
			if x.First <= end+1 {
				t.Fatalf("the run %v begins where the one before ends, at %d", x, end)
			}
			for id := x.First; id <= x.Last; id++ {
				got = append(got, id)
			}
			end = x.Last
		}
		i, _ := slices.BinarySearch(want, first)
		j, _ := slices.BinarySearch(want, last+1)
		if !slices.Equal(got, want[i:max(i, j)]) {
			t.Fatalf("%d to %d: %d offsets, not %d", first, last, len(got), j-i)
		}
	}
}

// TestSetOfNothing: what is not there costs nothing.
func TestSetOfNothing(t *testing.T) {
	var s set
	if _, ok := s.next(0); ok || s.has(5) || s.has(-1) || s.remove(0, math.MaxInt64) != 0 {
		t.Error("an empty set has something")
	}
	s.add(7, 9)
	s.add(1<<61, 1<<61+1)
	if n := s.remove(8, 1<<62); n != 4 || s.n != 1 || len(s.parts) != 1 {
		t.Errorf("%d were removed, %d are there", n, s.n)
	}
	if n := s.remove(0, math.MaxInt64); n != 1 || s.parts == nil || len(s.parts) != 0 {
		t.Errorf("%d were removed, %d are there", n, s.n)
	}
}
