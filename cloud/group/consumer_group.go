package group

import (
	"cmp"
	"maps"
	"slices"
)

// consumers is the state of a group of type Consumer, without its offsets. Its epoch
// is group.generation, which continues when an empty group changes its type.
// Coordinator.mu guards all of it.
//
// A partition moves in two steps. target says which member shall have it. owners says
// which member has it, until that member says that it no longer does. Only then, and
// when no commit for the partition is on its way to the bucket, the member in target
// gets it.
type consumers struct {
	members   map[string]*consumer // by id
	instances map[string]*consumer // by group.instance.id
	view      *view                // for which target was computed
	read      map[string]topic     // topics of the view that any member subscribes to, by name
	assignor  string               // by which target was computed
	target    map[Partition]*consumer
	owners    map[Partition]*consumer
	charged   int // bytes that grow with the number of partitions; part of Coordinator.bytes
}

// partitionSize is how many bytes one partition takes in target, owners and its
// member.
const partitionSize = 160

// consumerGroup returns the group of that name as one of type Consumer; an empty
// group of the other type becomes one. With join, it makes a group that does not
// exist.
func (c *Coordinator) consumerGroup(name string, join bool) (*group, error) {
	g, is, err := c.ofType(name, Consumer, join)
	if is || err != nil {
		return g, err
	}
	g.protocolType, g.protocol, g.leader = consumerProtocol, "", ""
	g.sharers, g.consumers = nil, &consumers{
		members:   make(map[string]*consumer),
		instances: make(map[string]*consumer),
		view:      newView(0, nil),
		assignor:  uniformAssignor,
		target:    make(map[Partition]*consumer),
		owners:    make(map[Partition]*consumer),
	}
	return g, nil
}

// ofType returns the group of that name, and whether it is of a type. One that is not has
// no members: the caller makes it one of the type. With join, it makes a group that does
// not exist.
func (c *Coordinator) ofType(name string, t Type, join bool) (g *group, is bool, err error) {
	g, ok := c.groups[name]
	switch {
	case ok && g.typ() == t:
		return g, true, nil
	case ok && (g.state != Empty || len(g.pending) > 0):
		return nil, false, notOfType(name, t)
	case !join:
		return nil, false, ErrUnknownMember // an earlier owner may have known the member
	case !ok && len(c.groups) >= c.opts.MaxGroups:
		return nil, false, ErrTooManyGroups
	case !ok:
		g = c.newGroup(name)
	}
	return g, false, nil
}

// consumerProtocol is the protocol type of all groups of type Consumer.
const consumerProtocol = "consumer"

// convert makes an empty group of another type a classic one. It returns false if the
// group has members.
func (g *group) convert() bool {
	if g.typ() != Classic && g.state == Empty {
		g.consumers, g.sharers = nil, nil
	}
	return g.typ() == Classic
}

func (cs *consumers) inOrder() []*consumer {
	return slices.SortedFunc(maps.Values(cs.members), func(a, b *consumer) int { return cmp.Compare(a.arrival, b.arrival) })
}

// see replaces the view of the topics by a newer one. It reports whether any topic
// that a member subscribes to has changed.
func (g *group) see(v *view) bool {
	cs := g.consumers
	if v.version <= cs.view.version {
		return false
	}
	cs.view = v
	for _, m := range cs.members {
		m.resolve()
	}
	return !maps.Equal(cs.read, cs.reading())
}

// reading returns the topics that any member subscribes to.
func (cs *consumers) reading() map[string]topic {
	read := make(map[string]topic)
	for _, m := range cs.members {
		for _, name := range m.reads {
			read[name] = cs.view.topics[name]
		}
	}
	return read
}

// advance begins the next epoch of the group, with a new target for its members.
func (g *group) advance() {
	cs := g.consumers
	g.generation++
	cs.read = cs.reading()
	ms := cs.inOrder()
	cs.assignor = preferred(ms)
	total := 0
	of := make([]readers, 0, len(cs.read))
	at := make(map[string]int, len(cs.read))
	for _, name := range slices.Sorted(maps.Keys(cs.read)) {
		at[name] = len(of)
		of = append(of, readers{topic: cs.read[name]})
		total += int(cs.read[name].partitions)
	}
	for _, m := range ms {
		for _, name := range m.reads {
			t := &of[at[name]]
			t.members = append(t.members, m)
		}
		m.target = nil
	}
	assign, _ := assignors(cs.assignor)
	cs.target = assign(ms, of, cs.target)
	for _, t := range of {
		for i := range t.partitions {
			m := cs.target[Partition{t.id, i}]
			m.target = append(m.target, Partition{t.id, i})
		}
	}
	for _, m := range ms {
		slices.SortFunc(m.target, comparePartitions)
		if m.epoch == leaveStaticEpoch {
			m.yield()
		}
	}
	g.c.bytes += total*partitionSize - cs.charged
	cs.charged = total * partitionSize
	if g.state = Reconciling; len(ms) == 0 {
		g.state = Empty
	}
}

// preferred returns the assignor that most members ask for; with equal votes, the one
// that was asked for first.
func preferred(ms []*consumer) string {
	votes, best := make(map[string]int), ""
	for _, m := range ms {
		if m.assignor != "" {
			votes[m.assignor]++
		}
	}
	for _, m := range ms {
		if votes[m.assignor] > votes[best] {
			best = m.assignor
		}
	}
	return cmp.Or(best, uniformAssignor)
}

// status returns the state as administrators see it: a group is stable when every
// member has its target and has said so.
func (g *group) status() State {
	if g.consumers == nil || g.state == Empty {
		return g.state
	}
	for _, m := range g.consumers.members {
		if m.epoch != g.generation || m.waits || len(m.revoking) > 0 {
			return Reconciling
		}
	}
	return Stable
}

func (g *group) typ() Type {
	switch {
	case g.consumers != nil:
		return Consumer
	case g.sharers != nil:
		return Share
	}
	return Classic
}

// size returns the number of members, of any type.
func (g *group) size() int {
	switch g.typ() {
	case Consumer:
		return len(g.consumers.members)
	case Share:
		return len(g.sharers.members)
	}
	return len(g.members)
}
