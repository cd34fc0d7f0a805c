package cluster

import (
	"context"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// A shard goes to another live node only from its owner's hand. The owner closes the
// log in good order, and then offers the shard: the other node claims the next epoch
// at once. If it does not within offerTime, the owner goes on, under that epoch.

// settled is how long the members must have been the same before a shard is handed
// over.
func (m *Manager) settled() time.Duration { return 4 * m.period() }

// offerTime is how long a node has for the claim of a shard that it was offered.
func (m *Manager) offerTime() time.Duration { return 4 * m.period() }

// balance hands a shard over, if another node should have it and has fewer. A node that
// drains hands over all.
func (m *Manager) balance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	order := m.candidates()
	most := 1
	if m.draining {
		most = maxMoves
	} else if m.single() || time.Since(m.viewAt) < m.settled() {
		return
	}
	for _, s := range m.shards {
		if m.moving >= most {
			return
		}
		if s.give == nil || len(order[s.shard]) == 0 || !m.draining && !m.uneven(s.shard) {
			continue
		}
		if state, _ := m.o.Progress(s.shard); state != Owning {
			continue
		}
		for _, name := range order[s.shard] {
			if to := m.members[name]; name != m.self.Name && to.takes(m.o.Takeover) && !to.failed(s.shard) && (m.draining || to.load() < m.load()) {
				m.moving++
				s.give <- to.Node
				s.give = nil
				break
			}
			if !m.draining {
				break // only to the one that should have it
			}
		}
	}
}

// takes reports whether the member can be offered a shard now.
func (m *member) takes(takeover time.Duration) bool {
	return m.able(takeover) && time.Since(m.heard) < takeover/2 && m.unanswered == 0
}

// able reports whether the member can have a shard, as far as is known.
func (m *member) able(takeover time.Duration) bool {
	if !m.canAsk || m.report == nil || m.report.Draining || m.report.Node.Member == 0 || !m.lives(takeover) || time.Now().Before(m.shunned) {
		return false
	}
	failing := 0
	for _, s := range m.report.Shards {
		switch s.State {
		case Doubting:
			return false // it would not do better with another one
		case Failing:
			failing++
		}
	}
	return failing < manyFailing
}

// manyFailing is how many shards a node must have failed to lead for the fault to be
// its own, and not the shard's.
const manyFailing = 2

// failed reports whether the member could not lead that shard a short while ago.
func (m *member) failed(shard uint32) bool {
	has := m.report.of(shard)
	return has != nil && has.State == Failing
}

// load is how many shards this node has. m.mu is held.
func (m *Manager) load() int {
	n := 0
	for _, s := range m.shards {
		if s.state != "" && s.state != Failing {
			n++
		}
	}
	return n
}

// uneven reports whether, of the nodes with the roles for a shard of this one, a node has
// two shards more than another one that can take one. m.mu is held.
func (m *Manager) uneven(shard uint32) bool {
	least, most := m.load(), m.load()
	for _, other := range m.members {
		if other.Roles.Has(needed(shard, m.o.Shards())) && other.takes(m.o.Takeover) {
			least, most = min(least, other.load()), max(most, other.load())
		}
	}
	return most-least > 1
}

// lead serves the shard until ctx ends, it is lost, or another node has got it.
func (s *supervisor) lead(ctx context.Context, self Node, epoch uint64) error {
	for {
		to, err := s.hold(ctx, self, epoch)
		if to.Name == "" {
			return err
		}
		handed := err == nil && s.offer(ctx, to, epoch)
		s.m.mu.Lock()
		s.m.moving--
		s.m.mu.Unlock()
		switch {
		case err != nil:
			return err
		case handed:
			s.m.counters.Handovers.Add(1)
			s.log.Info("shard handed over", "to", to.Name, "epoch", epoch)
			return nil
		case ctx.Err() != nil:
			return nil
		}
		s.m.shun(to.Name)
		s.log.Warn("the node that was offered the shard has not taken it: this one goes on", "offered_to", to.Name)
		self, epoch = s.past.claimant(s.m.node()), epoch+1
		self.Handed, self.Move = true, Move{Kept, self.Name}
	}
}

// hold leads under one epoch. It returns the node that is to get the shard, after the
// log is closed; without a name if there is none.
func (s *supervisor) hold(ctx context.Context, self Node, epoch uint64) (to Node, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	give := make(chan Node, 1)
	s.set(Recovering, epoch)
	s.m.mu.Lock()
	s.give = give
	s.m.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- s.m.o.Lead(ctx, s.shard, self, epoch) }()
	s.m.wg.Go(func() { s.m.remain(ctx) })
	select {
	case err = <-ended:
	case to = <-give:
		s.set(Handing, epoch)
		stop()
		return to, <-ended
	}
	s.m.mu.Lock()
	s.give = nil
	s.m.mu.Unlock()
	select {
	case to = <-give: // it was to be handed over when it was lost
	default:
	}
	return to, err
}

// offer tells a node that the shard is its. It reports whether another node has claimed
// it.
func (s *supervisor) offer(ctx context.Context, to Node, epoch uint64) bool {
	for began := time.Now(); ctx.Err() == nil; s.wait(ctx, s.m.period()/5) {
		answer, lost := s.m.question(ctx, to, Offer{s.shard, epoch})
		claim, found, err := journal.NewestClaim(ctx, s.m.o.Bucket, s.shard)
		if err == nil && found && claim.Epoch > epoch {
			return true
		}
		has := answer.of(s.shard)
		refused := lost == nil && (has == nil || has.Epoch <= epoch)
		if refused || time.Since(began) >= s.m.offerTime() {
			return false
		}
	}
	return false
}

// shun makes this node offer nothing to another one for a while. If that is the only one
// with room, shards stay where they are.
func (m *Manager) shun(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.members[name]; known != nil {
		known.shunned = time.Now().Add(20 * m.o.Takeover)
	}
}

// accept takes the shard that its owner, of that epoch, hands over. Manager.mu is held.
func (s *supervisor) accept(epoch uint64) {
	if !s.m.may(s.shard) || s.m.draining || s.unfit || s.state != "" || s.known > epoch || time.Now().Before(s.m.able) {
		return
	}
	s.offered, s.state, s.epoch = epoch, Recovering, epoch+1
	s.wake()
}

// Drain hands all shards over to nodes that can have them, and takes none any more. It
// returns when this node serves none, no other node can have one, or ctx ends.
func (m *Manager) Drain(ctx context.Context) {
	m.mu.Lock()
	m.draining = true
	m.mu.Unlock()
	for ctx.Err() == nil && m.drains() {
		m.balance()
		wait(ctx, m.period()/10)
	}
}

// drains reports whether a shard is being handed over, or can be.
func (m *Manager) drains() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moving > 0 {
		return true
	}
	for _, s := range m.shards {
		if s.give == nil {
			continue
		}
		if state, _ := m.o.Progress(s.shard); state != Owning { // it is only about to lead
			continue
		}
		for _, other := range m.members {
			if other.Roles.Has(needed(s.shard, m.o.Shards())) && other.able(m.o.Takeover) {
				return true
			}
		}
	}
	return false
}
