package group

import (
	"cmp"
	"slices"
	"time"
)

// group is one consumer group. Coordinator.mu guards all of it.
type group struct {
	c  *Coordinator
	id string

	state        State
	generation   int32
	protocolType string
	protocol     string             // chosen for this generation
	leader       string             // member id
	members      map[string]*member // by id
	instances    map[string]string  // group.instance.id → member id
	pending      map[string]*time.Timer
	arrivals     uint64 // members that ever arrived: gives their order

	timer     *time.Timer // of the phase that the rebalance is in
	phase     uint64      // counts phases, so that a timer of an earlier one knows that it is late
	settling  bool        // the first rebalance of an empty group still waits for more members
	settled   time.Time   // it waits no longer than this
	newcomers bool        // somebody came since the last look

	offsets map[Partition]Offset // durable: changed by Apply only
	flying  int                  // commits proposed and not yet applied
	landing map[Partition]int    // the same for each partition
	held    bool                 // joining is over, and the next generation waits for flying commits

	consumers *consumers // nil: a classic group

	partition int32 // of the offsets topic
	shown     int32 // generation that the offsets topic describes; 0: none
	shownAt   int64 // offset of that description
}

func (c *Coordinator) newGroup(id string) *group {
	g := &group{
		c: c, id: id, state: Empty, partition: OffsetsPartition(id),
		members:   make(map[string]*member),
		instances: make(map[string]string),
		pending:   make(map[string]*time.Timer),
		offsets:   make(map[Partition]Offset),
		landing:   make(map[Partition]int),
	}
	c.groups[id] = g
	return g
}

// dropIdle forgets a group of which nothing is left to remember.
func (g *group) dropIdle() {
	if g.state == Empty && len(g.members)+len(g.pending)+len(g.offsets)+g.flying == 0 {
		delete(g.c.groups, g.id)
	}
}

// shut answers all that wait and stops all timers. The group is not used again.
func (g *group) shut() {
	g.endPhase()
	for _, m := range g.members {
		m.answer(ErrClosed)
		m.timer.Stop()
	}
	for _, t := range g.pending {
		t.Stop()
	}
	if g.consumers == nil {
		return
	}
	for _, m := range g.consumers.members {
		m.release()
		m.timer.Stop()
	}
}

// inOrder returns the members in the order in which they arrived.
func (g *group) inOrder() []*member {
	ms := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b *member) int { return cmp.Compare(a.arrival, b.arrival) })
	return ms
}

// find returns the member that a request names, or why there is none. A static
// member whose instance id now belongs to another one is fenced (KIP-345).
func (g *group) find(who Identity) (*member, error) {
	if who.Instance != "" {
		owner, ok := g.instances[who.Instance]
		if !ok {
			return nil, ErrUnknownMember
		}
		if owner != who.Member {
			return nil, ErrFencedInstance
		}
	}
	m, ok := g.members[who.Member]
	if !ok {
		return nil, ErrUnknownMember
	}
	return m, nil
}

// accepts tells whether a member with these protocols can live with the others:
// the same protocol type, and at least one protocol that everybody supports.
func (g *group) accepts(r *JoinRequest) bool {
	if r.ProtocolType == "" || len(r.Protocols) == 0 {
		return false
	}
	replaced := r.Member
	if replaced == "" && r.Instance != "" {
		replaced = g.instances[r.Instance]
	}
	others := 0
	for id := range g.members {
		if id != replaced {
			others++
		}
	}
	if others == 0 {
		return len(g.members) == 0 || r.ProtocolType == g.protocolType
	}
	return r.ProtocolType == g.protocolType && slices.ContainsFunc(r.Protocols, func(p Protocol) bool {
		for id, m := range g.members {
			if id != replaced && !m.supports(p.Name) {
				return false
			}
		}
		return true
	})
}

// choose returns the protocol of the next generation: of those that all members
// support, the one that most of them prefer; with equal votes the first in the
// order of arrival.
func (g *group) choose() string {
	ms := g.inOrder()
	votes := make(map[string]int)
	best := ""
	for _, m := range ms {
		for _, p := range m.protocols {
			if !slices.ContainsFunc(ms, func(o *member) bool { return !o.supports(p.Name) }) {
				votes[p.Name]++
				break
			}
		}
	}
	for _, m := range ms {
		for _, p := range m.protocols {
			if votes[p.Name] > votes[best] {
				best = p.Name
			}
		}
	}
	return best
}

// patience is how long a rebalance waits: the longest that any member asks for.
func (g *group) patience() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}
