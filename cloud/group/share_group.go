package group

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// sharers is the state of a group of type Share. Its epoch is group.generation.
// Coordinator.mu guards all of it. A partition can be any number of members', so what a
// member is to read changes at once.
type sharers struct {
	members map[string]*sharer // by id
	view    *view              // for which the partitions were assigned
	charged int                // bytes of all assignments; part of Coordinator.bytes
}

// sharer is one member of a group of type Share.
type sharer struct {
	g          *group
	id         string
	rack       string
	clientID   string
	clientHost string
	arrival    uint64
	topics     []string // names it subscribes to, in order
	epoch      int32    // of the assignment that it was told
	previous   int32    // the one before: the answer with epoch may have been lost
	assigned   []Partition
	deadline   time.Time // a sign of life is due before this
	timer      *time.Timer
}

// shareGroup returns the group of that name as one of type Share; an empty group of
// another type becomes one. With join, it makes a group that does not exist.
func (c *Coordinator) shareGroup(name string, join bool) (*group, error) {
	g, is, err := c.ofType(name, Share, join)
	if is || err != nil {
		return g, err
	}
	g.protocolType, g.protocol, g.leader = ShareProtocol, "", ""
	g.consumers, g.sharers = nil, &sharers{members: make(map[string]*sharer), view: newView(0, nil)}
	return g, nil
}

func (ss *sharers) inOrder() []*sharer {
	return slices.SortedFunc(maps.Values(ss.members), func(a, b *sharer) int { return cmp.Compare(a.arrival, b.arrival) })
}

// seeShared replaces the view of the topics by a newer one. It reports whether a topic
// that a member subscribes to has changed.
func (g *group) seeShared(v *view) bool {
	ss := g.sharers
	if v.version <= ss.view.version {
		return false
	}
	before := ss.view
	ss.view = v
	for _, m := range ss.members {
		for _, name := range m.topics {
			if before.topics[name] != v.topics[name] {
				return true
			}
		}
	}
	return false
}

// assignShared begins the next epoch of the group. Each partition goes to one of the
// members that subscribe to its topic; if there are more members than partitions, to
// several. All have about equally many.
func (g *group) assignShared() {
	ss := g.sharers
	g.generation++
	ms := ss.inOrder()
	readers := make(map[string][]*sharer)
	for _, m := range ms {
		m.assigned = []Partition{}
		for _, name := range m.topics {
			readers[name] = append(readers[name], m)
		}
	}
	total, turn := 0, 0
	for _, name := range slices.Sorted(maps.Keys(readers)) {
		t, ok := ss.view.topics[name]
		if !ok || t.partitions == 0 || name == OffsetsTopic {
			continue // it does not exist, or is not for share groups
		}
		ms, n := readers[name], int(t.partitions)
		for i := range max(len(ms), n) {
			m := ms[(turn+i)%len(ms)]
			m.assigned = append(m.assigned, Partition{t.id, int32(i % n)})
			total++
		}
		turn += n
	}
	for _, m := range ms {
		slices.SortFunc(m.assigned, comparePartitions)
	}
	g.c.bytes += total*partitionSize - ss.charged
	ss.charged = total * partitionSize
	if g.state = Stable; len(ms) == 0 {
		g.state = Empty
	}
}

// removeShared removes a member.
func (g *group) removeShared(m *sharer) {
	m.timer.Stop()
	g.c.bytes -= subscriptionSize(m.topics)
	delete(g.sharers.members, m.id)
	g.assignShared()
}

// expireShared removes a member that was silent for its session.
func (c *Coordinator) expireShared(g *group, m *sharer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || g.sharers == nil || g.sharers.members[m.id] != m {
		return
	}
	if left := time.Until(m.deadline); left > 0 {
		m.timer.Reset(left)
		return
	}
	c.opts.Log.Info("group member removed: it sent no heartbeat in time", "group", g.id, "member", m.id, "address", m.clientHost, "session_timeout", g.session())
	g.removeShared(m)
	g.dropIdle()
}

// DescribeShare returns one group of type Share. It returns ErrUnknownGroup if there is
// none, or if the group is of another type.
func (c *Coordinator) DescribeShare(group string) (ShareDescription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(group); err != nil {
		return ShareDescription{}, err
	}
	g, ok := c.groups[group]
	switch {
	case !ok:
		return ShareDescription{}, ErrUnknownGroup
	case g.sharers == nil:
		return ShareDescription{}, notOfType(group, Share)
	}
	d := ShareDescription{Listing: g.listing(), Epoch: g.generation}
	for _, m := range g.sharers.inOrder() {
		d.Details = append(d.Details, ShareMember{
			Member: m.id, Rack: m.rack, Epoch: m.epoch, ClientID: m.clientID, ClientHost: m.clientHost,
			Topics: slices.Clone(m.topics), Assigned: slices.Clone(m.assigned),
		})
	}
	return d, nil
}
