package group

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// ConsumerHeartbeat is the only call of a member of a consumer group (KIP-848). With
// it the member joins, stays alive, says what it subscribes to and what it has,
// learns what it may read, and leaves. It never waits. Members are not durable: a new
// owner returns ErrUnknownMember, and they join again.
//
// Errors: ErrInvalidHeartbeat, ErrInvalidName, ErrUnsupportedAssignor,
// ErrInvalidPattern, ErrUnknownMember, ErrFencedEpoch (the member loses all that it
// has, and joins again), ErrFencedInstance, ErrUnreleasedInstance, ErrUnknownGroup
// for a classic group with members, ErrGroupFull, ErrTooManyGroups, ErrClosed.
func (c *Coordinator) ConsumerHeartbeat(r ConsumerHeartbeatRequest) (ConsumerHeartbeatResponse, error) {
	re, err := r.check()
	if err != nil {
		return ConsumerHeartbeatResponse{}, err
	}
	v := c.topics.look(r.Epoch == joinEpoch) // a member that joins right after a topic was created gets it
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(r.Group); err != nil {
		return ConsumerHeartbeatResponse{}, err
	}
	g, err := c.consumerGroup(r.Group, r.Epoch == joinEpoch)
	if err != nil {
		return ConsumerHeartbeatResponse{}, err
	}
	defer g.dropIdle()
	if r.Epoch < joinEpoch {
		return g.leaveConsumer(&r)
	}
	m, err := g.findConsumer(&r)
	if err != nil {
		return ConsumerHeartbeatResponse{}, err
	}
	if g.see(v) {
		g.advance()
	}
	if err := g.fits(&r, re, m); err != nil {
		return ConsumerHeartbeatResponse{}, err
	}
	fresh := m == nil
	if fresh {
		m = g.addConsumer(&r)
	}
	if m.heard(&r, re) || fresh {
		g.advance()
	}
	m.touch()
	resp := ConsumerHeartbeatResponse{Interval: g.heartbeat()}
	if m.reconcile(&r) || r.Epoch == joinEpoch || r.full() {
		resp.Assigned = m.everything()
	}
	resp.Member, resp.Epoch = m.id, m.epoch
	return resp, nil
}

// check refuses requests that are invalid in any state, and compiles the pattern.
func (r *ConsumerHeartbeatRequest) check() (*regexp.Regexp, error) {
	wrong := ""
	switch {
	case r.Group == "":
		wrong = "no group id"
	case r.Member == "" && (!r.MakeID || r.Epoch != joinEpoch):
		wrong = "no member id"
	case r.Epoch < leaveStaticEpoch:
		wrong = "member epoch is not known"
	case r.Epoch == leaveStaticEpoch && r.Instance == "":
		wrong = "no instance id"
	case r.Epoch == joinEpoch && r.Rebalance < 0:
		wrong = "no rebalance timeout"
	case r.Epoch == joinEpoch && (r.Owned == nil || len(r.Owned) > 0):
		wrong = "a member that joins must send an empty list of partitions"
	case r.Epoch == joinEpoch && r.Topics == nil && r.Pattern == nil:
		wrong = "no subscription"
	}
	if wrong != "" {
		return nil, fmt.Errorf("%w: %s", ErrInvalidHeartbeat, wrong)
	}
	if max(len(r.Member), len(r.Instance), len(r.Rack)) > maxName || slices.ContainsFunc(r.Topics, func(t string) bool { return len(t) > maxName }) {
		return nil, ErrInvalidName
	}
	if r.Assignor != nil {
		if _, ok := assignors(*r.Assignor); !ok {
			return nil, fmt.Errorf("%w: there are %s and %s", ErrUnsupportedAssignor, uniformAssignor, rangeAssignor)
		}
	}
	if r.Pattern == nil || *r.Pattern == "" {
		return nil, nil
	}
	return compile(*r.Pattern)
}

// full reports whether the heartbeat is complete. A member sends a complete one when
// it cannot know what the coordinator has received, and gets a complete answer.
func (r *ConsumerHeartbeatRequest) full() bool {
	return r.Rebalance >= 0 && r.Owned != nil && (r.Topics != nil || r.Pattern != nil)
}

