// Package cluster decides which node serves which shard. Each shard has one owner, the
// others stand by for it and take over when it is gone. There is no coordinator: nodes make
// themselves known in the bucket (registry.go), tell each other all the time what they
// have (ping.go), and each draws its own conclusions.
//
// Nothing here is needed for safety. Two nodes that both believe they should lead
// cannot harm the log: the journal's names fence the older one. This package only
// makes sure that shards change their owners when they should, and no more often. Its
// rules, each of which has a test that fails without it (mutations_test.go):
//
//  1. A shard goes to another live node only from its owner's hand (handover.go), to the
//     one that should have it (want.go), if that makes the loads more even.
//  2. Silence is measured from the claim or the last sign of life, whichever is
//     later, by this node's own monotonic clock, and takes several unanswered
//     questions (silence.go).
//  3. Those who could take over wait by rank.
//  4. An owner that another member has heard is alive.
//  5. The bucket is a witness: an owner whose log grows is alive. An owner that has
//     nothing to write is asked through the bucket, and answers with a slot
//     (witness.go).
//  6. Patience doubles with each takeover in the last ten minutes (history.go). A process
//     whose host refuses connections needs none, once.
//  7. A live owner that says that it does not have the shard loses it. One that has said
//     nothing yet has not said that.
//  8. A claim of this node's name is of a former life only if its boot is another one.
//     Then that process is gone: its directory is locked by this one, and a node does not
//     enter the cluster while another process of its name answers (registry.go).
//  9. A node that ends in good order deletes its member object. Its shards are taken at
//     once.
//  10. A node takes only shards that its roles are for (roles.go).
//
// An owner whose own doors do not answer it stops leading (doors.go).
package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

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

// Counters counts what a standby does. It may be read at any time.
type Counters struct {
	Takeovers        atomic.Uint64 // shards taken from silent owners
	Handovers        atomic.Uint64 // shards handed over to other nodes
	WithheldAlive    atomic.Uint64 // times that a silent owner proved to be alive in the bucket
	WithheldHeard    atomic.Uint64 // times that another member had heard a silent owner
	WithheldPatience atomic.Uint64 // times that a takeover was delayed because of a recent one
	Asks             atomic.Uint64 // questions written into the bucket
}

// Answer looks for questions that standbys put into the bucket because they cannot
// reach this owner. It looks every half of the takeover time, unless the log grows: the
// standby sees that too. heard is called for each question that was answered.
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
