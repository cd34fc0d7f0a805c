package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
)

// leastUnanswered is how many questions in a row must go unanswered before an owner
// counts as silent: elapsed time alone proves nothing to a node that was itself
// frozen.
const leastUnanswered = 3

// standBy returns when this node should lead. Then there is no claim, or the claimant
// has been silent for long enough, or the claim is of this very node: a process locks
// the data directory of its node id, so the process that made the claim is gone.
// standBy returns the node and epoch to claim with. If several standbys find the
// owner silent, the first to claim wins and the others stand by for it.
func standBy(ctx context.Context, o Options, past *history) (self Node, epoch uint64, err error) {
	var w *watch // of the claim that was followed last
	silent := false
	for {
		claim, found, err := journal.NewestClaim(ctx, o.Bucket, o.Shard)
		if ctx.Err() != nil {
			return o.Self, 0, nil
		}
		if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrFormat) || errors.Is(err, storage.ErrDamaged) {
			return o.Self, 0, err // trying again would not help
		}
		if err != nil {
			o.Log.Warn("bucket cannot be read: trying again", "err", err)
			w, silent = nil, false // the silence was measured before the error: start again
			wait(ctx, time.Second)
			continue
		}
		if !found {
			return o.Self, 1, nil
		}
		if w == nil || claim.Epoch != w.epoch {
			if w, err = follow(ctx, o, past, w, claim); err != nil {
				return o.Self, 0, err
			}
			silent = false
		}
		if claim.Node == o.Self.Name {
			return past.claimant(o.Self), claim.Epoch + 1, nil
		}
		if silent { // and no other node has taken over meanwhile
			past.takes(claim.Epoch, w.skips())
			o.Log.Warn("the owner is silent: taking over", "owner", w.owner.Name, "epoch", claim.Epoch,
				"silent", time.Since(w.heard).Round(time.Millisecond), "err", w.err)
			return past.claimant(o.Self), claim.Epoch + 1, nil
		}
		if !w.canAsk {
			wait(ctx, o.Takeover) // for the claim of another node
			continue
		}
		silent = w.await(ctx)
	}
}

// follow begins to watch the author of a claim.
func follow(ctx context.Context, o Options, past *history, before *watch, claim journal.Claim) (*watch, error) {
	owner, err := ReadInfo(claim.Info)
	if err != nil && claim.Node != o.Self.Name {
		return nil, fmt.Errorf("read the claim of epoch %d: %w", claim.Epoch, err)
	}
	past.learn(owner.Takeovers)
	if before != nil && before.owner.Name != claim.Node {
		past.sees(before.epoch) // the new owner may be too old to list it in its claim
	}
	if claim.Node == o.Self.Name {
		return &watch{o: o, epoch: claim.Epoch, owner: owner}, nil
	}
	o.Follow(ctx, owner)
	o.Log.Info("standing by", "owner", owner.Name, "epoch", claim.Epoch, "kafka", owner.Address(Kafka), "sync", owner.Address(Sync))
	w := newWatch(o, past, claim.Epoch, owner)
	if !w.canAsk {
		o.Log.Warn("this node cannot ask the owner whether it is alive, and will never take over: give the owner a --peer that this node reaches",
			"owner", owner.Name, "host", owner.Host, "peer", owner.Address(Peer), "http", owner.Address(HTTP))
	}
	return w, nil
}

// watch is what a standby knows of the owner of an epoch. Its times are by this
// process's monotonic clock.
type watch struct {
	o      Options
	past   *history
	epoch  uint64
	owner  Node
	canAsk bool
	jitter time.Duration // so that two standbys seldom claim at the same time

	heard      time.Time // last sign of life: the claim, an answer, a slot
	answered   time.Time // last sign of life from the owner itself: the claim, an answer
	unanswered int       // questions in a row
	refused    int       // of those, refused because nothing listens at the address
	err        error     // why the last one was not answered
	patient    bool      // it was counted that only patience holds this node back

	witness  witness
	withheld *budget.Episode
}

