package cluster

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/journal"
)

// leastUnanswered is how many questions in a row must go unanswered before an owner
// counts as silent: elapsed time alone proves nothing to a node that was itself
// frozen.
const leastUnanswered = 3

// watch is what a standby knows of the owner of an epoch. Its times are by this
// process's monotonic clock.
type watch struct {
	s      *supervisor
	epoch  uint64
	owner  Node
	canAsk bool
	own    bool          // the claim is of this very process, which does not lead the shard
	former bool          // the claim is of an earlier process of this node
	missed int           // questions that the owner had not answered when the claim was learned of
	jitter time.Duration // so that two standbys seldom claim at the same time

	learned  time.Time // of the claim
	heard    time.Time // last sign of life: the claim, an answer, a slot
	answered time.Time // last sign of life from the owner itself: the claim, an answer
	denied   time.Time // since when it lives and says that it does not have the shard; zero: it does not
	sight              // the last one
	patient  bool      // it was counted that only patience holds this node back
	trusted  bool      // it was counted that another member has heard the owner
	left     bool      // the process has ended in good order
	asked    time.Time // when the bucket was last asked whether it has
	read     time.Time // when the claim was last read again because a member knows of a newer one

	witness  witness
	withheld *budget.Episode
}

func newWatch(s *supervisor, epoch uint64, owner Node) *watch {
	m, now := s.m, time.Now()
	w := &watch{s: s, epoch: epoch, owner: owner, learned: now, heard: now, answered: now,
		withheld: budget.NewEpisode(budget.EpisodeOptions{
			Begin: "the owner does not answer this node, which does not take over for now: check the network between their --peer",
			End:   "the owner answers this node again, or was replaced",
			Quiet: time.Hour, Log: s.log})}
	self := m.node()
	w.canAsk = self.canAsk(owner)
	if owner.Name == self.Name {
		w.own = owner.Boot == self.Boot && self.Boot != "" && !ownNameOnly(m.o.mutations)
		w.former = !w.own
	}
	m.mu.Lock()
	if known := m.members[owner.Name]; known != nil {
		w.missed = known.missed
		if silenceFromAnswer(m.o.mutations) {
			w.heard, w.answered, w.missed = known.heard, known.heard, 0
		}
	}
	m.mu.Unlock()
	w.witness = witness{s: s, owner: owner, next: journal.Position{Epoch: epoch}}
	w.jitter = m.o.random(max(m.o.Takeover/6, 1)) - m.o.Takeover/12
	return w
}

// await returns true when this node should take over, and false when the newest claim
// is to be read again, the shard is handed to this node, or ctx ends.
func (w *watch) await(ctx context.Context) bool {
	defer w.withheld.End()
	m := w.s.m
	for began := time.Now(); ctx.Err() == nil; {
		if _, _, handed := w.s.taken(); handed {
			return false
		}
		w.take(m.sees(w.s, w.owner, w.epoch, w.learned, w.missed))
		switch {
		case w.newer && time.Since(w.read) >= m.period():
			w.read = time.Now()
			return false
		case !m.may(w.s.shard): // whether the owner lives is for others to find out
			if w.s.wait(ctx, 2*m.period()); time.Since(began) >= 15*m.o.Takeover {
				return false
			}
			continue
		case w.own && time.Since(w.heard) >= 2*m.o.Takeover:
			return true
		case w.own: // it is for others to take it: this process could not keep it
			w.s.wait(ctx, m.period())
			continue
		case m.revoked(w.owner.Name): // its word and its log do not count
			w.s.wait(ctx, time.Duration(m.rank(w.s.shard))*m.period()+w.jitter)
			return true
		case pullShards(m.o.mutations) && m.rank(w.s.shard) == 0 && m.seen() > m.settled():
			return true
		}
		if w.mayHaveLeft() && w.hasLeft(ctx) {
			w.s.wait(ctx, time.Duration(m.rank(w.s.shard))*m.period())
			return true
		}
		if !w.canAsk { // for the claim of another node
			if w.s.wait(ctx, m.period()); time.Since(began) >= m.o.Takeover {
				return false
			}
			continue
		}
		if w.unsure() {
			w.look(ctx)
		}
		if ctx.Err() == nil && w.silent() {
			return true
		}
		pause := m.period()
		if w.unsure() { // no later than the takeover is due
			for _, due := range []time.Duration{w.due(), w.witness.due()} {
				if due > 0 {
					pause = min(pause, due)
				}
			}
		}
		w.s.wait(ctx, pause)
	}
	return false
}

// take records what this node knows of the owner.
func (w *watch) take(v sight) {
	w.sight = v
	if v.confirmed.After(w.heard) {
		if v.unanswered == 0 && !v.denied {
			w.witness.forget(v.next)
			w.withheld.End()
		}
		w.heard, w.answered, w.patient, w.trusted = v.confirmed, v.confirmed, false, false
	}
	switch {
	case !v.denied && !v.gone:
		w.denied = time.Time{}
	case w.denied.IsZero():
		w.denied = time.Now()
	}
}

