package audit

// books account for readings that gateways reported as lost. A gap names
// sequences, not readings, so a missing reading counts as reported if a gap
// lies between the places of its device's neighbouring readings, and if the gap
// has not been used up by others. Between two places of one stream only a gap of
// that stream lies.
type books struct{ entries []entry }

type entry struct {
	stream      string
	first, last uint64
	exact       bool
	left        uint64 // how many readings it can still account for
}

func newBooks(gaps []Gap) *books {
	b := &books{}
	for _, g := range gaps {
		for _, r := range g.Ranges {
			e := entry{g.Buffer + "/" + g.Lane, r[0], r[1], g.Exact, r[1] - r[0] + 1}
			if !g.Exact {
				e.left = 1 << 62 // the gateway says that it does not know how many
			}
			b.entries = append(b.entries, e)
		}
	}
	return b
}

// cover accounts for one missing reading between two places that were read.
func (b *books) cover(before, after Source) bool {
	for k := range b.entries {
		e := &b.entries[k]
		switch {
		case e.left == 0:
		case before.Stream != "" && before.Stream == after.Stream && before.Stream != e.stream:
		case before.Stream == e.stream && e.exact && e.last < before.Seq:
		case after.Stream == e.stream && e.first > after.Seq:
		default:
			e.left--
			return true
		}
	}
	return false
}

// neighbours walks over the readings of one device and knows, at each, where
// the nearest ones before and after it were read.
type neighbours struct {
	h      *history
	before Source
	next   int // index of the nearest later reading that was read
}

// at is called with i = 0, 1, 2 …
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

// bitmap remembers offsets, which are dense.
type bitmap struct{ words []uint64 }

// set reports whether the offset is new.
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
