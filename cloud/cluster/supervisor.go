package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
)

// supervisor leads one shard or stands by for it.
type supervisor struct {
	m     *Manager
	shard uint32
	first bool // this node creates it; not changed once it runs
	past  *history
	log   *slog.Logger
	woken chan struct{} // a token: there is something to look at

	// Guarded by Manager.mu.
	state   State         // "" while this node has nothing to do with the shard
	epoch   uint64        // that it has, or claims
	known   uint64        // the newest epoch that is known to be claimed
	owner   string        // whose claim that is
	offered uint64        // the epoch that its owner gives up for this node, and that this node takes; 0: none
	failed  time.Time     // when this node last tried to lead the shard and could not
	rest    time.Time     // until when it does not, for that reason
	retry   time.Duration // the time until then, the next time
	unfit   bool          // this node should not lead
	give    chan Node     // who is to get the shard; nil unless this node leads and gives nothing away

	candidacy *candidacy // of this node as the successor of the owner; nil: there is none
	ready     Candidate  // that has claimed the epoch after offered; nil: the log is opened
}

func newSupervisor(m *Manager, shard uint32) *supervisor {
	s := &supervisor{m: m, shard: shard, past: newHistory(), woken: make(chan struct{}, 1), log: m.o.Log}
	if !m.single() || shard > 0 {
		s.log = m.o.Log.With("shard", shard)
	}
	return s
}

// wake makes the supervisor look again at once.
func (s *supervisor) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// wait returns after d, when it is woken, or when ctx ends.
func (s *supervisor) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.woken:
	case <-ctx.Done():
	}
}

// run leads or stands by until ctx ends.
func (s *supervisor) run(ctx context.Context) error {
	defer s.set("", 0)
	for ctx.Err() == nil {
		tried := false
		self, epoch, err := s.standBy(ctx)
		if err == nil && ctx.Err() == nil {
			c := s.candidate(epoch)
			if c == nil && !s.fit(ctx) { // a candidate has asked the doors before
				continue
			}
			tried, err = true, s.lead(ctx, self, epoch, c)
		}
		s.set("", 0)
		switch {
		case err == nil:
		case errors.Is(err, ErrSuperseded):
			s.log.Info("another node won the shard; standing by")
		case s.m.single() && !s.first || ctx.Err() != nil || errors.Is(err, ErrDoors): // the doors are those of all shards
			return err
		case errors.Is(err, journal.ErrFenced):
			s.log.Warn("this node has lost the shard to another one; standing by", "err", err)
		case tried:
			s.log.Error("this node cannot lead the shard; standing by", "err", err, "next_try", s.fails())
		default:
			rest := s.fails()
			s.log.Error("it cannot be read who leads the shard", "err", err, "next_try", rest)
			wait(ctx, rest)
		}
	}
	return nil
}

// maxRetry bounds the time until a node that could not lead a shard tries again.
const maxRetry = 3 * time.Minute

// set records what this node does with the shard.
func (s *supervisor) set(state State, epoch uint64) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.state, s.epoch = state, epoch
	s.offered, s.give = 0, nil
	if state == "" {
		s.endCandidacy()
	}
}

// fails makes this node not lead the shard for a while. If another one has failed in the last
// time, too, it takes none that is handed over, either: it would perhaps fail with that,
// and the fault is hardly the shards'. It returns how long the shard has to wait.
func (s *supervisor) fails() time.Duration {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	s.state, s.failed = Failing, now
	var many []*supervisor
	for _, other := range m.shards {
		if !other.failed.IsZero() && now.Sub(other.failed) < maxRetry {
			many = append(many, other)
		}
	}
	if len(many) < manyFailing {
		rest := lengthen(&s.retry, now.Sub(s.rest), m.o.Takeover)
		s.rest = now.Add(rest)
		return rest
	}
	rest := lengthen(&m.retry, now.Sub(m.able), m.o.Takeover)
	m.able = now.Add(rest)
	s.rest = m.able
	for _, other := range many { // the members are to know
		if other.state == "" {
			other.state = Failing
		}
	}
	return rest
}

// lengthen returns the time to wait and doubles the next one. It begins with first when
// nothing has failed since the last wait was over, for longer than maxRetry.
func lengthen(next *time.Duration, over, first time.Duration) time.Duration {
	if over > maxRetry {
		*next = first
	}
	d := *next
	*next = min(2*d, maxRetry)
	return d
}

// learn records the newest claim.
func (s *supervisor) learn(epoch uint64, author Node) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.known, s.owner = epoch, author.Name
	s.m.meet(author)
}

