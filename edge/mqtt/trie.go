package mqtt

import (
	"slices"
	"strings"
)

// subscription is one topic filter of a client with its options (§3.8.3.1).
type subscription struct {
	filter            string // as subscribed, with the $share prefix
	qos               byte
	noLocal           bool
	retainAsPublished bool
	retainHandling    byte
	identifier        int // 0: none
}

// trie finds the subscriptions that match a topic. The dispatcher owns it.
type trie struct {
	root  trieNode
	count int // subscriptions

	// Scratch of match, reused from call to call.
	round   uint64
	matches []match
}

// trieNode is one level of a filter. A node with nothing in it is removed.
type trieNode struct {
	children children[trieNode] // "+" and "#" are levels too
	subs     []member
	groups   map[string]*group // shared subscriptions, by share name
}

// group is the members of one shared subscription, in the order in which they
// came, and whose turn it is.
type group struct {
	members []member
	next    int
}

type member struct {
	session *session
	sub     subscription
}

// match is what one subscriber gets of a message: overlapping subscriptions
// are one delivery with the highest QoS and every identifier [MQTT-3.3.4-2]
// [MQTT-3.3.4-3].
type match struct {
	session           *session
	qos               byte
	retainAsPublished bool
	identifiers       []int
}

// subscribe adds or replaces a subscription and reports whether it is new.
func (t *trie) subscribe(s *session, sub subscription) (added bool) {
	share, filter, _ := shareName(sub.filter)
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		n = n.children.add(level)
	}
	if share != "" {
		added = n.join(share, s, sub)
	} else {
		n.subs, added = put(n.subs, member{s, sub})
	}
	if added {
		t.count++
	}
	return added
}

func (n *trieNode) join(share string, s *session, sub subscription) (added bool) {
	g := n.groups[share]
	if g == nil {
		if n.groups == nil {
			n.groups = make(map[string]*group)
		}
		g = new(group)
		n.groups[strings.Clone(share)] = g
	}
	g.members, added = put(g.members, member{s, sub})
	return added
}

// index is where the session stands among the members, or -1.
func index(members []member, s *session) int {
	return slices.IndexFunc(members, func(m member) bool { return m.session == s })
}

// put adds a member, or replaces the session's earlier subscription.
func put(members []member, m member) (_ []member, added bool) {
	if i := index(members, m.session); i >= 0 {
		members[i].sub = m.sub
		return members, false
	}
	return append(members, m), true
}

// unsubscribe removes a subscription, with the nodes that nothing needs any
// more, and reports whether it was there.
func (t *trie) unsubscribe(s *session, full string) bool {
	share, filter, _ := shareName(full)
	removed := t.root.remove(s, share, filter, true)
	if removed {
		t.count--
	}
	return removed
}

func (n *trieNode) remove(s *session, share, rest string, more bool) (removed bool) {
	if more {
		level, rest, more := strings.Cut(rest, "/")
		child := n.children.get(level)
		if child == nil {
			return false
		}
		removed = child.remove(s, share, rest, more)
		if child.empty() {
			n.children.remove(level)
		}
		return removed
	}
	if share == "" {
		i := index(n.subs, s)
		if i < 0 {
			return false
		}
		n.subs = slices.Delete(n.subs, i, i+1)
		return true
	}
	g := n.groups[share]
	if g == nil {
		return false
	}
	i := index(g.members, s)
	if i < 0 {
		return false
	}
	g.members = slices.Delete(g.members, i, i+1)
	if len(g.members) == 0 {
		delete(n.groups, share)
	}
	return true
}

func (n *trieNode) empty() bool {
	return n.children.len() == 0 && len(n.subs) == 0 && len(n.groups) == 0
}

// match returns who gets a message that the client origin published to topic.
// The slice is valid until the next call.
func (t *trie) match(topic, origin string) []match {
	t.round++
	clear(t.matches)
	t.matches = t.matches[:0]
	t.walk(&t.root, topic, true, dollar(topic), origin)
	return t.matches
}

// walk visits the nodes that match what is left of the topic. A `#` below a
// node matches the node's own level too [MQTT-4.7.1-2], also after a `+`.
// Wildcards at the first level do not see topics that begin with `$`.
func (t *trie) walk(n *trieNode, rest string, more, dollar bool, origin string) {
	if !dollar {
		if all := n.children.get("#"); all != nil {
			t.collect(all, origin)
		}
	}
	if !more {
		t.collect(n, origin)
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children.get(level); child != nil {
		t.walk(child, rest, more, false, origin)
	}
	if !dollar {
		if any := n.children.get("+"); any != nil {
			t.walk(any, rest, more, false, origin)
		}
	}
}

// collect adds a node's subscribers to the matches.
func (t *trie) collect(n *trieNode, origin string) {
	for i := range n.subs {
		s, sub := n.subs[i].session, &n.subs[i].sub
		if sub.noLocal && s.id == origin {
			continue // [MQTT-3.8.3-3]
		}
		if s.round != t.round {
			s.round, s.match = t.round, len(t.matches)
			t.matches = append(t.matches, match{session: s, qos: sub.qos})
		}
		m := &t.matches[s.match]
		m.qos = max(m.qos, sub.qos)
		m.retainAsPublished = m.retainAsPublished || sub.retainAsPublished
		if sub.identifier > 0 {
			m.identifiers = append(m.identifiers, sub.identifier)
		}
	}
	for _, g := range n.groups {
		m := g.pick()
		one := match{session: m.session, qos: m.sub.qos, retainAsPublished: m.sub.retainAsPublished}
		if m.sub.identifier > 0 {
			one.identifiers = []int{m.sub.identifier}
		}
		t.matches = append(t.matches, one)
	}
}

// pick chooses the member whose turn it is, and passes over those who are
// offline or have messages waiting as long as anyone is not.
func (g *group) pick() member {
	for i := range g.members {
		at := (g.next + i) % len(g.members)
		if g.members[at].session.idle() {
			g.next = at + 1
			return g.members[at]
		}
	}
	at := g.next % len(g.members)
	for i := range g.members {
		if j := (at + i) % len(g.members); g.members[j].session.online() {
			at = j
			break
		}
	}
	g.next = at + 1
	return g.members[at]
}
