package mqtt

import (
	"slices"
	"strings"
)

// manyLevels is how many children a node of a topic tree keeps in a slice. Most nodes have
// one child; a map would cost five times as much.
const manyLevels = 16

// levelCost is the most that one level of a filter costs, in bytes: a node, and its entry
// among its parent's children.
const levelCost = 128

// children are the nodes below a node of a topic tree, by topic level.
type children[N any] struct {
	few  []child[N]    // sorted by name
	many map[string]*N // used instead of few for more than manyLevels
}

type child[N any] struct {
	name string
	node *N
}

func (c *children[N]) find(name string) (int, bool) {
	return slices.BinarySearchFunc(c.few, name, func(one child[N], name string) int { return strings.Compare(one.name, name) })
}

func (c *children[N]) len() int { return len(c.few) + len(c.many) }

// get returns the child of that name, or nil.
func (c *children[N]) get(name string) *N {
	if c.many != nil {
		return c.many[name]
	}
	if i, found := c.find(name); found {
		return c.few[i].node
	}
	return nil
}

// add returns the child of that name, creating it if needed.
func (c *children[N]) add(name string) *N {
	if n := c.get(name); n != nil {
		return n
	}
	n := new(N)
	name = strings.Clone(name) // must not keep a longer string alive
	switch {
	case c.many != nil:
		c.many[name] = n
	case len(c.few) < manyLevels:
		i, _ := c.find(name)
		c.few = slices.Insert(c.few, i, child[N]{name, n})
	default:
		c.many = make(map[string]*N, 2*manyLevels)
		for _, one := range c.few {
			c.many[one.name] = one.node
		}
		c.few, c.many[name] = nil, n
	}
	return n
}

// remove removes the child of that name.
func (c *children[N]) remove(name string) {
	if c.many != nil {
		delete(c.many, name)
		if len(c.many) == 0 {
			c.many = nil
		}
		return
	}
	if i, found := c.find(name); found {
		c.few = slices.Delete(c.few, i, i+1)
		if len(c.few) == 0 {
			c.few = nil
		}
	}
}
