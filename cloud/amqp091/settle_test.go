package amqp091

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLeases: random settlements, and what is left, are those of a plain list.
func TestLeases(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var l leases
	var want []uint64
	tag := uint64(0)
	tags := func(all []lease) (of []uint64) {
		for i := range all {
			of = append(of, all[i].tag)
		}
		return of
	}
	var taken []lease
	for range 20_000 {
		switch r.IntN(8) {
		case 0, 1, 2, 3:
			tag += uint64(1 + r.IntN(2)) // tags of deliveries without acknowledgement are left out
			l.add(lease{tag: tag, id: int64(tag)})
			want = append(want, tag)
		case 4:
			if len(taken) > 0 && r.IntN(4) == 0 {
				l.restore(taken)
				want = append(want, tags(taken)...)
				slices.Sort(want)
				taken = nil
			}
		case 5: // any tag, there or not
			at := uint64(r.Int64N(int64(tag) + 2))
			i, there := slices.BinarySearch(want, at)
			multiple := r.IntN(8) == 0
			got, ok := l.take(at, multiple)
			expect := there || at == 0 && multiple
			if ok != expect {
				t.Fatalf("take %d, %v: %v, want %v", at, multiple, ok, expect)
			}
			var gone []uint64
			switch {
			case at == 0 && multiple:
				gone, want = want, nil
			case there && multiple:
				gone, want = slices.Clone(want[:i+1]), slices.Clone(want[i+1:])
			case there:
				gone, want = []uint64{at}, slices.Delete(want, i, i+1)
			}
			if !slices.Equal(tags(got), gone) {
				t.Fatalf("took %v, want %v", tags(got), gone)
			}
			taken = append(taken[:0], got...)
		default:
			if len(want) > 0 {
				i := min(r.IntN(4), len(want)-1)
				if _, ok := l.take(want[i], false); !ok {
					t.Fatalf("%d is not there", want[i])
				}
				want = slices.Delete(want, i, i+1)
				taken = nil
			}
		}
		if l.len() != len(want) {
			t.Fatalf("%d left, want %d", l.len(), len(want))
		}
		if cap(l.all) > 4*len(want)+1024 {
			t.Fatalf("memory for %d leases, %d are open", cap(l.all), len(want))
		}
	}
	if got := tags(l.takeAll()); !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestConfirms: publishes are confirmed in their order, those with the same outcome at once.
func TestConfirms(t *testing.T) {
	f := &confirms{first: 1}
	for range 6 {
		f.next()
	}
	type part struct {
		last uint64
		n    int
		o    outcome
	}
	take := func() (all []part) {
		for {
			last, n, o := f.take()
			if n == 0 {
				return all
			}
			all = append(all, part{last, n, o})
		}
	}
	f.settle(2, true)
	f.settle(3, false)
	if got := take(); got != nil {
		t.Errorf("confirmed %v before the first", got)
	}
	f.settle(1, true)
	if got := take(); !slices.Equal(got, []part{{2, 2, acknowledged}, {3, 1, rejected}}) {
		t.Errorf("confirmed %v", got)
	}
	if n := f.next(); n != 7 {
		t.Errorf("number %d, want 7", n)
	}
	for n := uint64(4); n <= 7; n++ {
		f.settle(n, true)
	}
	if got := take(); !slices.Equal(got, []part{{7, 4, acknowledged}}) {
		t.Errorf("confirmed %v", got)
	}
}
