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
	arrivals     uint64 // number of members that ever arrived: gives their order

	timer     *time.Timer // of the current phase of the rebalance
	phase     uint64      // number of the phase: a late timer of an earlier phase has another number
	settling  bool        // the first rebalance of an empty group still waits for more members
	settled   time.Time   // settling ends then at the latest
	newcomers bool        // a member has arrived since the last check

	offsets    map[Partition]Offset // durable: only Apply changes it
	inFlight   int                  // commits proposed and not yet applied
	committing map[Partition]int    // the same, by partition
	held       bool                 // joining is over, and the next generation waits for commits in flight

	consumers *consumers // of a group of type Consumer, else nil
	sharers   *sharers   // of a group of type Share, else nil

	partition int32 // of the offsets topic
	shown     int32 // generation in the latest description in the offsets topic; 0: none
	shownAt   int64 // offset of that description
}

func (c *Coordinator) newGroup(id string) *group {
	g := &group{
		c: c, id: id, state: Empty, partition: OffsetsPartition(id),
		members:    make(map[string]*member),
		instances:  make(map[string]string),
		pending:    make(map[string]*time.Timer),
		offsets:    make(map[Partition]Offset),
		committing: make(map[Partition]int),
	}
	c.groups[id] = g
	return g
}

// dropIdle forgets a group that has neither members nor offsets.
func (g *group) dropIdle() {
	if g.state == Empty && len(g.members)+len(g.pending)+len(g.offsets)+g.inFlight == 0 {
		delete(g.c.groups, g.id)
	}
}

// shut answers all waiting requests and stops all timers. The group is not used
// again.
func (g *group) shut() {
	g.endPhase()
	for _, m := range g.members {
		m.answer(ErrClosed)
		m.timer.Stop()
	}
	for _, t := range g.pending {
		t.Stop()
	}
	if g.consumers != nil {
		for _, m := range g.consumers.members {
			m.release()
			m.timer.Stop()
		}
	}
	if g.sharers != nil {
		for _, m := range g.sharers.members {
			m.timer.Stop()
		}
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

// find returns the member that a request names, or an error that says why there is
// none. A static member whose instance id now belongs to another one is fenced
// (KIP-345).
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

// accepts reports whether a member with these protocols fits the others: it has the
// same protocol type, and at least one protocol that all members support.
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
// support, the one that most members prefer; with equal votes, the first in order of
// arrival.
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

// patience returns how long a rebalance waits: the longest time that any member asks
// for.
func (g *group) patience() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}
