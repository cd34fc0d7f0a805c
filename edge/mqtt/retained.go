package mqtt

import "strings"

// retainedTree holds the last retained message of every topic. The dispatcher
// owns it; the committer's ledger decides what may enter.
type retainedTree struct {
	root  retainedNode
	count int
}

type retainedNode struct {
	children children[retainedNode]
	message  *Message
}

// set stores m, or removes what is there when m has no payload
// [MQTT-3.3.1-6] [MQTT-3.3.1-7].
func (t *retainedTree) set(m *Message) {
	if len(m.Payload) == 0 {
		t.remove(m.Topic)
		return
	}
	n := &t.root
	for level := range strings.SplitSeq(m.Topic, "/") {
		n = n.children.add(level)
	}
	if n.message == nil {
		t.count++
	}
	n.message = m
}

func (t *retainedTree) remove(topic string) {
	if t.root.remove(topic, true) {
		t.count--
	}
}

func (n *retainedNode) remove(rest string, more bool) (removed bool) {
	if !more {
		removed = n.message != nil
		n.message = nil
		return removed
	}
	level, rest, more := strings.Cut(rest, "/")
	child := n.children.get(level)
	if child == nil {
		return false
	}
	removed = child.remove(rest, more)
	if child.message == nil && child.children.len() == 0 {
		n.children.remove(level)
	}
	return removed
}

// match calls fn with every retained message whose topic matches the filter,
// which has no $share prefix.
func (t *retainedTree) match(filter string, fn func(*Message)) {
	t.root.match(filter, true, true, fn)
}

func (n *retainedNode) match(rest string, more, first bool, fn func(*Message)) {
	if !more {
		if n.message != nil {
			fn(n.message)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		n.all(first, fn)
	case "+":
		n.children.each(func(name string, child *retainedNode) {
			if !first || !dollar(name) {
				child.match(rest, more, false, fn)
			}
		})
	default:
		if child := n.children.get(level); child != nil {
			child.match(rest, more, false, fn)
		}
	}
}

// all visits a node and everything below it: `a/#` matches `a`.
func (n *retainedNode) all(first bool, fn func(*Message)) {
	if n.message != nil {
		fn(n.message)
	}
	n.children.each(func(name string, child *retainedNode) {
		if !first || !dollar(name) {
			child.all(false, fn)
		}
	})
}
