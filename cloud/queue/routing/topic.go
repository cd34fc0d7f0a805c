package routing

import "strings"

// node is a node of the trie of a topic exchange: a prefix of patterns, in words. The empty
// pattern and the empty key have no words; "a." has two, the second of them empty.
type node struct {
	parent     *node
	word       string
	only       *node            // the child by a plain word, as long as there is one
	kids       map[string]*node // the children by plain words, if there were more
	star, hash *node            // the children by * and #
	loops      bool             // the node is its parent's hash: any word leads back to it
	mark       uint64           // the step of a walk that has reached it
	here       list             // the bindings whose pattern ends here
}

func (n *node) empty() bool {
	return n.only == nil && len(n.kids) == 0 && n.star == nil && n.hash == nil && len(n.here.items) == 0
}

func (n *node) child(word string) *node {
	if n.only != nil {
		if n.only.word == word {
			return n.only
		}
		return nil
	}
	return n.kids[word]
}

// grow returns the child by a word of a pattern, and makes it if it is not there.
func (n *node) grow(word string) *node {
	switch word {
	case "*":
		if n.star == nil {
			n.star = &node{parent: n, word: word}
		}
		return n.star
	case "#":
		if n.hash == nil {
			n.hash = &node{parent: n, word: word, loops: true}
		}
		return n.hash
	}
	if c := n.child(word); c != nil {
		return c
	}
	c := &node{parent: n, word: word}
	switch {
	case n.kids != nil:
		n.kids[word] = c
	case n.only != nil:
		n.kids = map[string]*node{n.only.word: n.only, word: c}
		n.only = nil
	default:
		n.only = c
	}
	return c
}

// prune takes n and its parents out of the trie, as far up as they are empty.
func (n *node) prune() {
	for p := n.parent; p != nil && n.empty(); n, p = p, p.parent {
		switch n {
		case p.star:
			p.star = nil
		case p.hash:
			p.hash = nil
		case p.only:
			p.only = nil
		default:
			if delete(p.kids, n.word); len(p.kids) == 0 {
				p.kids = nil
			}
		}
	}
}

// find returns the node where a pattern ends; with grow it makes the path.
func (n *node) find(pattern string, grow bool) *node {
	if pattern == "" {
		return n
	}
	for word := range strings.SplitSeq(pattern, ".") {
		switch {
		case grow:
			n = n.grow(word)
		case word == "*":
			n = n.star
		case word == "#":
			n = n.hash
		default:
			n = n.child(word)
		}
	}
	return n
}

// walk is the scratch space of walks through tries: all nodes that the words so far lead
// to, each once, so that many # in a pattern cost no more than their nodes.
type walk struct {
	now, then []*node
	step      uint64
}

// enter adds a node, and what # leads to with no word.
func (w *walk) enter(to []*node, n *node) []*node {
	for ; n != nil && n.mark != w.step; n = n.hash {
		n.mark = w.step
		to = append(to, n)
	}
	return to
}

// match returns the nodes whose patterns match the key, until the next call.
func (w *walk) match(root *node, key string) []*node {
	w.step++
	w.now = w.enter(w.now[:0], root)
	for word, rest, more := "", key, key != ""; more && len(w.now) > 0; {
		word, rest, more = strings.Cut(rest, ".")
		w.step++
		then := w.then[:0]
		for _, n := range w.now {
			if n.loops {
				then = w.enter(then, n)
			}
			then = w.enter(then, n.child(word))
			then = w.enter(then, n.star)
		}
		w.now, w.then = then, w.now
	}
	return w.now
}
