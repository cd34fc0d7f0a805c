package model

import (
	"fmt"
	"hash/maphash"
	"time"
)

// search visits all states of a world, those with fewer steps first.
type search struct {
	w     *world
	want  faults       // the search ends at one of these
	limit int          // number of states after which it ends, too; 0: no limit
	visit func(*state) // called for every state, before it is reduced; may be nil

	seen    *set
	parents pile[uint32] // of every state, in the order in which they were found
	choices pile[uint8]  // which of the parent's steps it was
	counts  [verbs]uint64

	depth  int
	steps  uint64
	took   time.Duration
	faults faults
	trace  []string
}

func newSearch(w *world) *search {
	w.plain = w.kept()
	return &search{w: w, want: ^sound, seen: newSet()}
}

func (r *search) states() int { return r.parents.n }

func (r *search) String() string {
	return fmt.Sprintf("%d states, %d steps, depth %d, %v", r.states(), r.steps, r.depth, r.took.Round(time.Millisecond))
}

// run searches until there is no new state, or a fault.
func (r *search) run() *search {
	began := time.Now()
	first := r.w.first()
	r.seen.add(r.seen.print(&first))
	r.note(0, 0)
	now, later := new(pile[state]), new(pile[state])
	now.push(first)
	base := 0
	for now.n > 0 && (r.limit == 0 || r.states() < r.limit) {
		if later.n = 0; !r.level(now, later, base) {
			break
		}
		base += now.n
		now, later = later, now
		r.depth++
	}
	r.took = time.Since(began)
	return r
}

// first is the state of an unused bucket.
func (w *world) first() state { return state{left: uint8(w.saves)} }

// level puts into later the states that are one step behind those of now, the
// first of which has the number base. It reports false if it finds a fault.
func (r *search) level(now, later *pile[state], base int) bool {
	var x steps
	for i := range now.n {
		r.expand(now.at(i), &x)
		for k := range x.n {
			next := &x.all[k]
			if !r.seen.add(next.print) && next.faults&r.want == 0 {
				continue
			}
			next.faults |= r.w.judge(&next.state)
			if r.w.live {
				next.faults |= r.w.judgeLive(&next.state)
			}
			r.note(base+i, k)
			if r.faults = next.faults & r.want; r.faults != sound {
				r.trace = r.retrace(r.states() - 1)
				return false
			}
			later.push(next.state)
		}
	}
	return true
}

// note records how a new state was found.
func (r *search) note(parent, choice int) {
	r.parents.push(uint32(parent))
	r.choices.push(uint8(choice))
}

// expand adds the steps that follow s, reduced, to x.
func (r *search) expand(s *state, x *steps) {
	r.w.next(s, x)
	r.steps += uint64(x.n)
	for k := range x.n {
		next := &x.all[k]
		r.counts[next.verb]++
		if next.verb.decides() {
			next.faults |= r.w.judge(&next.state)
		}
		if r.visit != nil {
			r.visit(&next.state)
		}
		r.w.reduce(&next.state)
		next.print = r.seen.print(&next.state)
	}
	r.seen.touch(x)
}

// retrace returns the steps by which the search came to a state.
func (r *search) retrace(id int) []string {
	var way []int
	for ; id > 0; id = int(*r.parents.at(id)) {
		way = append(way, id)
	}
	names := [maxNodes]string{"A", "B", "C", "D"}
	if r.w.replay {
		names[r.w.nodes] = "R"
	}
	var x steps
	var lines []string
	s := r.w.first()
	for i := len(way) - 1; i >= 0; i-- {
		r.w.next(&s, &x)
		step := &x.all[*r.choices.at(way[i])]
		lines = append(lines, step.tell(names[step.node]))
		s = step.state
		order, old := r.w.reduce(&s), names
		for k := range r.w.nodes {
			names[k] = old[order[k]]
		}
	}
	return lines
}

// set holds fingerprints of states. Among n states two have the same by chance
// with a probability of n²/2⁶⁵: below one in ten thousand at fifty million.
type set struct {
	seed   maphash.Seed
	tables [64]table // by the upper bits: they grow one after the other
	n      int
	sum    uint64 // keeps touch from being optimised away
}

// table is a part of a set, with open addressing.
type table struct {
	prints []uint64
	n      int
}

func newSet() *set {
	h := &set{seed: maphash.MakeSeed()}
	for i := range h.tables {
		h.tables[i].prints = make([]uint64, 16)
	}
	return h
}

// print returns the fingerprint of a state; it is never 0.
func (h *set) print(s *state) uint64 { return max(maphash.Comparable(h.seed, *s), 1) }

func (h *set) table(x uint64) *table { return &h.tables[x>>58] }

// touch brings the places of several fingerprints into the cache, all at once
// instead of one after the other.
func (h *set) touch(x *steps) {
	for k := range x.n {
		p := x.all[k].print
		t := h.table(p)
		h.sum += t.prints[p&uint64(len(t.prints)-1)]
	}
}

// add reports whether the fingerprint x was not there before.
func (h *set) add(x uint64) bool {
	if !h.table(x).add(x) {
		return false
	}
	h.n++
	return true
}

// has reports whether x is in the set.
func (h *set) has(x uint64) bool {
	t := h.table(x)
	return t.prints[t.find(x)] == x
}

func (t *table) add(x uint64) bool {
	i := t.find(x)
	if t.prints[i] == x {
		return false
	}
	t.prints[i] = x
	if t.n++; t.n*5 > len(t.prints)*4 {
		old := t.prints
		t.prints = make([]uint64, 2*len(old))
		for _, x := range old {
			if x != 0 {
				t.prints[t.find(x)] = x
			}
		}
	}
	return true
}

// find returns the place where x is, or should be.
func (t *table) find(x uint64) uint64 {
	mask := uint64(len(t.prints) - 1)
	i := x & mask
	for t.prints[i] != x && t.prints[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

// pile is a list that grows without being copied.
type pile[T any] struct {
	chunks [][]T
	n      int
}

const chunk = 1 << 14

func (p *pile[T]) push(v T) {
	if p.n == chunk*len(p.chunks) {
		p.chunks = append(p.chunks, make([]T, chunk))
	}
	*p.at(p.n) = v
	p.n++
}

func (p *pile[T]) at(i int) *T { return &p.chunks[i/chunk][i%chunk] }
