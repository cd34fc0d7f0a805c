package group

import (
	"cmp"
	"maps"
	"slices"
)

// consumers is what a group of type Consumer is besides its offsets. Its epoch is
// group.generation, which goes on when an empty group changes its type.
// Coordinator.mu guards all of it.
//
// A partition is on its way through target and owners: target says who is to have
// it, owners who has it until he has said that he does not. Only then, and when no
// commit for it is on its way to the bucket, it is given to who is to have it.
type consumers struct {
	members   map[string]*consumer // by id
	instances map[string]*consumer // by group.instance.id
	view      *view                // that target was made for
	read      map[string]topic     // what of it anybody subscribes to, by name
	assignor  string               // that target was made by
	target    map[Partition]*consumer
	owners    map[Partition]*consumer
	charged   int // bytes of what grows with the partitions, in Coordinator.bytes
}

// partitionSize is what one partition takes in target, owners and its member.
const partitionSize = 160

// consumerGroup returns the group of that name as one of type Consumer: an empty
// group of the other type becomes one. join tells whether it may be made.
func (c *Coordinator) consumerGroup(name string, join bool) (*group, error) {
	g, ok := c.groups[name]
	switch {
	case ok && g.consumers != nil:
		return g, nil
	case ok && (g.state != Empty || len(g.pending) > 0):
		return nil, notOfType(name, Consumer)
	case !join:
		return nil, ErrUnknownMember // an earlier owner may have known
	case !ok && len(c.groups) >= c.opts.MaxGroups:
		return nil, ErrTooManyGroups
	case !ok:
		g = c.newGroup(name)
	}
	g.protocolType, g.protocol, g.leader = consumerProtocol, "", ""
	g.consumers = &consumers{
		members:   make(map[string]*consumer),
		instances: make(map[string]*consumer),
		view:      newView(0, nil),
		assignor:  uniformAssignor,
		target:    make(map[Partition]*consumer),
		owners:    make(map[Partition]*consumer),
	}
	return g, nil
}

// consumerProtocol is the protocol type of all groups of type Consumer.
const consumerProtocol = "consumer"

// convert makes an empty group of type Consumer a classic one. False: it has
// members.
func (g *group) convert() bool {
	if g.consumers != nil && g.state == Empty {
		g.consumers = nil
	}
	return g.consumers == nil
}

func (cs *consumers) inOrder() []*consumer {
	return slices.SortedFunc(maps.Values(cs.members), func(a, b *consumer) int { return cmp.Compare(a.arrival, b.arrival) })
}

// see takes over a newer view of the topics, and tells whether anything that
// somebody subscribes to has changed.
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

// reading is what the members subscribe to together.
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

// preferred is the assignor that most members ask for; with equal votes the one
// asked for first.
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

// status is the state as administrators see it: a group is stable when every
// member has what it is to have, and has said so.
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
	if g.consumers != nil {
		return Consumer
	}
	return Classic
}

// members of both types.
func (g *group) size() int {
	if g.consumers != nil {
		return len(g.consumers.members)
	}
	return len(g.members)
}