// standBy returns when this node should lead, with the node and the epoch to claim
// with. Then there is no claim, or the author of the newest one has been silent for long
// enough or has ended, or the shard was handed to this node. If several nodes find an
// owner silent, the first to claim wins and the others stand by for it.
func (s *supervisor) standBy(ctx context.Context) (self Node, epoch uint64, err error) {
	var w *watch // of the claim that was followed last
	silent := false
	for ctx.Err() == nil {
		if self, epoch, ok := s.taken(); ok {
			return self, epoch, nil
		}
		claim, found, err := journal.NewestClaim(ctx, s.m.o.Bucket, s.shard)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrFormat) || errors.Is(err, storage.ErrDamaged) {
			return Node{}, 0, err // trying again would not help
		}
		if err != nil {
			s.log.Warn("bucket cannot be read: trying again", "err", err)
			w, silent = nil, false // the silence was measured before the error: start again
			wait(ctx, time.Second)
			continue
		}
		if !found {
			if left := max(s.firstClaim(), s.resting()); left > 0 {
				s.wait(ctx, left)
				continue
			}
			self = s.m.node()
			self.Move.Reason = First
			return self, 1, nil
		}
		if w == nil || claim.Epoch != w.epoch {
			if w, err = s.follow(ctx, w, claim); err != nil {
				return Node{}, 0, err
			}
			silent = false
		}
		if silent || w.former { // and no other node has taken over meanwhile
			if left := s.resting(); left > 0 {
				s.wait(ctx, left)
				continue
			}
			return s.claimant(w), claim.Epoch + 1, nil
		}
		silent = w.await(ctx)
	}
	return s.m.node(), 0, nil
}

// resting returns how long this node is not to lead. It is asked again and again while
// this node drains. One without the roles for the shard never leads it: it hears from the
// others of a new claim, and reads the bucket once in a while.
func (s *supervisor) resting() time.Duration {
	if !s.m.may(s.shard) {
		return 15 * s.m.o.Takeover
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.m.draining() {
		return s.m.period()
	}
	return min(time.Until(s.rest), s.m.period())
}

// taken returns what to claim with if the shard is handed to this node.
func (s *supervisor) taken() (self Node, epoch uint64, ok bool) {
	s.m.mu.Lock()
	offered, owner := s.offered, s.owner
	s.m.mu.Unlock()
	if offered == 0 {
		return Node{}, 0, false
	}
	self = s.past.claimant(s.m.node())
	self.Handed, self.Move = true, Move{HandedOver, owner}
	return self, offered + 1, true
}

// claimant returns the node to claim with after the watched claim.
func (s *supervisor) claimant(w *watch) Node {
	revoked := s.m.revoked(w.owner.Name)
	if revoked {
		s.log.Warn("the owner is revoked: taking over", "owner", w.owner.Name, "epoch", w.epoch)
	}
	if !w.former && !w.own && !w.left && !revoked {
		s.past.takes(w.epoch, w.skips(), w.owner.Boot)
		why := "the owner is silent: taking over"
		if !w.denied.IsZero() && !w.gone { // it answers
			why = "the owner says that it does not serve the shard, or that the bucket does not answer it: taking over"
		}
		s.log.Warn(why, "owner", w.owner.Name, "epoch", w.epoch, "silent", time.Since(w.heard).Round(time.Millisecond), "err", w.err)
		s.m.counters.Takeovers.Add(1)
	}
	if w.left {
		s.log.Info("the owner has ended: taking over", "owner", w.owner.Name, "epoch", w.epoch)
	}
	self := s.past.claimant(s.m.node())
	self.Move = w.moved()
	return self
}

// firstClaim returns how long to wait before the shard is claimed for the first time. A
// cluster of many shards waits until all nodes that start together know of each other.
func (s *supervisor) firstClaim() time.Duration {
	if s.first {
		return 0
	}
	turn := time.Duration(s.m.rank(s.shard)) * s.m.period()
	if !s.m.single() {
		turn += 2 * s.m.period()
	}
	return turn - s.m.seen()
}

// follow begins to watch the author of a claim.
func (s *supervisor) follow(ctx context.Context, before *watch, claim journal.Claim) (*watch, error) {
	m := s.m
	owner, err := ReadInfo(claim.Info)
	if err != nil && claim.Node != m.o.Self.Name {
		return nil, fmt.Errorf("read the claim of epoch %d: %w", claim.Epoch, err)
	}
	s.past.learn(owner.Takeovers)
	if before != nil && before.owner.Name != claim.Node && !owner.Handed {
		s.past.sees(before.epoch) // the new owner may be too old to list it in its claim
	}
	owner.Name = claim.Node
	s.learn(claim.Epoch, owner)
	w := newWatch(s, claim.Epoch, owner)
	if claim.Node == m.o.Self.Name {
		return w, nil
	}
	m.o.Follow(ctx, s.shard, owner, claim.Epoch)
	s.log.Info("standing by", "owner", owner.Name, "epoch", claim.Epoch, "kafka", owner.Address(Kafka), "sync", owner.Address(Sync))
	if !w.canAsk {
		s.log.Warn("this node cannot ask the owner whether it is alive, and will never take over: give the owner a --peer that this node reaches",
			"owner", owner.Name, "host", owner.Host, "peer", owner.Address(Peer), "http", owner.Address(HTTP))
	}
	return w, nil
}

// fit reports whether this node may lead as far as its doors are concerned.
func (s *supervisor) fit(ctx context.Context) bool {
	ok := s.m.fitness.check(ctx)
	s.m.mu.Lock()
	s.unfit = !ok
	s.m.mu.Unlock()
	if !ok {
		s.set("", 0)
		wait(ctx, s.m.o.Takeover/6)
	}
	return ok
}

// node returns this node with the number of its member object.
func (m *Manager) node() Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}
