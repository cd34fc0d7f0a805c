package audit

import (
	"cmp"
	"slices"
	"strings"
)

// books match missing readings with the gaps that gateways reported. A gap names sequences, not
// readings. So a missing reading counts as reported if a gap lies between the places of its
// device's neighbouring readings, and the gap has not been used up by other readings. Between two
// places of one stream only gaps of that stream count.
type books struct{ entries []entry }

type entry struct {
	stream      string
	first, last uint64
	exact       bool
	left        uint64 // how many readings it can still account for
}

func newBooks(gaps []GapReport) *books {
	b := &books{}
	for _, g := range gaps {
		for _, r := range g.Ranges {
			e := entry{g.Buffer + "/" + g.Lane, r[0], r[1], g.Exact, r[1] - r[0] + 1}
			if !g.Exact {
				e.left = 1 << 62 // the gateway reports that it does not know how many
			}
			b.entries = append(b.entries, e)
		}
	}
	return b
}

// missing is a reading that was acknowledged and not read. It lies between the places of two
// readings that were read.
type missing struct{ before, after Source }

// fits reports whether the reading can be one of those that the entry reports.
func (e *entry) fits(m missing) bool {
	switch {
	case m.before.Stream != "" && m.before.Stream == m.after.Stream && m.before.Stream != e.stream:
		return false
	case m.before.Stream == e.stream && e.exact && e.last < m.before.Seq:
		return false
	case m.after.Stream == e.stream && e.first > m.after.Seq:
		return false
	}
	return true
}

// settle returns how many of the missing readings the entries account for. A reading that fits
// several entries must not use up one that another reading needs. So the readings are taken in the
// order of the last entry that they fit, and each uses the first entry with room.
func (b *books) settle(all []missing) (reported int) {
	slices.SortFunc(b.entries, func(x, y entry) int {
		return cmp.Or(strings.Compare(x.stream, y.stream), cmp.Compare(x.first, y.first))
	})
	byLast := make([][]missing, len(b.entries))
	for _, m := range all {
		for k := len(b.entries) - 1; k >= 0; k-- {
			if b.entries[k].fits(m) {
				byLast[k] = append(byLast[k], m)
				break
			}
		}
	}
	for k := range byLast {
		for _, m := range byLast[k] {
			i := slices.IndexFunc(b.entries[:k+1], func(e entry) bool { return e.left > 0 && e.fits(m) })
			if i >= 0 {
				b.entries[i].left--
				reported++
			}
		}
	}
	return reported
}

// neighbours iterates over the readings of one device. At each reading it knows where the nearest
// ones before and after it were read.
type neighbours struct {
	h      *history
	before Source
	next   int // index of the nearest later reading that was read
}

// at must be called with i = 0, 1, 2 …
func (n *neighbours) at(i int) (before, after Source) {
	if i > 0 {
		if c := n.h.readings[i-1].copies; len(c) > 0 {
			n.before = c[0]
		}
	}
	n.next = max(n.next, i+1)
	for n.next < len(n.h.readings) && len(n.h.readings[n.next].copies) == 0 {
		n.next++
	}
	if n.next < len(n.h.readings) {
		after = n.h.readings[n.next].copies[0]
	}
	return n.before, after
}

// bitmap is a set of offsets, which are dense.
type bitmap struct{ words []uint64 }

// set adds an offset, and reports whether it is new.
func (b *bitmap) set(offset int64) bool {
	for int64(len(b.words)) <= offset/64 {
		b.words = append(b.words, 0)
	}
	word, bit := &b.words[offset/64], uint64(1)<<(offset%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