// unsure reports whether the owner has not said, when last asked, that it has the
// shard, and no other member has heard it.
func (w *watch) unsure() bool {
	switch {
	case !w.denied.IsZero():
		return time.Since(w.denied) >= w.s.m.period() // else it has just handed it over
	case (w.unanswered == 0 || w.oneWay) && time.Since(w.answered) < 2*w.s.m.period():
		return false
	}
	if w.elsewhere != "" && !noOpinion(w.s.m.o.mutations) {
		if time.Since(w.answered) >= w.s.m.o.Takeover {
			if !w.trusted {
				w.trusted = true
				w.s.m.counters.WithheldHeard.Add(1)
			}
			w.withheld.Note("reason", "another node has heard it", "heard_by", w.elsewhere, "owner", w.owner.Name, "epoch", w.epoch,
				"peer", w.owner.Address(Peer), "err", w.err)
		}
		return false
	}
	return true
}

// mayHaveLeft reports whether something but the bucket says that the owner has ended. A
// question may go unanswered by one that is there, and a node that was cut off for long
// is without its member object for a moment when it claims. For an owner that cannot be
// asked the bucket is all there is.
func (w *watch) mayHaveLeft() bool {
	least := leastUnanswered
	if trustObject(w.s.m.o.mutations) {
		least = 1
	}
	return w.gone || w.refused > 0 || w.unanswered >= least || !w.denied.IsZero() ||
		!w.canAsk && time.Since(w.learned) >= w.s.m.o.Takeover
}

// hasLeft reports whether the process that made the claim has ended in good order. It
// asks the bucket once in a while.
func (w *watch) hasLeft(ctx context.Context) bool {
	m := w.s.m
	if closedUnseen(m.o.mutations) || w.owner.Member == 0 || time.Since(w.asked) < m.o.Takeover/2 {
		return false
	}
	w.asked = time.Now()
	limited, cancel := context.WithTimeout(ctx, m.o.Takeover/2)
	defer cancel()
	left, err := hasLeft(limited, m.o.Bucket, w.owner)
	if err != nil && ctx.Err() == nil {
		w.s.log.Debug("the bucket does not show whether the owner has ended", "owner", w.owner.Name, "err", err)
	}
	w.left = left
	return left
}

// look asks the bucket as a witness.
func (w *watch) look(ctx context.Context) {
	m := w.s.m
	if noWitness(m.o.mutations) {
		return
	}
	seen := time.Now()
	grown, err := w.witness.look(ctx)
	if err != nil {
		if !w.denied.IsZero() {
			w.witness.asked = time.Time{} // an owner in doubt does not reach the bucket either: it has its time again
		}
		if ctx.Err() == nil {
			w.s.log.Debug("the bucket does not show whether the owner is alive", "owner", w.owner.Name, "err", err)
		}
		return
	}
	if !grown {
		return
	}
	w.heard, w.patient = seen, false
	if time.Since(w.answered) >= m.o.Takeover {
		m.counters.WithheldAlive.Add(1)
		w.withheld.Note("reason", "the bucket shows that it is alive", "owner", w.owner.Name, "epoch", w.epoch,
			"peer", w.owner.Address(Peer), "err", w.err)
	}
}

// wanted is the silence that it takes, without what patience adds.
func (w *watch) wanted() time.Duration {
	return w.s.m.o.Takeover + w.jitter + time.Duration(w.s.m.rank(w.s.shard))*w.s.m.period()
}

// due returns when the takeover is due at the earliest.
func (w *watch) due() time.Duration { return w.wanted() - time.Since(w.heard) }

// silent reports whether this node should take over: by its own clock, the owner has
// been silent for long enough since the last sign of life, has left enough questions
// unanswered, or lives and does not have the shard, and has had the time to answer
// through the bucket.
func (w *watch) silent() bool {
	m := w.s.m
	since, wanted := time.Since(w.heard), w.wanted()
	if since < wanted || !w.unsure() || !w.witness.silent() && !noWitness(m.o.mutations) {
		return false
	}
	if w.unanswered < leastUnanswered && (w.denied.IsZero() || time.Since(w.denied) < m.o.Takeover) {
		return false
	}
	if noPatience(m.o.mutations) {
		return true
	}
	if patience := w.s.past.patience(m.o.Takeover, w.skips(), w.owner.Boot); since < wanted-m.o.Takeover+patience {
		if !w.patient {
			w.patient = true
			m.counters.WithheldPatience.Add(1)
			w.withheld.Note("reason", "the owner of the shard changed a short while ago", "owner", w.owner.Name, "epoch", w.epoch,
				"peer", w.owner.Address(Peer), "patience", patience, "err", w.err)
		}
		return false
	}
	return true
}

// skips reports whether the owner's host says that the process is gone.
func (w *watch) skips() bool {
	return w.gone || w.unanswered >= leastUnanswered && w.refused == w.unanswered
}
