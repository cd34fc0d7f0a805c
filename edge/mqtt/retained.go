package mqtt

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// retainedTree holds the last retained message of every topic. The dispatcher changes it,
// sessions read it. The committer's state decides what may enter.
type retainedTree struct {
	mu    sync.RWMutex
	root  retainedNode // guarded by mu
	count int          // guarded by mu
	stamp uint64       // guarded by mu; incremented with each message set
}

// retainedNode has its children in the order of their names, so that a replay can continue
// where it stopped.
type retainedNode struct {
	children []child[retainedNode]
	message  *Message
	stamp    uint64 // of the message
}

func (n *retainedNode) find(name string) (int, bool) {
	return slices.BinarySearchFunc(n.children, name, func(one child[retainedNode], name string) int { return strings.Compare(one.name, name) })
}

// add returns the child of that name, creating it if needed.
func (n *retainedNode) add(name string) *retainedNode {
	i, found := n.find(name)
	if !found {
		n.children = slices.Insert(n.children, i, child[retainedNode]{strings.Clone(name), new(retainedNode)})
	}
	return n.children[i].node
}

// set stores m, or removes the topic's message if m has no payload
// [MQTT-3.3.1-6] [MQTT-3.3.1-7].
func (t *retainedTree) set(m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamp++
	if len(m.Payload) == 0 {
		if t.root.remove(m.Topic, true) {
			t.count--
		}
		return
	}
	n := &t.root
	for level := range strings.SplitSeq(m.Topic, "/") {
		n = n.add(level)
	}
	if n.message == nil {
		t.count++
	}
	n.message, n.stamp = m, t.stamp
}

func (n *retainedNode) remove(rest string, more bool) (removed bool) {
	if !more {
		removed = n.message != nil
		n.message = nil
		return removed
	}
	level, rest, more := strings.Cut(rest, "/")
	i, found := n.find(level)
	if !found {
		return false
	}
	node := n.children[i].node
	removed = node.remove(rest, more)
	if node.message == nil && len(node.children) == 0 {
		n.children = slices.Delete(n.children, i, i+1)
		if len(n.children) == 0 {
			n.children = nil
		}
	}
	return removed
}

// now returns the stamp of the last message set.
func (t *retainedTree) now() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.stamp
}

// len returns the number of topics with a retained message.
func (t *retainedTree) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.count
}

// replay is a subscriber's position among the retained messages for a new subscription: a topic,
// not a copy of the messages. They are looked up one by one when there is room for them.
type replay struct {
	sub    subscription
	filter string   // without the $share prefix
	until  uint64   // stamp: messages set later have reached the subscriber directly
	after  string   // topic of the last one that was taken
	begun  bool     // after is valid
	next   *Message // taken, and waiting for room
	owed   uint64   // number of its record in the log of what is owed; 0: none
	ended  bool     // the subscription has ended
}

// take returns the next message, nil at the end.
func (r *replay) take(t *retainedTree) *Message {
	if r.next == nil && !r.ended {
		r.next = t.next(r)
	}
	return r.next
}

// next finds the first message behind the position of r that is old enough and has not expired,
// and moves r there.
func (t *retainedTree) next(r *replay) (found *Message) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	now := time.Now()
	visit := func(n *retainedNode) bool {
		if n.message == nil || n.stamp > r.until {
			return true
		}
		if at, ok := n.message.expires(); ok && !now.Before(at) {
			return true
		}
		found = n.message
		return false
	}
	var after []string
	if r.begun {
		after = strings.Split(r.after, "/")
	}
	t.root.walk(r.filter, true, true, after, r.begun, visit)
	if found != nil {
		r.after, r.begun = strings.Clone(found.Topic), true
	}
	return found
}

// walk visits, in order, the nodes that match the rest of a filter. If visit returns false, walk
// stops and returns false. With past it leaves out the node itself and everything before the
// levels of after.
func (n *retainedNode) walk(rest string, more, first bool, after []string, past bool, visit func(*retainedNode) bool) bool {
	if !more {
		return past || visit(n)
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		return n.all(first, after, past, visit)
	case "+":
		return n.each(first, after, past, func(child *retainedNode, after []string, past bool) bool {
			return child.walk(rest, more, false, after, past, visit)
		})
	}
	i, found := n.find(level)
	if !found {
		return true
	}
	if past = past && len(after) > 0; past {
		switch strings.Compare(level, after[0]) {
		case -1:
			return true
		case 0:
			after = after[1:]
		default:
			after, past = nil, false
		}
	}
	return n.children[i].node.walk(rest, more, false, after, past, visit)
}

// all visits a node and everything below it: `a/#` matches `a`.
func (n *retainedNode) all(first bool, after []string, past bool, visit func(*retainedNode) bool) bool {
	if !past && !visit(n) {
		return false
	}
	return n.each(first, after, past, func(child *retainedNode, after []string, past bool) bool {
		return child.all(false, after, past, visit)
	})
}

// each calls fn with every child that a leading wildcard matches, beginning with after.
func (n *retainedNode) each(first bool, after []string, past bool, fn func(n *retainedNode, after []string, past bool) bool) bool {
	at := 0
	if past = past && len(after) > 0; past {
		at, _ = n.find(after[0])
	}
	for _, one := range n.children[at:] {
		rest, in := []string(nil), false
		if past && one.name == after[0] {
			rest, in = after[1:], true
		}
		if first && dollar(one.name) {
			continue
		}
		if !fn(one.node, rest, in) {
			return false
		}
	}
	return true
}
