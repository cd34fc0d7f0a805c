package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// A shard goes to another live node only from its owner's hand. The other node, the
// successor, first reads the log along. Then it claims the next epoch, and the owner goes
// on under that claim. Only when the successor has read up to the end does the owner end
// its epoch, and the successor takes over: between these two nobody serves the shard. If it
// does not take over within offerTime, the owner goes on, under one more epoch. If it
// claims and then does not answer, the owner does that at once.
//
// A node of an earlier version does not do that. For it the owner closes the log in good
// order, and then offers the shard: the other node claims the next epoch at once.

// settled is how long the members must have been the same before a shard is handed
// over.
func (m *Manager) settled() time.Duration { return 4 * m.period() }

// offerTime is how long a node has for the claim of a shard that it was offered.
func (m *Manager) offerTime() time.Duration { return 4 * m.period() }

// balance hands a shard over, if another node should have it and has fewer. A node that
// drains hands over all but those that are held.
func (m *Manager) balance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	order := m.candidates()
	most := 1
	if m.draining() {
		most = maxMoves
	} else if len(m.held) > 0 || m.single() || time.Since(m.viewAt) < m.settled() {
		return
	}
	for _, s := range m.shards {
		if m.moving >= most {
			return
		}
		if s.give == nil || m.held[s.shard] > 0 || len(order[s.shard]) == 0 || !m.draining() && !m.uneven(s.shard) {
			continue
		}
		if state, _ := m.o.Progress(s.shard); state != Owning {
			continue
		}
		for _, name := range order[s.shard] {
			if to := m.members[name]; name != m.self.Name && to.takes(m.o.Takeover) && !to.failed(s.shard) && (m.draining() || to.load() < m.load()) {
				m.moving++
				s.give <- to.Node
				s.give = nil
				break
			}
			if !m.draining() {
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
func (s *supervisor) lead(ctx context.Context, self Node, epoch uint64, c Candidate) error {
	for ; ; c = nil {
		to, how, err := s.hold(ctx, self, epoch, c)
		if to.Name == "" {
			return err
		}
		handed := err == nil && (how == served || how == closed && s.offer(ctx, to, epoch))
		s.m.moved()
		switch {
		case err != nil:
			return err
		case handed:
			s.m.counters.Handovers.Add(1)
			s.log.Info("shard handed over", "to", to.Name, "epoch", epoch)
			if how == served { // the bucket says the same, later
				s.m.o.Follow(ctx, s.shard, to, epoch+1)
			}
			return nil
		case ctx.Err() != nil:
			return nil
		}
		s.m.shun(to.Name, 20*s.m.o.Takeover)
		next, err := s.resumes(ctx, epoch, how)
		if err != nil || next == 0 {
			return err
		}
		s.log.Warn("the node that was offered the shard has not taken it: this one goes on", "offered_to", to.Name, "epoch", next)
		self, epoch = s.past.claimant(s.m.node()), next
		self.Handed, self.Move = true, Move{Kept, self.Name}
	}
}

// resumes returns the epoch under which this node goes on because its successor has not
// taken the shard; 0 if another node has taken over.
func (s *supervisor) resumes(ctx context.Context, epoch uint64, how outcome) (uint64, error) {
	if how == closed {
		return epoch + 1, nil
	}
	limited, cancel := context.WithTimeout(ctx, s.m.o.Takeover)
	defer cancel()
	claim, found, err := journal.NewestClaim(limited, s.m.o.Bucket, s.shard)
	switch {
	case err != nil && ctx.Err() == nil:
		return 0, fmt.Errorf("read who has claimed the shard: %w", err)
	case err != nil || !found || claim.Epoch > epoch+1:
		return 0, nil
	}
	return claim.Epoch + 1, nil // above the successor's, if it has claimed
}

// outcome is what became of a hand-over.
type outcome int

const (
	kept     outcome = iota // this node still serves the shard, or has lost it
	closed                  // the log is closed: the other node does not know Successions
	served                  // the other node serves it
	unserved                // it does not, and the log has ended for it
)

// hold leads under one epoch. It returns the node that is to get the shard, and how far
// that is, after the log has ended; without a name if there is none.
func (s *supervisor) hold(ctx context.Context, self Node, epoch uint64, c Candidate) (to Node, how outcome, err error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	s.set(Recovering, epoch)
	ended := make(chan error, 1)
	leading, over := context.WithCancel(inner)
	go func() {
		defer over()
		ended <- s.m.o.Lead(inner, s.shard, self, epoch, c)
	}()
	s.m.wg.Go(func() { s.m.remain(inner) })
	for moved := false; ; moved = true {
		give := make(chan Node, 1)
		s.setGive(give)
		if moved { // after setGive: a node that drains waits for one of the two
			s.m.moved()
		}
		select {
		case err = <-ended:
		case to = <-give:
			how = s.handOver(ctx, leading, to, epoch)
			if how == kept {
				s.m.shun(to.Name, 2*s.m.o.Takeover)
				continue
			}
			s.set(Handing, epoch)
			stop()
			return to, how, <-ended
		}
		s.setGive(nil)
		select {
		case to = <-give: // it was to be handed over when it was lost
		default:
		}
		return to, kept, err
	}
}

func (s *supervisor) setGive(give chan Node) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.give = give
}

// moved notes that a shard is not being handed over any more.
func (m *Manager) moved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moving--
}

// handOver hands the shard over to a node that reads the log along, claims, and takes over
// as soon as this node has ended its epoch. leading ends with the log.
func (s *supervisor) handOver(ctx, leading context.Context, to Node, epoch uint64) outcome {
	m := s.m
	if m.o.HandOver == nil || m.o.Succeed == nil || closeFirst(m.o.mutations) {
		return closed
	}
	q := Succession{Shard: s.shard, Epoch: epoch, Step: StepFollow}
	rand.Read(q.Nonce[:])
	err := s.step(leading, to, q, followTime)
	if errors.Is(err, ErrUnsupported) {
		return closed
	}
	var unclaimed error
	if err == nil {
		q.Step = StepClaim
		err = m.o.HandOver(leading, s.shard, q.Nonce, func(ctx context.Context) error {
			unclaimed = s.step(ctx, to, q, m.o.Takeover/2)
			if unclaimed != nil && !s.claimedBy(ctx, q) {
				return unclaimed
			}
			return nil
		})
	}
	if err != nil {
		if leading.Err() == nil {
			s.log.Warn("shard not handed over: this node goes on serving it", "to", to.Name, "err", err)
		}
		return kept
	}
	s.set(Handing, epoch)
	if err = unclaimed; err == nil {
		q.Step = StepTake
		err = s.step(ctx, to, q, m.offerTime())
	}
	if err != nil {
		s.log.Warn("the successor has not taken the shard", "to", to.Name, "err", err)
		return unserved
	}
	return served
}

// followTime is how long a successor may take to read the log.
const followTime = time.Minute

// step asks the successor again and again for a step until that is done, the limit is over,
// or it does not answer for half of the takeover time.
func (s *supervisor) step(ctx context.Context, to Node, q Succession, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for answered := time.Now(); ; {
		asking, end := context.WithTimeout(ctx, s.m.o.Takeover/2)
		done, err := s.m.o.Succeed(asking, to, q)
		end()
		switch {
		case done && err == nil:
			return nil
		case err == nil:
			answered = time.Now()
		case errors.Is(err, ErrUnsupported) || errors.Is(err, ErrDeclined) || errors.Is(err, ErrRefused) || time.Since(answered) > s.m.o.Takeover/2:
			return fmt.Errorf("ask the successor to %s: %w", q.Step, err)
		}
		if wait(ctx, s.m.period()/20); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("ask the successor to %s: %w", q.Step, ctx.Err()), err)
		}
	}
}

