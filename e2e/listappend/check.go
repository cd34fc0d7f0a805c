// Package listappend checks transactions as clients see them. Each partition is a list to
// which transactions append values that nothing else appends, and of which they read what
// is committed. From what the clients were told, and from what the lists have in the end,
// Check finds what must not be. Run is such clients.
package listappend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Outcome is what a client knows of its transaction.
type Outcome string

// The outcomes.
const (
	Committed Outcome = "committed"
	Aborted   Outcome = "aborted"
	Unknown   Outcome = "unknown" // it was to be committed, and the answer did not come
)

// Value is what one transaction has appended, and nothing else.
type Value int64

// Element is a value in a list, at its offset.
type Element struct {
	Offset int64
	Value  Value
}

// Append is a value that was acknowledged in a list.
type Append struct {
	List int32
	Element
}

// Transaction is what a client did.
type Transaction struct {
	Appends []Append
	Reads   []Append // of committed values, while it was open
	Outcome Outcome
}

// Lists are the committed values of each list, by offset.
type Lists map[int32][]Element

// Report says what must not be, one line for each finding.
type Report struct {
	Lost       []string // a committed value is not there, and later ones of its list are
	Unseen     []string // a committed value is not there, nor anything behind it
	Duplicated []string // a value is there more than once, or not where the client was told
	Dirty      []string // a value of an aborted transaction was read (G1a)
	Torn       []string // some values of a transaction are there, and others are not
	G0         []string // transactions of which each has appended right before another: Kafka allows it, since writers are not isolated
	G1c        []string // transactions of which each has read what another has appended
}

// Bad lists all findings that no cluster may have: all but G0.
func (r *Report) Bad() []string {
	return slices.Concat(r.Lost, r.Unseen, r.Duplicated, r.Dirty, r.Torn, r.G1c)
}

// checker is the work of one Check.
type checker struct {
	all    []Transaction
	author map[Value]int // index in all
	final  Lists
	seen   map[Value][]Append // in the end
	Report
}

// Check compares what clients did with what the lists have when all of them have finished.
func Check(all []Transaction, final Lists) Report {
	c := &checker{all: all, author: make(map[Value]int), final: final, seen: make(map[Value][]Append)}
	for i, t := range all {
		for _, a := range t.Appends {
			c.author[a.Value] = i
		}
	}
	for list, elements := range final {
		for _, e := range elements {
			c.seen[e.Value] = append(c.seen[e.Value], Append{list, e})
		}
	}
	for i := range all {
		c.appends(i)
		c.reads(i)
	}
	c.strangers()
	c.G0, c.G1c = c.cycles(c.writes()), c.cycles(c.dependencies())
	return c.Report
}

// appends judges what a transaction has appended.
func (c *checker) appends(i int) {
	t := c.all[i]
	there := 0
	for _, a := range t.Appends {
		at := c.seen[a.Value]
		there += min(len(at), 1)
		switch {
		case len(at) > 1:
			note(&c.Duplicated, "value %d of transaction %d is in %v", a.Value, i, at)
		case len(at) == 1 && at[0] != a:
			note(&c.Duplicated, "value %d of transaction %d is at %v, acknowledged at %v", a.Value, i, at[0], a)
		case len(at) == 1 && t.Outcome == Aborted:
			note(&c.Dirty, "value %d of transaction %d, which was aborted, is at %v", a.Value, i, at[0])
		case len(at) == 0 && t.Outcome == Committed:
			lost := &c.Unseen
			if elements := c.final[a.List]; len(elements) > 0 && elements[len(elements)-1].Offset > a.Offset {
				lost = &c.Lost
			}
			note(lost, "value %d of transaction %d, which was committed, is not at %v", a.Value, i, a)
		}
	}
	if t.Outcome == Unknown && there > 0 && there < len(t.Appends) {
		note(&c.Torn, "of transaction %d, %d of %d values are there", i, there, len(t.Appends))
	}
}

