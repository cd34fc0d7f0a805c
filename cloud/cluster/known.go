package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Known is another node, as this one knows it, whether or not it is alive.
type Known struct {
	Node
	Alive    bool      // it was heard in the takeover time
	Draining bool      // it hands its shards over
	Heard    time.Time // when it was heard last, or this node learned of it
	Spoken   bool      // it has said something in its present life
	Err      error     // why its last answer did not come; nil: it came, or none is due
}

// Claim is the newest claim of a shard that a node knows.
type Claim struct {
	Shard uint32
	Epoch uint64
	Owner string // name of the node that made it
}

// Known lists the other nodes that this one knows, by name. One that is silent for
// several minutes and owns nothing is forgotten.
func (m *Manager) Known() []Known {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Known, 0, len(m.members))
	for _, other := range m.members {
		k := Known{Node: other.Node, Alive: other.lives(m.o.Takeover) && other.report != nil, Draining: other.drains(), Heard: other.heard, Spoken: other.report != nil}
		if other.unanswered > 0 {
			k.Err = other.err
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b Known) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Claims lists the newest claims that this node knows, by shard. Shards of which it knows
// none are left out.
func (m *Manager) Claims() []Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Claim
	for _, s := range m.shards {
		if s.known > 0 {
			all = append(all, Claim{s.shard, s.known, s.owner})
		}
	}
	slices.SortFunc(all, func(a, b Claim) int { return cmp.Compare(a.Shard, b.Shard) })
	return all
}

// Own lists the shards that this node owns, is about to own, or could not lead.
func (m *Manager) Own() []ShardReport { return m.report().Shards }

// Draining reports whether this node hands its shards over and takes none.
func (m *Manager) Draining() bool { return m.draining() }

// Namesake returns where another process was that used this node's name, and when it was
// heard last; "" if none was.
func (m *Manager) Namesake() (host string, heard time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.namesake, m.sameAt
}
