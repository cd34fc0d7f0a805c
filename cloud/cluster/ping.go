package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// member is what this node knows of another one. Its times are by this process's
// monotonic clock. Manager.mu guards it.
type member struct {
	Node
	canAsk bool
	cancel context.CancelFunc // ends the questions to it
	news   chan struct{}      // a token: ask it at once, because there is something to tell

	heard      time.Time // when it was last heard, or this node learned of it
	report     *Report   // the last one of its present life; nil: it has not said anything yet
	reported   time.Time // when that came
	unanswered int       // questions in a row
	refused    int       // of those, refused because nothing listens at the address
	missed     int       // questions not answered in its life
	oneWay     time.Time // when it was heard although it had not answered
	err        error     // why the last one was not answered
	shunned    time.Time // until when it is offered no shard, because it has not taken one
}

// lives reports whether the member was heard in the takeover time.
func (m *member) lives(takeover time.Duration) bool { return time.Since(m.heard) < takeover }

func (m *member) drains() bool { return m.report != nil && m.report.Draining }

// load is how many shards the member has.
func (m *member) load() int {
	n := 0
	if m.report != nil {
		for _, s := range m.report.Shards {
			if s.State != Failing {
				n++
			}
		}
	}
	return n
}

// meet makes a node known that was found in the bucket: in a member object, or as the
// author of a claim. m.mu is held.
func (m *Manager) meet(n Node) {
	if n.Name == m.self.Name || m.revoked(n.Name) {
		return
	}
	known := m.members[n.Name]
	switch {
	case known == nil:
	case known.Boot == n.Boot && known.Member >= n.Member:
		return
	case n.Member < known.Member:
		return // it is a former life
	case n.Member == 0 && known.report != nil && known.report.Node.Boot == known.Boot:
		return // both are without member objects, and the known one speaks
	}
	m.admit(n)
}

// admit begins the life of a member. m.mu is held.
func (m *Manager) admit(n Node) *member {
	n.Takeovers, n.Handed = nil, false
	known := m.members[n.Name]
	if known == nil {
		known = new(member)
		m.members[n.Name] = known
	}
	if known.cancel != nil {
		known.cancel()
	}
	*known = member{Node: n, canAsk: m.self.canAsk(n), heard: time.Now(), cancel: func() {}, news: make(chan struct{}, 1)}
	if known.canAsk {
		ctx, cancel := context.WithCancel(m.ctx)
		known.cancel = cancel
		news := known.news
		m.wg.Go(func() { m.ping(ctx, known, n, news) })
	}
	return known
}

// ping asks a member all the time, until ctx ends.
func (m *Manager) ping(ctx context.Context, to *member, n Node, news <-chan struct{}) {
	for ctx.Err() == nil {
		began := time.Now()
		r, err := m.question(ctx, n)
		m.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			to.unanswered, to.missed, to.err = to.unanswered+1, to.missed+1, err
			if errors.Is(err, ErrRefused) {
				to.refused++
			}
			m.kick(n.Name)
		default:
			m.hear(r)
		}
		m.mu.Unlock()
		timer := time.NewTimer(m.period() - time.Since(began))
		select {
		case <-timer.C:
		case <-news:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// question asks a member once.
func (m *Manager) question(ctx context.Context, to Node, offers ...Offer) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, m.o.Takeover/3)
	defer cancel()
	r, err := m.o.Ask(ctx, to, m.report(offers...))
	if err == nil && r.Node.Name != to.Name {
		return Report{}, errors.New("node " + r.Node.Name + " is there")
	}
	return r, err
}

