// Package cluster decides which node serves a shard: one leads, the others
// stand by and take over when it is gone.
//
// Nothing here is needed for safety. Two nodes that both believe they should
// lead cannot harm the log: the journal's names fence the older one. This
// package only sees to it that takeovers happen when they should, and not more
// often:
//
//   - Silence counts from the claim or the last sign of life, whichever is later,
//     by this node's own monotonic clock, and takes several questions.
//   - The bucket is a witness: an owner whose log grows lives. One that has nothing
//     to write is asked through the bucket, and answers with a slot (witness.go).
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

// ErrSuperseded: a newer claim won while Lead was still recovering. Nothing
// was served; the node stands by.
var ErrSuperseded = errors.New("superseded by a newer claim")

// ErrRefused: nobody listens at the address of an owner, whose host answers. Or
// a firewall says so.
var ErrRefused = errors.New("connection refused")

// Sign is a sign of life.
type Sign struct {
	// Next is the first slot that an owner has not acknowledged; zero if it did
	// not say.
	Next journal.Position
}

// Counters count what a standby does. They may be read at any time.
type Counters struct {
	WithheldAlive    atomic.Uint64 // times that the bucket showed that a silent owner lives
	WithheldPatience atomic.Uint64 // times that a takeover waited because there was one shortly before
	Asks             atomic.Uint64 // questions that were put into the bucket
}

// Options configure Run. Bucket, Self, Ask, Follow and Lead are required.
type Options struct {
	Bucket storage.Bucket
	Shard  uint32
	Self   Node

	// Takeover is the silence after which a standby takes over, by its own
	// monotonic clock; DefaultTakeover if 0.
	Takeover time.Duration

	// Ask asks the owner at its address whether it still leads, or is about to.
	// An error, ErrRefused for one, says that it did not answer so.
	Ask func(ctx context.Context, owner Node) (Sign, error)

	// Follow is told whenever another node turns out to be the owner.
	Follow func(ctx context.Context, owner Node)

	// Fit, if set, reports why this node should not lead now: its own doors do
	// not answer. It leads nevertheless when there has been no other reason not
	// to for four times Takeover.
	Fit func(ctx context.Context) error

	// Lead claims that epoch of the shard, and no other, with self and serves it until
	// ctx ends (nil), until it is fenced or fails (an error), or loses the race for it
	// (ErrSuperseded).
	Lead func(ctx context.Context, self Node, epoch uint64) error

	Counters *Counters // nil: nobody reads them
	Log      *slog.Logger
}

// Run leads or stands by until ctx ends, which is no error. It returns the
// error of Lead: a node that has lost its shard stops, and starts afresh as a
// standby when it is started again.
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

// Confirm keeps asking the bucket whether anybody has claimed the shard from
// us: an idle owner writes nothing and would never notice. It returns
// journal.ErrFenced when somebody has, and tells doubt when the answer has
// been missing for the takeover time, and again when it has come.
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
			sure = asked // the answer is no younger than the question
		}
		if now := time.Since(sure) >= takeover; now != doubting && ctx.Err() == nil {
			doubting = now
			doubt(now)
		}
	}
}

// Answer looks for questions that standbys put into the bucket because they
// cannot reach this owner. It looks every half of the takeover time, as Confirm
// does, unless the log grows: who asks sees that too. heard is told of each
// question that was answered.
//
// What the log grew by before a question was put, its author has not seen. So
// Answer asks every quarter whether the log has grown, and leaves out a look only
// for what came in the last one: a question that was put in the quarter before is
// older than that, and any question has its answer, or sees the log grow, after
// half of the takeover time.
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