// reads judges what a transaction has read.
func (c *checker) reads(i int) {
	for _, r := range c.all[i].Reads {
		author, known := c.author[r.Value]
		if known && c.all[author].Outcome == Aborted {
			note(&c.Dirty, "transaction %d has read value %d of transaction %d, which was aborted", i, r.Value, author)
		} else if at := c.seen[r.Value]; !slices.Contains(at, r) {
			note(&c.Lost, "transaction %d has read value %d at %v, and it is in %v", i, r.Value, r, at)
		}
	}
}

// strangers are values that no client was told of, which is right only if its append or its
// transaction has an unknown outcome: then nothing else of it may be wrong. A value twice is
// never right.
func (c *checker) strangers() {
	for _, value := range slices.Sorted(maps.Keys(c.seen)) {
		if _, known := c.author[value]; !known && len(c.seen[value]) > 1 {
			note(&c.Duplicated, "value %d, which was not acknowledged, is in %v", value, c.seen[value])
		}
	}
}

// graph is which transaction comes before which.
type graph map[int]map[int]bool

func (g graph) add(from, to int) {
	if from == to {
		return
	}
	if g[from] == nil {
		g[from] = make(map[int]bool)
	}
	g[from][to] = true
}

// writes says who has appended right before whom.
func (c *checker) writes() graph {
	g := make(graph)
	for _, elements := range c.final {
		for i := 1; i < len(elements); i++ {
			from, known := c.author[elements[i-1].Value]
			to, alsoKnown := c.author[elements[i].Value]
			if known && alsoKnown {
				g.add(from, to)
			}
		}
	}
	return g
}

// dependencies says whose values were read by whom.
func (c *checker) dependencies() graph {
	g := make(graph)
	for i, t := range c.all {
		for _, r := range t.Reads {
			if from, known := c.author[r.Value]; known {
				g.add(from, i)
			}
		}
	}
	return g
}

// cycles lists the groups of transactions of which each comes before all others.
func (c *checker) cycles(g graph) []string {
	var found []string
	for _, group := range components(g) {
		if len(group) > 1 {
			note(&found, "transactions %v", group)
		}
	}
	return found
}

// components returns the strongly connected components of a graph (Tarjan), without
// recursion: chains are long.
func components(g graph) (all [][]int) {
	type frame struct {
		node  int
		nexts []int
	}
	index, low, on := make(map[int]int), make(map[int]int), make(map[int]bool)
	var stack []int
	enter := func(node int) frame {
		index[node], low[node], on[node] = len(index)+1, len(index)+1, true
		stack = append(stack, node)
		return frame{node, slices.Sorted(maps.Keys(g[node]))}
	}
	for _, root := range slices.Sorted(maps.Keys(g)) {
		if index[root] != 0 {
			continue
		}
		for work := []frame{enter(root)}; len(work) > 0; {
			f := &work[len(work)-1]
			if len(f.nexts) > 0 {
				next := f.nexts[0]
				f.nexts = f.nexts[1:]
				if index[next] == 0 {
					work = append(work, enter(next))
				} else if on[next] {
					low[f.node] = min(low[f.node], index[next])
				}
				continue
			}
			node := f.node
			work = work[:len(work)-1]
			if len(work) > 0 {
				parent := work[len(work)-1].node
				low[parent] = min(low[parent], low[node])
			}
			if low[node] != index[node] {
				continue
			}
			var group []int
			for top := -1; top != node; {
				top, stack = stack[len(stack)-1], stack[:len(stack)-1]
				on[top] = false
				group = append(group, top)
			}
			slices.SortFunc(group, cmp.Compare[int])
			all = append(all, group)
		}
	}
	return all
}

// most is how many findings of one kind are listed.
const most = 20

func note(to *[]string, format string, a ...any) {
	if len(*to) < most {
		*to = append(*to, fmt.Sprintf(format, a...))
	}
}
