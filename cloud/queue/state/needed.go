package state

import (
	"maps"
	"slices"
)

// Needed is which messages of a vhost are needed: those that a queue has, and those that
// are delayed. It is made step by step, because it takes a while where there are many
// queues; entries may be applied between the steps. Nothing that is needed at its end is
// missing in it: only messages from Before on can become needed.
type Needed struct {
	Before int64 // the end of the vhost when it was begun

	v    *Vhost
	left []QueueID // of which the messages are not in it
	all  set
}

// Needed begins a Needed. Step does the rest.
func (v *Vhost) Needed() *Needed {
	n := &Needed{Before: v.end, v: v, left: slices.Collect(maps.Keys(v.ids))}
	n.all.addAll([]*set{&v.delayed.all})
	return n
}

// Step adds the messages of a few queues, and reports whether that was all. It needs the
// State as its other methods do; Has and Count do not.
func (n *Needed) Step() (done bool) {
	const few = 64
	var sets []*set
	step := n.left[:min(few, len(n.left))]
	for _, id := range step {
		if q := n.v.ids[id]; q != nil { // else it was deleted, with its messages
			for i := range q.waiting {
				sets = append(sets, &q.waiting[i])
			}
		}
	}
	n.all.addAll(sets)
	n.left = n.left[len(step):]
	return len(n.left) == 0
}

// Has reports whether a message is needed.
func (n *Needed) Has(id int64) bool { return n.all.has(id) }

// Count returns how many of the messages from first to next-1 are needed.
func (n *Needed) Count(first, next int64) int64 { return n.all.count(first, next-1) }
