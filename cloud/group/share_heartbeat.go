package group

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
)

// ShareHeartbeat is the only call of a member of a share group (KIP-932): it joins,
// stays alive, says what it subscribes to, learns what it is to read, and leaves. It
// never waits. Members are not durable: a new owner returns ErrUnknownMember, and they
// join again.
//
// Errors: ErrInvalidHeartbeat, ErrInvalidName, ErrUnknownMember, ErrFencedEpoch (the
// member joins again), ErrUnknownGroup for a group of another type with members,
// ErrGroupFull, ErrTooManyGroups, machine.ErrLevel, ErrClosed.
func (c *Coordinator) ShareHeartbeat(r ShareHeartbeatRequest) (ShareHeartbeatResponse, error) {
	if err := r.check(); err != nil {
		return ShareHeartbeatResponse{}, err
	}
	v := c.topics.look(r.Epoch == joinEpoch) // a member that joins right after a topic was created gets it
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(r.Group); err != nil {
		return ShareHeartbeatResponse{}, err
	}
	if c.log.Level() < state.Level {
		return ShareHeartbeatResponse{}, fmt.Errorf("share group %q: %w", r.Group, machine.ErrLevel)
	}
	g, err := c.shareGroup(r.Group, r.Epoch == joinEpoch)
	if err != nil {
		return ShareHeartbeatResponse{}, err
	}
	defer g.dropIdle()
	m := g.sharers.members[r.Member]
	switch {
	case m == nil && r.Epoch != joinEpoch:
		return ShareHeartbeatResponse{}, ErrUnknownMember
	case r.Epoch == leaveEpoch:
		g.removeShared(m)
		return ShareHeartbeatResponse{Epoch: leaveEpoch}, nil
	case m != nil && r.Epoch != joinEpoch && r.Epoch != m.epoch && r.Epoch != m.previous:
		return ShareHeartbeatResponse{}, ErrFencedEpoch
	}
	changed := g.seeShared(v)
	if err := g.fitsShared(&r, m); err != nil {
		return ShareHeartbeatResponse{}, err
	}
	if m == nil {
		m, changed = g.addSharer(r.Member), true
	}
	if m.heard(&r) || changed {
		g.assignShared()
	}
	m.deadline = time.Now().Add(g.session())
	resp := ShareHeartbeatResponse{Epoch: g.generation, Interval: g.heartbeat()}
	if m.epoch != g.generation || r.Epoch != m.epoch || r.Topics != nil {
		resp.Assigned = slices.Clone(m.assigned)
	}
	if m.epoch != g.generation {
		m.previous, m.epoch = m.epoch, g.generation
	}
	return resp, nil
}

// check refuses requests that are invalid in any state.
func (r *ShareHeartbeatRequest) check() error {
	wrong := ""
	switch {
	case r.Group == "":
		wrong = "no group id"
	case r.Member == "":
		wrong = "no member id"
	case r.Epoch < leaveEpoch:
		wrong = "member epoch is not known"
	case r.Epoch == joinEpoch && len(r.Topics) == 0:
		wrong = "no subscription"
	}
	if wrong != "" {
		return fmt.Errorf("%w: %s", ErrInvalidHeartbeat, wrong)
	}
	if max(len(r.Member), len(r.Rack)) > maxName || slices.ContainsFunc(r.Topics, func(t string) bool { return len(t) > maxName }) {
		return ErrInvalidName
	}
	return nil
}

// fitsShared returns nil if there is room for the heartbeat of m (nil: a new member).
func (g *group) fitsShared(r *ShareHeartbeatRequest, m *sharer) error {
	c := g.c
	if m == nil && len(g.sharers.members) >= c.opts.MaxMembers {
		return ErrGroupFull
	}
	more := subscriptionSize(r.Topics)
	for _, name := range r.Topics {
		more += int(g.sharers.view.topics[name].partitions) * partitionSize
	}
	if m != nil && r.Topics != nil {
		more -= subscriptionSize(m.topics) + len(m.assigned)*partitionSize
	}
	if more > 0 && c.bytes+more > c.opts.MaxBytes {
		return ErrGroupFull
	}
	return nil
}

func (g *group) addSharer(id string) *sharer {
	m := &sharer{g: g, id: id, arrival: g.arrivals}
	g.arrivals++
	g.sharers.members[id] = m
	m.timer = time.AfterFunc(g.session(), func() { g.c.expireShared(g, m) })
	return m
}

// heard applies what a heartbeat says about the member. It reports whether the
// subscription has changed.
func (m *sharer) heard(r *ShareHeartbeatRequest) bool {
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	if r.Rack != "" {
		m.rack = r.Rack
	}
	topics := subscription(r.Topics)
	if r.Topics == nil || slices.Equal(m.topics, topics) {
		return false
	}
	m.g.c.bytes += subscriptionSize(topics) - subscriptionSize(m.topics)
	m.topics = topics
	return true
}
