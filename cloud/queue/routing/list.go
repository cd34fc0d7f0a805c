package routing

import (
	"cmp"
	"slices"
)

// binding is a Binding in a Table. It stands in the index of the Table, in the lists of its
// source and its destination, and in the list that its source finds it by.
type binding struct {
	source    *exchange
	to        *destination
	key, args string
	match     *Match   // with a headers exchange
	next      *binding // of the same hash in the index
	out, in   int32    // where it stands in source.out and to.in
	number    uint64   // of all that were ever bound to the Table
}

// unbound is the out of a binding that is gone, and perhaps still in a list.
const unbound = -1

func compareBindings(a, b *binding) int {
	if a.to != b.to {
		if c := cmp.Compare(a.to.name, b.to.name); c != 0 {
			return c
		}
		if a.to.exchange == nil {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.args, b.args))
}

// list is bindings in the order of compareBindings, which is made when they are read: then
// a million of them are bound or unbound in any order without moving the others each time.
type list struct {
	items []*binding
	gone  int32
	dirty bool
}

func (l *list) add(b *binding) {
	if n := len(l.items); n > 0 && compareBindings(l.items[n-1], b) >= 0 {
		l.dirty = true
	}
	l.items = append(l.items, b)
}

// removed counts a binding that is gone.
func (l *list) removed() {
	if l.gone++; int(l.gone) == len(l.items) {
		*l = list{}
	} else if int(l.gone) > len(l.items)/2 {
		l.sweep()
	}
}

func (l *list) sweep() {
	l.items = slices.DeleteFunc(l.items, func(b *binding) bool { return b.out == unbound })
	l.gone = 0
}

func (l *list) read() []*binding {
	if l.gone > 0 {
		l.sweep()
	}
	if l.dirty {
		slices.SortFunc(l.items, compareBindings)
		l.dirty = false
	}
	return l.items
}