// claimedBy reports whether the successor has claimed, although it has not said so. Then the
// log cannot go on under its epoch.
func (s *supervisor) claimedBy(ctx context.Context, q Succession) bool {
	limited, cancel := context.WithTimeout(ctx, s.m.o.Takeover/2)
	defer cancel()
	claim, found, err := journal.NewestClaim(limited, s.m.o.Bucket, s.shard)
	return err == nil && found && claim.Epoch == q.Epoch+1 && claim.Nonce == q.Nonce && !claimUnseen(s.m.o.mutations)
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
func (m *Manager) shun(name string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.members[name]; known != nil {
		known.shunned = time.Now().Add(d)
	}
}

// accept takes the shard that its owner, of that epoch, hands over. Manager.mu is held.
func (s *supervisor) accept(epoch uint64) {
	if !s.accepts(epoch) {
		return
	}
	s.offered, s.state, s.epoch = epoch, Recovering, epoch+1
	s.wake()
}

// accepts reports whether this node takes the shard from its owner of that epoch. Manager.mu
// is held.
func (s *supervisor) accepts(epoch uint64) bool {
	return s.m.may(s.shard) && !s.m.draining() && !s.unfit && s.state == "" && s.known <= epoch && !time.Now().Before(s.m.able)
}

// Drain hands all shards over to nodes that can have them, and takes none any more. It
// returns when this node serves none, no other node can have one, or ctx ends.
func (m *Manager) Drain(ctx context.Context) {
	m.mu.Lock()
	m.beginDrain() // no shard is accepted after that
	m.mu.Unlock()
	for ctx.Err() == nil && m.drains() {
		m.balance()
		wait(ctx, m.period()/10)
	}
}

// draining reports whether this node hands its shards over and takes none.
func (m *Manager) draining() bool { return m.drain.Err() != nil }

// drains reports whether a shard is being handed over, or can be, now or when it is not held
// any more.
func (m *Manager) drains() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moving > 0 || len(m.held) > 0 {
		return true
	}
	for _, s := range m.shards {
		if s.give == nil {
			continue
		}
		if state, _ := m.o.Progress(s.shard); state != Owning { // it is only about to lead
			continue
		}
		if m.movable(s.shard) {
			return true
		}
	}
	return false
}

// Spare reports whether the cluster can do without this node: no other node is alive, or
// others can have what it has. While a shard is on its way it cannot.
func (m *Manager) Spare() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moving > 0 {
		return false
	}
	alone := true
	for _, other := range m.members {
		alone = alone && (!other.lives(m.o.Takeover) || other.drains())
	}
	for _, s := range m.shards {
		if s.state == "" || s.state == Failing {
			continue
		}
		if state, _ := m.o.Progress(s.shard); state != Owning || !alone && !m.movable(s.shard) {
			return false
		}
	}
	return true
}

// movable reports whether another node can have a shard of this one. m.mu is held.
func (m *Manager) movable(shard uint32) bool {
	for _, other := range m.members {
		if other.Roles.Has(needed(shard, m.o.Shards())) && other.able(m.o.Takeover) {
			return true
		}
	}
	return false
}