func newWatch(o Options, past *history, epoch uint64, owner Node) *watch {
	now := time.Now()
	w := &watch{o: o, past: past, epoch: epoch, owner: owner, canAsk: o.Self.canAsk(owner), heard: now, answered: now,
		withheld: budget.NewEpisode(budget.EpisodeOptions{
			Begin: "the owner does not answer this node, which does not take over for now: check the network between their --peer",
			End:   "the owner answers this node again, or was replaced",
			Quiet: time.Hour, Log: o.Log})}
	w.witness = witness{o: o, owner: owner, next: journal.Position{Epoch: epoch}}
	w.draw()
	return w
}

func (w *watch) draw() {
	period := w.o.Takeover / 6
	w.jitter = rand.N(max(period, 1)) - period/2
}

// answer is the owner's answer to a question.
type answer struct {
	sign Sign
	err  error
}

// await returns true when the owner has been silent for long enough, and false when
// ctx ends.
func (w *watch) await(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.withheld.End()
	period := w.o.Takeover / 6
	answers := make(chan answer, 1)
	asked := false // a question is under way
	for ctx.Err() == nil {
		began := time.Now()
		if !asked {
			asked = true
			go func() { answers <- w.question(ctx, 2*period) }()
		}
		tick := time.NewTimer(period)
		select {
		case a := <-answers:
			asked = false
			w.take(a)
			if a.err != nil {
				w.look(ctx)
			}
		case <-tick.C:
			w.look(ctx)
		}
		tick.Stop()
		if ctx.Err() == nil && w.silent() {
			return true
		}
		if !asked {
			pause := period - time.Since(began)
			if due := w.o.Takeover + w.jitter - time.Since(w.heard); w.unanswered > 0 && due > 0 {
				pause = min(pause, due) // no later than the takeover is due
			}
			wait(ctx, pause)
		}
	}
	return false
}

func (w *watch) question(ctx context.Context, limit time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	sign, err := w.o.Ask(ctx, w.owner)
	return answer{sign, err}
}

// take records the result of a question.
func (w *watch) take(a answer) {
	if w.err = a.err; a.err != nil {
		w.unanswered++
		if errors.Is(a.err, ErrRefused) {
			w.refused++
		}
		return
	}
	now := time.Now()
	w.heard, w.answered, w.unanswered, w.refused, w.patient = now, now, 0, 0, false
	w.witness.forget(a.sign.Next)
	w.withheld.End()
}

// look asks the bucket as a witness.
func (w *watch) look(ctx context.Context) {
	seen := time.Now()
	grown, err := w.witness.look(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.o.Log.Debug("the bucket does not show whether the owner is alive", "owner", w.owner.Name, "err", err)
		}
		return
	}
	if !grown {
		return
	}
	w.heard, w.patient = seen, false
	if time.Since(w.answered) >= w.o.Takeover {
		w.o.Counters.WithheldAlive.Add(1)
		w.withheld.Note("reason", "the bucket shows that it is alive", "owner", w.owner.Name, "epoch", w.epoch, "peer", w.owner.Address(Peer), "err", w.err)
	}
}

// silent reports whether this node should take over: by its own clock, the owner has
// been silent for long enough since the last sign of life, has left enough questions
// unanswered, and has had the time to answer through the bucket.
func (w *watch) silent() bool {
	since := time.Since(w.heard)
	if w.unanswered < leastUnanswered || since < w.o.Takeover+w.jitter || !w.witness.silent() {
		return false
	}
	if patience := w.past.patience(w.o.Takeover, w.skips()); since < patience+w.jitter {
		if !w.patient {
			w.patient = true
			w.o.Counters.WithheldPatience.Add(1)
			w.withheld.Note("reason", "the owner of the shard changed a short while ago", "owner", w.owner.Name, "epoch", w.epoch,
				"peer", w.owner.Address(Peer), "patience", patience, "err", w.err)
		}
		return false
	}
	return true
}

// skips reports whether the owner's host says that the process is gone.
func (w *watch) skips() bool { return w.unanswered >= leastUnanswered && w.refused == w.unanswered }
