package group

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// consumer is one member of a group of type Consumer. Coordinator.mu guards it.
type consumer struct {
	g          *group
	id         string
	instance   string
	rack       string
	clientID   string
	clientHost string
	arrival    uint64
	rebalance  time.Duration

	topics   []string // names it subscribes to, in order
	pattern  string
	re       *regexp.Regexp // compiled pattern
	may      func(topic string) bool
	assignor string   // preferred; "": none
	reads    []string // topics it subscribes to that exist, in order

	epoch    int32 // epoch of the group when the member last reached its target; leaveStaticEpoch: away
	previous int32 // the epoch before, accepted because the answer with epoch may have been lost
	target   []Partition
	assigned map[Partition]int32    // what it may read, and since which epoch
	revoking map[Partition]struct{} // what it has been told to give up and has not yet confirmed
	waits    bool                   // for partitions that others still have

	deadline time.Time // a sign of life is due before this
	timer    *time.Timer
	patience *time.Timer // runs while revoking is not empty
	rounds   int         // how often patience was started: a late timer has another number
}

// heard applies what a heartbeat says about the member. It reports whether the group
// needs a new target for that.
func (m *consumer) heard(r *ConsumerHeartbeatRequest, re *regexp.Regexp) bool {
	m.clientID, m.clientHost, m.may = r.ClientID, r.ClientHost, r.May
	if r.Rack != "" {
		m.rack = r.Rack
	}
	if r.Rebalance >= 0 {
		m.rebalance = min(r.Rebalance, m.g.c.opts.MaxSession)
	}
	changed := false
	m.g.c.bytes -= m.size()
	if r.Assignor != nil && m.assignor != *r.Assignor {
		m.assignor, changed = *r.Assignor, true
	}
	if topics := subscription(r.Topics); r.Topics != nil && !slices.Equal(m.topics, topics) {
		m.topics, changed = topics, true
	}
	if r.Pattern != nil && m.pattern != *r.Pattern {
		m.pattern, m.re, changed = *r.Pattern, re, true
	}
	m.g.c.bytes += m.size()
	if changed {
		m.resolve()
	}
	return changed
}

func subscription(topics []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(topics)))
}

// size returns the bytes of the member's subscription.
func (m *consumer) size() int {
	return len(m.pattern) + subscriptionSize(m.topics)
}

func subscriptionSize(topics []string) int {
	n := 0
	for _, t := range topics {
		n += 2*protocolSize + len(t) // in topics and reads
	}
	return n
}

// resolve finds the topics that the member subscribes to.
func (m *consumer) resolve() {
	v := m.g.consumers.view
	reads := make([]string, 0, len(m.topics))
	for _, name := range m.topics {
		if _, ok := v.topics[name]; ok {
			reads = append(reads, name)
		}
	}
	if m.re != nil && m.pattern != "" {
		for _, name := range v.match(m.pattern, m.re) {
			if m.may == nil || m.may(name) {
				reads = append(reads, name)
			}
		}
	}
	m.reads = subscription(reads)
}

// reconcile moves the member towards its target as far as is possible at once. It
// reports whether what the member may read has changed. The member first has to give
// up what is not in its target, and stays at its epoch until it has. Then it gets
// what is free.
func (m *consumer) reconcile(r *ConsumerHeartbeatRequest) (changed bool) {
	g, cs := m.g, m.g.consumers
	if m.keeps(r.Owned) {
		return false
	}
	m.release()
	if m.epoch == g.generation && !m.waits && r.Epoch != joinEpoch {
		return false
	}
	changed = m.revoke()
	if m.keeps(r.Owned) {
		m.rounds++
		round := m.rounds
		m.patience = time.AfterFunc(m.rebalance, func() { g.c.lose(g, m, round) })
		return true
	}
	m.release()
	m.waits = false
	for _, p := range m.target {
		switch owner := cs.owners[p]; {
		case owner == m:
		case owner != nil || g.committing[p] > 0:
			m.waits = true
		default:
			cs.owners[p] = m
			m.assigned[p] = g.generation
			changed = true
		}
	}
	if r.Epoch == joinEpoch { // commits of its earlier life are stale
		for p := range m.assigned {
			m.assigned[p] = g.generation
		}
	}
	if m.epoch != g.generation {
		m.previous, m.epoch = m.epoch, g.generation
	}
	return changed
}

// keeps reports whether the member still has something that it is to give up. owned
// is what it says that it has; a member that does not say has not given up anything.
func (m *consumer) keeps(owned []Partition) bool {
	return len(m.revoking) > 0 && (owned == nil || slices.ContainsFunc(owned, func(p Partition) bool {
		_, ok := m.revoking[p]
		return ok
	}))
}

// revoke tells the member to give up what is not in its target.
func (m *consumer) revoke() bool {
	before := len(m.revoking)
	for p := range m.assigned {
		if m.g.consumers.target[p] != m {
			delete(m.assigned, p)
			m.revoking[p] = struct{}{}
		}
	}
	return len(m.revoking) > before
}

// yield is for a member that is away. It reads nothing, so others need not wait until
// it gives something up.
func (m *consumer) yield() {
	m.revoke()
	m.release()
}

// release makes the partitions that the member has given up free for others.
func (m *consumer) release() {
	for p := range m.revoking {
		delete(m.g.consumers.owners, p)
	}
	clear(m.revoking)
	if m.patience != nil {
		m.patience.Stop()
		m.patience = nil
	}
}

// everything lists what the member may read.
func (m *consumer) everything() []Partition {
	return append([]Partition{}, slices.SortedFunc(maps.Keys(m.assigned), comparePartitions)...)
}

// remove removes a member; others get its partitions.
func (cs *consumers) remove(m *consumer) {
	m.timer.Stop()
	m.release()
	for p := range m.assigned {
		delete(cs.owners, p)
	}
	for _, p := range m.target {
		delete(cs.target, p)
	}
	m.g.c.bytes -= m.size()
	delete(cs.members, m.id)
	if m.instance != "" {
		delete(cs.instances, m.instance)
	}
	m.g.advance()
}

// expireConsumer removes a member that was silent for its session.
func (c *Coordinator) expireConsumer(g *group, m *consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || g.consumers == nil || g.consumers.members[m.id] != m {
		return
	}
	if left := time.Until(m.deadline); left > 0 {
		m.timer.Reset(left)
		return
	}
	c.opts.Log.Info("group member removed: it sent no heartbeat in time", "group", g.id, "member", m.id, "address", m.clientHost, "session_timeout", g.session())
	g.consumers.remove(m)
	g.dropIdle()
}

// lose removes a member that has not given up its partitions in time.
func (c *Coordinator) lose(g *group, m *consumer, round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || g.consumers == nil || g.consumers.members[m.id] != m || m.rounds != round || len(m.revoking) == 0 {
		return
	}
	c.opts.Log.Info("group member removed: it did not give up its partitions in time", "group", g.id, "member", m.id, "address", m.clientHost, "rebalance_timeout", m.rebalance)
	g.consumers.remove(m)
	g.dropIdle()
}
