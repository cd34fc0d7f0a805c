package state

import "slices"

// counts has a count per offset, as the sets of those whose count has a certain bit: what
// many messages in a row have costs as much as what one has.
type counts []set

const countBits = 31

func (c counts) of(id int64) int {
	n := 0
	for bit := range c {
		if c[bit].has(id) {
			n |= 1 << bit
		}
	}
	return n
}

// add counts one more for each of first to last.
func (c *counts) add(first, last int64) { c.carry(0, Range{first, last}) }

// carry adds 1<<bit for each of r.
func (c *counts) carry(bit int, r Range) {
	if bit == countBits {
		return // it has counted to 2³¹ and begins again
	}
	if bit == len(*c) {
		*c = append(*c, set{})
	}
	plane := &(*c)[bit]
	carried := slices.Collect(plane.runs(r.First, r.Last))
	plane.add(r.First, r.Last)
	for _, x := range carried {
		plane.remove(x.First, x.Last)
		c.carry(bit+1, x)
		plane = &(*c)[bit]
	}
}

func (c *counts) remove(first, last int64) {
	for bit := range *c {
		(*c)[bit].remove(first, last)
	}
	for len(*c) > 0 && (*c)[len(*c)-1].n == 0 {
		*c = (*c)[:len(*c)-1]
	}
	if len(*c) == 0 {
		*c = nil
	}
}
