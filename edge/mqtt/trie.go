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

// hit is where the last match that found a client has put it.
type hit struct {
	round uint64
	at    int
}

// trie finds the subscriptions that match a topic. The committer owns it.
type trie struct {
	root    trieNode
	count   int    // subscriptions
	changes uint64 // counts the calls that have changed subscriptions

	// may reports whether a client may read a topic; nil: it may.
	may func(c *client, topic string) bool

	// Scratch of match, reused by each call.
	topic   string
	nodes   []*trieNode
	denied  int  // subscriptions of clients that may not read the topic
	same    bool // every message that finds the same nodes finds the same clients
	round   uint64
	matches []match
}

// trieNode is one level of a filter. A node with nothing in it is removed.
type trieNode struct {
	children children[trieNode] // "+" and "#" are levels too
	subs     []member
	groups   map[string]*group // shared subscriptions, by share name
}

// group is the members of one shared subscription, in the order in which they subscribed, and
// the index of the member whose turn it is.
type group struct {
	members []member
	next    int
}

type member struct {
	client *client
	sub    subscription
}

// match is what one client gets of a message. Overlapping subscriptions
// are one delivery with the highest QoS and every identifier [MQTT-3.3.4-2]
// [MQTT-3.3.4-3].
type match struct {
	client            *client
	qos               byte
	retainAsPublished bool
	identifiers       []int
	share             string // filter of a shared subscription, "" of others
}

// subscribe adds or replaces a subscription and reports whether it is new.
func (t *trie) subscribe(c *client, sub subscription) (added bool) {
	share, filter, _ := shareName(sub.filter)
	t.changes++
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		n = n.children.add(level)
	}
	if share != "" {
		added = n.join(share, c, sub)
	} else {
		n.subs, added = put(n.subs, member{c, sub})
	}
	if added {
		t.count++
	}
	return added
}

func (n *trieNode) join(share string, c *client, sub subscription) (added bool) {
	g := n.groups[share]
	if g == nil {
		if n.groups == nil {
			n.groups = make(map[string]*group)
		}
		g = new(group)
		n.groups[strings.Clone(share)] = g
	}
	g.members, added = put(g.members, member{c, sub})
	return added
}

// index returns the index of the client among the members, or -1.
func index(members []member, c *client) int {
	return slices.IndexFunc(members, func(m member) bool { return m.client == c })
}

// put adds a member, or replaces the client's earlier subscription.
func put(members []member, m member) (_ []member, added bool) {
	if i := index(members, m.client); i >= 0 {
		members[i].sub = m.sub
		return members, false
	}
	return append(members, m), true
}

// unsubscribe removes a subscription and the nodes that are not needed any more. It reports
// whether the subscription existed.
func (t *trie) unsubscribe(c *client, full string) bool {
	share, filter, _ := shareName(full)
	t.changes++
	removed := t.root.remove(c, share, filter, true)
	if removed {
		t.count--
	}
	return removed
}

func (n *trieNode) remove(c *client, share, rest string, more bool) (removed bool) {
	if more {
		level, rest, more := strings.Cut(rest, "/")
		child := n.children.get(level)
		if child == nil {
			return false
		}
		removed = child.remove(c, share, rest, more)
		if child.empty() {
			n.children.remove(level)
		}
		return removed
	}
	if share == "" {
		i := index(n.subs, c)
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
	i := index(g.members, c)
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

// find returns the nodes that match a topic. The slice is valid until the next call.
func (t *trie) find(topic string) []*trieNode {
	t.nodes = t.nodes[:0]
	t.walk(&t.root, topic, true, dollar(topic))
	return t.nodes
}

// match returns the clients that get a message that the client origin published to topic, of
// which find has just found the nodes. The slice is valid until the next call.
func (t *trie) match(topic, origin string) []match {
	t.round++
	t.topic, t.denied, t.same = topic, 0, t.may == nil
	clear(t.matches)
	t.matches = t.matches[:0]
	for _, n := range t.nodes {
		t.collect(n, origin)
	}
	return t.matches
}

// walk visits the nodes that match what is left of the topic. A `#` below a
// node matches the node's own level too [MQTT-4.7.1-2], also after a `+`.
// Wildcards at the first level do not see topics that begin with `$`.
func (t *trie) walk(n *trieNode, rest string, more, dollar bool) {
	if !dollar {
		if all := n.children.get("#"); all != nil {
			t.nodes = append(t.nodes, all)
		}
	}
	if !more {
		if len(n.subs)+len(n.groups) > 0 {
			t.nodes = append(t.nodes, n)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children.get(level); child != nil {
		t.walk(child, rest, more, false)
	}
	if !dollar {
		if any := n.children.get("+"); any != nil {
			t.walk(any, rest, more, false)
		}
	}
}

// collect adds a node's clients to the matches.
func (t *trie) collect(n *trieNode, origin string) {
	for i := range n.subs {
		c, sub := n.subs[i].client, &n.subs[i].sub
		if sub.noLocal {
			t.same = false
			if c.id == origin {
				continue // [MQTT-3.8.3-3]
			}
		}
		if !t.allows(c, t.topic) {
			t.denied++
			continue
		}
		h := &c.matched
		if h.round != t.round {
			h.round, h.at = t.round, len(t.matches)
			t.matches = append(t.matches, match{client: c, qos: sub.qos})
		}
		m := &t.matches[h.at]
		m.qos = max(m.qos, sub.qos)
		m.retainAsPublished = m.retainAsPublished || sub.retainAsPublished
		if sub.identifier > 0 {
			m.identifiers = append(m.identifiers, sub.identifier)
		}
	}
	for _, g := range n.groups {
		t.same = false
		leave := func(c *client) bool { return !t.allows(c, t.topic) }
		if slices.ContainsFunc(g.members, func(m member) bool { return !leave(m.client) }) {
			t.matches = append(t.matches, g.pick(leave).match())
		}
	}
}

// allows reports whether a client may read a topic.
func (t *trie) allows(c *client, topic string) bool { return t.may == nil || t.may(c, topic) }

// match returns the delivery to the chosen member.
func (m member) match() match {
	one := match{client: m.client, qos: m.sub.qos, retainAsPublished: m.sub.retainAsPublished, share: m.sub.filter}
	if m.sub.identifier > 0 {
		one.identifiers = []int{m.sub.identifier}
	}
	return one
}

// pick chooses the member that has least to do; among equals, the one whose turn it is. A member
// without connection is chosen only if no member is connected. A member for which leave returns
// true is not chosen. leave may be nil, and must not return true for all members.
func (g *group) pick(leave func(*client) bool) member {
	best, found := 0, false
	for i := range g.members {
		at := (g.next + i) % len(g.members)
		c := g.members[at].client
		if leave != nil && leave(c) {
			continue
		}
		if b := g.members[best].client; !found || c.conn != nil && b.conn == nil ||
			(c.conn != nil) == (b.conn != nil) && c.account.shared.Load() < b.account.shared.Load() {
			best, found = at, true
		}
	}
	g.next = best + 1
	return g.members[best]
}

// group returns the members of a shared subscription, nil if there are none.
func (t *trie) group(full string) *group {
	share, filter, _ := shareName(full)
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		if n = n.children.get(level); n == nil {
			return nil
		}
	}
	return n.groups[share]
}