// findConsumer returns the member that sent a heartbeat, nil for a new one.
func (g *group) findConsumer(r *ConsumerHeartbeatRequest) (*consumer, error) {
	cs := g.consumers
	m := cs.members[r.Member]
	if r.Instance != "" {
		if m != nil && m.instance != r.Instance {
			return nil, fmt.Errorf("%w: a member keeps its instance id", ErrInvalidHeartbeat)
		}
		if m = cs.instances[r.Instance]; m != nil && m.id != r.Member {
			if r.Epoch != joinEpoch {
				return nil, ErrFencedInstance
			}
			if m.epoch != leaveStaticEpoch {
				return nil, ErrUnreleasedInstance
			}
			g.succeed(m, r)
		}
	}
	switch {
	case m == nil && r.Epoch == joinEpoch:
		return nil, nil
	case m == nil:
		return nil, ErrUnknownMember
	case r.Epoch == joinEpoch || r.Epoch == m.epoch:
		return m, nil
	case r.Epoch == m.previous && r.Epoch < m.epoch && r.Owned != nil && !slices.ContainsFunc(r.Owned, func(p Partition) bool { _, ok := m.assigned[p]; return !ok }):
		return m, nil // the answer with the newer epoch was lost
	default:
		return nil, ErrFencedEpoch
	}
}

// succeed gives a member the place of the member with its instance id, with all that
// it had: no partition moves.
func (g *group) succeed(m *consumer, r *ConsumerHeartbeatRequest) {
	delete(g.consumers.members, m.id)
	if m.id = r.Member; m.id == "" {
		m.id = newMemberID(r.ClientID)
	}
	m.epoch, m.previous = joinEpoch, joinEpoch
	g.consumers.members[m.id] = m
}

// fits returns nil if there is room for the heartbeat of m (nil: a new member): for
// its subscription, and for the partitions of topics that had no subscriber. A
// heartbeat that changes nothing always fits.
func (g *group) fits(r *ConsumerHeartbeatRequest, re *regexp.Regexp, m *consumer) error {
	c, cs := g.c, g.consumers
	names, more := r.Topics, subscriptionSize(r.Topics)
	if m == nil {
		if len(cs.members) >= c.opts.MaxMembers {
			return ErrGroupFull
		}
	} else if r.Topics != nil {
		more -= subscriptionSize(m.topics)
	}
	if re != nil {
		names = slices.Concat(names, cs.view.match(*r.Pattern, re))
	}
	for _, name := range names {
		if _, known := cs.read[name]; !known {
			more += int(cs.view.topics[name].partitions) * partitionSize
		}
	}
	if more > 0 && c.bytes+more > c.opts.MaxBytes {
		return ErrGroupFull
	}
	return nil
}

func (g *group) addConsumer(r *ConsumerHeartbeatRequest) *consumer {
	m := &consumer{
		g: g, id: r.Member, instance: r.Instance, arrival: g.arrivals,
		assigned: make(map[Partition]int32),
		revoking: make(map[Partition]struct{}),
	}
	if m.id == "" {
		m.id = newMemberID(r.ClientID)
	}
	g.arrivals++
	g.consumers.members[m.id] = m
	if m.instance != "" {
		g.consumers.instances[m.instance] = m
	}
	m.timer = time.AfterFunc(g.session(), func() { g.c.expireConsumer(g, m) })
	return m
}

// touch records a sign of life. It does not reset the timer, like member.touch.
func (m *consumer) touch() { m.deadline = time.Now().Add(m.g.session()) }

// session returns how long a member of a consumer or share group may be silent.
func (g *group) session() time.Duration {
	session, _ := g.timeouts()
	return cmp.Or(session, g.c.opts.ConsumerSession)
}

// heartbeat returns the interval at which members of a consumer or share group are to
// send one.
func (g *group) heartbeat() time.Duration {
	_, heartbeat := g.timeouts()
	return cmp.Or(heartbeat, g.c.opts.ConsumerHeartbeat)
}

func (g *group) timeouts() (session, heartbeat time.Duration) {
	if g.c.opts.Timeouts == nil {
		return 0, 0
	}
	return g.c.opts.Timeouts(g.id, g.typ())
}

// leaveConsumer removes a member at once. A static member that will come back keeps
// its place until its session ends.
func (g *group) leaveConsumer(r *ConsumerHeartbeatRequest) (ConsumerHeartbeatResponse, error) {
	m := g.consumers.members[r.Member]
	if r.Instance != "" {
		if m = g.consumers.instances[r.Instance]; m != nil && m.id != r.Member {
			return ConsumerHeartbeatResponse{}, ErrFencedInstance
		}
	}
	if m == nil {
		return ConsumerHeartbeatResponse{}, ErrUnknownMember
	}
	if r.Epoch == leaveStaticEpoch {
		m.epoch = leaveStaticEpoch
		m.yield()
		m.touch()
	} else {
		g.consumers.remove(m)
	}
	return ConsumerHeartbeatResponse{Member: r.Member, Epoch: r.Epoch}, nil
}

// removeStatic removes a static member that an administrator names in a LeaveGroup
// request of the classic protocol.
func (g *group) removeStatic(who Identity) error {
	m := g.consumers.instances[who.Instance]
	switch {
	case who.Instance == "" || m == nil:
		return ErrUnknownMember
	case who.Member != "" && who.Member != m.id:
		return ErrFencedInstance
	}
	g.consumers.remove(m)
	return nil
}
