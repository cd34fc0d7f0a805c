// Package cluster decides which node serves a shard: one node leads, the others stand
// by and take over when it is gone.
//
// Nothing here is needed for safety. Two nodes that both believe they should lead
// cannot harm the log: the journal's names fence the older one. This package only
// makes sure that takeovers happen when they should, and no more often:
//
//   - Silence is measured from the claim or the last sign of life, whichever is
//     later, by this node's own monotonic clock, and takes several unanswered
//     questions.
//   - The bucket is a witness: an owner whose log grows is alive. An owner that has
//     nothing to write is asked through the bucket, and answers with a slot
//     (witness.go).
//   - Patience doubles with each takeover in the last ten minutes (history.go).
//   - An owner whose own doors do not answer it stops leading (doors.go).
package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/pause"
)

// DefaultTakeover is how long an owner may be silent before a standby takes
// its place.
const DefaultTakeover = 3 * time.Second

// ErrSuperseded means that a newer claim won while Lead was still recovering. The
// node has served nothing and stands by.
var ErrSuperseded = errors.New("superseded by a newer claim")

// ErrRefused means that the owner's host answers but nothing listens at its address,
// or that a firewall refused the connection.
var ErrRefused = errors.New("connection refused")

// Sign is a sign of life.
type Sign struct {
	// Next is the first slot that the owner has not acknowledged; zero if it did not
	// say.
	Next journal.Position
}

// Counters counts what a standby does. It may be read at any time.
type Counters struct {
	WithheldAlive    atomic.Uint64 // times that a silent owner proved to be alive in the bucket
	WithheldPatience atomic.Uint64 // times that a takeover was delayed because of a recent one
	Asks             atomic.Uint64 // questions written into the bucket
}

// Options configure Run. Bucket, Self, Ask, Follow and Lead are required.
type Options struct {
	Bucket storage.Bucket
	Shard  uint32
	Self   Node

	// Takeover is the silence after which a standby takes over, by its own
	// monotonic clock; DefaultTakeover if 0.
	Takeover time.Duration

	// Ask asks the owner at its address whether it leads, or is about to. It returns an
	// error, for example ErrRefused, if the owner did not say so.
	Ask func(ctx context.Context, owner Node) (Sign, error)

	// Follow is called whenever another node turns out to be the owner.
	Follow func(ctx context.Context, owner Node)

	// Fit, if set, returns why this node should not lead now: its own doors do not
	// answer. It leads all the same when nothing else has kept it from leading for four
	// times Takeover.
	Fit func(ctx context.Context) error

	// Lead claims exactly this epoch of the shard with self and serves it. It returns
	// nil when ctx ends, ErrSuperseded when another node wins the claim, and another
	// error when it is fenced or fails.
	Lead func(ctx context.Context, self Node, epoch uint64) error

	Counters *Counters // nil: not used
	Log      *slog.Logger
}

// Run leads or stands by until ctx ends; then it returns nil. It returns the error of
// Lead: a node that has lost its shard stops, and is a standby when it is started
// again.
func Run(ctx context.Context, o Options) error {
	if o.Takeover == 0 {
		o.Takeover = DefaultTakeover
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	past := newHistory()
	var unfit time.Time
	for ctx.Err() == nil {
		self, epoch, err := standBy(ctx, o, past)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if !fit(ctx, o, &unfit) {
			continue
		}
		if err := o.Lead(ctx, self, epoch); !errors.Is(err, ErrSuperseded) {
			return err
		}
		o.Log.Info("another node won the shard; standing by", "shard", o.Shard)
	}
	return nil
}

// Confirm keeps asking the bucket whether another node has claimed the shard: an idle
// owner writes nothing and would never notice. It returns journal.ErrFenced when one
// has. It calls doubt when there has been no answer for the takeover time, and again
// when there is one.
func Confirm(ctx context.Context, takeover time.Duration, ask func(context.Context) error, doubt func(bool)) error {
	if takeover == 0 {
		takeover = DefaultTakeover
	}
	sure, doubting := time.Now(), false
	for {
		wait(ctx, takeover/2)
		if ctx.Err() != nil {
			return nil
		}
		asked := time.Now()
		deadline, cancel := context.WithTimeout(ctx, takeover/2)
		err := ask(deadline)
		cancel()
		switch {
		case errors.Is(err, journal.ErrFenced):
			return err
		case err == nil:
			sure = asked // the answer is at least as new as the question
		}
		if now := time.Since(sure) >= takeover; now != doubting && ctx.Err() == nil {
			doubting = now
			doubt(now)
		}
	}
}

// Answer looks for questions that standbys put into the bucket because they cannot
// reach this owner. It looks every half of the takeover time, as Confirm does, unless
// the log grows: the standby sees that too. heard is called for each question that
// was answered.
//
// A standby has not seen the growth that came before its question. So Answer checks
// every quarter whether the log has grown, and omits a look only if it grew in the
// last quarter. Then a question put in the quarter before is older than the growth.
// Any question is answered, or its author sees the log grow, after half of the
// takeover time.
func Answer(ctx context.Context, takeover time.Duration, acked func() journal.Position,
	answer func(context.Context) (who string, asked bool, err error), heard func(who string, err error)) {
	if takeover == 0 {
		takeover = DefaultTakeover
	}
	last := acked()
	for quarters := 1; ; quarters++ { // since the last look
		wait(ctx, takeover/4)
		if ctx.Err() != nil {
			return
		}
		now := acked()
		grown := now != last
		if last = now; grown || quarters < 2 {
			continue
		}
		deadline, cancel := context.WithTimeout(ctx, takeover)
		who, asked, err := answer(deadline)
		cancel()
		if asked && ctx.Err() == nil {
			heard(who, err)
		}
		last, quarters = acked(), 0
	}
}

// wait returns after d, or when ctx ends, and how long that was.
func wait(ctx context.Context, d time.Duration) time.Duration {
	began := time.Now()
	_ = pause.For(ctx, d)
	return time.Since(began)
}