// Heard is called with the report of a member that asks this node, and returns the
// answer.
func (m *Manager) Heard(r Report) Report {
	m.mu.Lock()
	if r.Node.Name == m.self.Name {
		if r.Node.Boot != m.self.Boot {
			m.namesake, m.sameAt = r.Node.Host, time.Now()
			m.o.Log.Warn("another node has the name of this one: give each its own --node-id", "node", r.Node.Name, "its_host", r.Node.Host)
		}
	} else if m.running {
		m.hear(r)
		for _, offer := range r.Offers {
			if int(offer.Shard) < len(m.shards) {
				m.shards[offer.Shard].accept(offer.Epoch)
			}
		}
	}
	m.mu.Unlock()
	return m.report()
}

// hear records what a member says. m.mu is held.
func (m *Manager) hear(r Report) {
	known := m.members[r.Node.Name]
	switch {
	case m.revoked(r.Node.Name):
		return // it has asked before it was
	case r.Node.Member == 0 && known == nil:
		return // it says nothing by which it could be asked
	case r.Node.Member == 0:
		known.Boot = r.Node.Boot
	case known == nil || r.Node.Member > known.Member:
		known = m.admit(r.Node)
	case r.Node.Boot != known.Boot && time.Since(known.heard) < 2*m.period():
		return // a former life, or another node of that name
	case r.Node.Boot != known.Boot: // its clock was set back
		known = m.admit(r.Node)
	}
	now := time.Now()
	if known.unanswered > 0 {
		known.oneWay = now
	}
	known.heard, known.reported, known.report = now, now, &r
	known.unanswered, known.refused, known.err = 0, 0, nil
	for shard, epoch := range r.Epochs {
		if shard < len(m.shards) && epoch > m.shards[shard].known {
			m.shards[shard].wake() // it reads the claim itself
		}
	}
}

// kick wakes the supervisors that watch a node. m.mu is held.
func (m *Manager) kick(name string) {
	for _, s := range m.shards {
		if s.owner == name {
			s.wake()
		}
	}
}

// sight is what this node knows of the author of a claim.
type sight struct {
	confirmed  time.Time        // when it last said that it has the shard; zero: not in this claim's time
	next       journal.Position // that it said then
	denied     bool             // the last that it says is that it does not have it
	gone       bool             // the process that made the claim has ended: another one of that name is there
	unanswered int              // questions in a row since the claim was learned of
	oneWay     bool             // it asks this node, and does not answer it
	refused    int              // of those
	err        error            // why the last one was not answered
	elsewhere  string           // a live member that has heard it a short while ago
	newer      bool             // a member knows of a newer claim
}

// sees returns what this node knows of the author of a claim of which it learned at that
// time, when missed of its questions had not been answered.
func (m *Manager) sees(s *supervisor, owner Node, epoch uint64, learned time.Time, missed int) sight {
	m.mu.Lock()
	defer m.mu.Unlock()
	var v sight
	for name, other := range m.members {
		if other.report == nil || time.Since(other.reported) >= 2*m.period() {
			continue
		}
		if int(s.shard) < len(other.report.Epochs) && other.report.Epochs[s.shard] > epoch {
			v.newer = true
		}
		for _, heard := range other.report.Heard {
			if heard == owner.Name && name != owner.Name {
				v.elsewhere = name
			}
		}
	}
	known := m.members[owner.Name]
	if known == nil {
		return v
	}
	v.unanswered = max(min(known.unanswered, known.missed-missed), 0)
	v.oneWay = time.Since(known.oneWay) < 4*m.period()
	v.refused, v.err = min(known.refused, v.unanswered), known.err
	if known.Boot != owner.Boot {
		v.gone = true
		return v
	}
	if known.report == nil {
		v.denied = muteDenies(m.o.mutations)
		return v
	}
	switch has := known.report.of(s.shard); {
	case has == nil || has.State == Failing || has.Epoch != 0 && has.Epoch < epoch:
		v.denied = known.reported.After(learned)
	case has.Epoch > epoch:
		v.newer = true
		v.confirmed = known.reported
	case has.State == Doubting: // it serves nothing, and this node perhaps could
		v.denied = true
	default:
		v.confirmed, v.next = known.reported, has.next()
	}
	return v
}
