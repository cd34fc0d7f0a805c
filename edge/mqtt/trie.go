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

// subscriber is a subscribed client: a session for the dispatcher, which delivers, or a client's
// page for the committer, which writes down what is owed.
type subscriber interface {
	comparable
	name() string // client id
	hit() *hit    // used by the trie
	connected() bool
	busy() int64 // how much it has to do, for the choice among the members of a shared subscription
}

// hit is where the last match that found a subscriber has put it.
type hit struct {
	round uint64
	at    int
}

// trie finds the subscriptions that match a topic. One goroutine owns it.
type trie[S subscriber] struct {
	root  trieNode[S]
	count int // subscriptions

	// may reports whether a subscriber may read a topic; nil: it may.
	may func(s S, topic string) bool

	// Scratch of match, reused by each call.
	topic   string
	denied  int // subscriptions of clients that may not read the topic
	round   uint64
	matches []match[S]
}

// trieNode is one level of a filter. A node with nothing in it is removed.
type trieNode[S subscriber] struct {
	children children[trieNode[S]] // "+" and "#" are levels too
	subs     []member[S]
	groups   map[string]*group[S] // shared subscriptions, by share name
}

// group is the members of one shared subscription, in the order in which they subscribed, and
// the index of the member whose turn it is.
type group[S subscriber] struct {
	members []member[S]
	next    int
}

type member[S subscriber] struct {
	subscriber S
	sub        subscription
}

// match is what one subscriber gets of a message. Overlapping subscriptions
// are one delivery with the highest QoS and every identifier [MQTT-3.3.4-2]
// [MQTT-3.3.4-3].
type match[S subscriber] struct {
	subscriber        S
	qos               byte
	retainAsPublished bool
	identifiers       []int
	share             string // filter of a shared subscription, "" of others
}

// subscribe adds or replaces a subscription and reports whether it is new.
func (t *trie[S]) subscribe(s S, sub subscription) (added bool) {
	share, filter, _ := shareName(sub.filter)
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		n = n.children.add(level)
	}
	if share != "" {
		added = n.join(share, s, sub)
	} else {
		n.subs, added = put(n.subs, member[S]{s, sub})
	}
	if added {
		t.count++
	}
	return added
}

func (n *trieNode[S]) join(share string, s S, sub subscription) (added bool) {
	g := n.groups[share]
	if g == nil {
		if n.groups == nil {
			n.groups = make(map[string]*group[S])
		}
		g = new(group[S])
		n.groups[strings.Clone(share)] = g
	}
	g.members, added = put(g.members, member[S]{s, sub})
	return added
}

// index returns the index of the session among the members, or -1.
func index[S subscriber](members []member[S], s S) int {
	return slices.IndexFunc(members, func(m member[S]) bool { return m.subscriber == s })
}

// put adds a member, or replaces the subscriber's earlier subscription.
func put[S subscriber](members []member[S], m member[S]) (_ []member[S], added bool) {
	if i := index(members, m.subscriber); i >= 0 {
		members[i].sub = m.sub
		return members, false
	}
	return append(members, m), true
}

// unsubscribe removes a subscription and the nodes that are not needed any more. It reports
// whether the subscription existed.
func (t *trie[S]) unsubscribe(s S, full string) bool {
	share, filter, _ := shareName(full)
	removed := t.root.remove(s, share, filter, true)
	if removed {
		t.count--
	}
	return removed
}

func (n *trieNode[S]) remove(s S, share, rest string, more bool) (removed bool) {
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

func (n *trieNode[S]) empty() bool {
	return n.children.len() == 0 && len(n.subs) == 0 && len(n.groups) == 0
}

// match returns the subscribers that get a message that the client origin published to topic. The
// slice is valid until the next call.
func (t *trie[S]) match(topic, origin string) []match[S] {
	t.round++
	t.topic, t.denied = topic, 0
	clear(t.matches)
	t.matches = t.matches[:0]
	t.walk(&t.root, topic, true, dollar(topic), origin)
	return t.matches
}

// walk visits the nodes that match what is left of the topic. A `#` below a
// node matches the node's own level too [MQTT-4.7.1-2], also after a `+`.
// Wildcards at the first level do not see topics that begin with `$`.
func (t *trie[S]) walk(n *trieNode[S], rest string, more, dollar bool, origin string) {
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
func (t *trie[S]) collect(n *trieNode[S], origin string) {
	for i := range n.subs {
		s, sub := n.subs[i].subscriber, &n.subs[i].sub
		if sub.noLocal && s.name() == origin {
			continue // [MQTT-3.8.3-3]
		}
		if !t.allows(s, t.topic) {
			t.denied++
			continue
		}
		h := s.hit()
		if h.round != t.round {
			h.round, h.at = t.round, len(t.matches)
			t.matches = append(t.matches, match[S]{subscriber: s, qos: sub.qos})
		}
		m := &t.matches[h.at]
		m.qos = max(m.qos, sub.qos)
		m.retainAsPublished = m.retainAsPublished || sub.retainAsPublished
		if sub.identifier > 0 {
			m.identifiers = append(m.identifiers, sub.identifier)
		}
	}
	for _, g := range n.groups {
		leave := func(s S) bool { return !t.allows(s, t.topic) }
		if slices.ContainsFunc(g.members, func(m member[S]) bool { return !leave(m.subscriber) }) {
			t.matches = append(t.matches, g.pick(leave).match())
		}
	}
}

// allows reports whether a subscriber may read a topic.
func (t *trie[S]) allows(s S, topic string) bool { return t.may == nil || t.may(s, topic) }

// match returns the delivery to the chosen member.
func (m member[S]) match() match[S] {
	one := match[S]{subscriber: m.subscriber, qos: m.sub.qos, retainAsPublished: m.sub.retainAsPublished, share: m.sub.filter}
	if m.sub.identifier > 0 {
		one.identifiers = []int{m.sub.identifier}
	}
	return one
}

// pick chooses the member that has least to do; among equals, the one whose turn it is. A member
// without connection is chosen only if no member is connected. A member for which leave returns
// true is not chosen. leave may be nil, and must not return true for all members.
func (g *group[S]) pick(leave func(S) bool) member[S] {
	best, found := 0, false
	for i := range g.members {
		at := (g.next + i) % len(g.members)
		s := g.members[at].subscriber
		if leave != nil && leave(s) {
			continue
		}
		if t := g.members[best].subscriber; !found || s.connected() != t.connected() && s.connected() ||
			s.connected() == t.connected() && s.busy() < t.busy() {
			best, found = at, true
		}
	}
	g.next = best + 1
	return g.members[best]
}

// group returns the members of a shared subscription, nil if there are none.
func (t *trie[S]) group(full string) *group[S] {
	share, filter, _ := shareName(full)
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		if n = n.children.get(level); n == nil {
			return nil
		}
	}
	return n.groups[share]
}
