// Package cluster decides which node serves a shard: one leads, the others
// stand by and take over when it is gone.
//
// Nothing here is needed for safety. Two nodes that both believe they should
// lead cannot harm the log: the journal's names fence the older one. This
// package only sees to it that takeovers happen when they should, and not more
// often.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
)

// DefaultTakeover is how long an owner may be silent before a standby takes
// its place.
const DefaultTakeover = 3 * time.Second

// leastUnanswered is how many questions in a row must go unanswered before an
// owner counts as silent: time alone says nothing to a node that was itself
// frozen.
const leastUnanswered = 3

// ErrSuperseded: a newer claim won while Lead was still recovering. Nothing
// was served; the node stands by.
var ErrSuperseded = errors.New("superseded by a newer claim")

// Node is one weir-cloud process as the others see it. It travels as JSON in
// the claim on a shard.
type Node struct {
	ID    int32  `json:"id"`              // of the node in the Kafka protocol, from Name
	Name  string `json:"name"`            // --node-id
	Kafka string `json:"kafka,omitempty"` // host:port that clients dial; "" = no such door
	Sync  string `json:"sync,omitempty"`  // host:port that gateways dial
	HTTP  string `json:"http,omitempty"`  // host:port where it says whether it is alive
	Host  string `json:"host,omitempty"`  // name of the machine, on which alone a loopback address means this node

	Listeners map[string]string `json:"kafka_listeners,omitempty"` // host:port of each Kafka listener, by its name; Kafka is the first one's
}

// KafkaAddress is where clients dial the listener of that name: "" if there is
// none. A node that names no listeners has one, which answers to any name.
func (n Node) KafkaAddress(listener string) string {
	if n.Listeners == nil {
		return n.Kafka
	}
	return n.Listeners[listener]
}

// NodeID derives the number by which Kafka clients know a node.
func NodeID(name string) int32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int32(h.Sum32() & 0x7fffffff)
}

// canAsk reports whether n can find out if owner is alive.
func (n Node) canAsk(owner Node) bool {
	host, _, err := net.SplitHostPort(owner.HTTP)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback() || owner.Host == n.Host
}

// Info encodes a node for its claim.
func (n Node) Info() ([]byte, error) { return json.Marshal(n) }

// Options configure Run. Bucket, Self, Alive, Follow and Lead are required.
type Options struct {
	Bucket storage.Bucket
	Shard  uint32
	Self   Node

	// Takeover is the silence after which a standby takes over, by its own
	// monotonic clock; DefaultTakeover if 0.
	Takeover time.Duration

	// Alive asks the owner at its address whether it still leads, or is about
	// to.
	Alive func(ctx context.Context, owner Node) error

	// Follow is told whenever another node turns out to be the owner.
	Follow func(ctx context.Context, owner Node)

	// Lead claims the shard and serves it until ctx ends (nil), until it is
	// fenced or fails (an error), or loses the race for it (ErrSuperseded).
	Lead func(ctx context.Context) error

	Log *slog.Logger
}

// Run leads or stands by until ctx ends, which is no error. It returns the
// error of Lead: a node that has lost its shard stops, and starts afresh as a
// standby when it is started again.
func Run(ctx context.Context, o Options) error {
	if o.Takeover == 0 {
		o.Takeover = DefaultTakeover
	}
	for ctx.Err() == nil {
		if err := standBy(ctx, o); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := o.Lead(ctx); !errors.Is(err, ErrSuperseded) {
			return err
		}
		o.Log.Info("another node won the shard; standing by", "shard", o.Shard)
	}
	return nil
}

// standBy returns when this node should lead: there is no claim, the claim is
// of this very node (whoever starts with a node's id holds the lock on its
// data directory, so the process that made the claim is gone), or the claimant
// has been silent for the takeover time.
func standBy(ctx context.Context, o Options) error {
	var followed uint64 // epoch of the claim that was followed last
	var owner Node      // who made it
	for {
		claim, found, err := journal.NewestClaim(ctx, o.Bucket, o.Shard)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, journal.ErrCorrupt), errors.Is(err, journal.ErrFormat), errors.Is(err, storage.ErrDamaged):
			return err // it is the same tomorrow
		case err != nil:
			o.Log.Warn("bucket cannot be read; trying again", "err", err)
			followed = 0 // the silence is from before: listen anew
			wait(ctx, time.Second)
			continue
		case !found || claim.Node == o.Self.Name:
			return nil
		case claim.Epoch == followed && o.Self.canAsk(owner):
			return nil // silent, and nobody else has taken over meanwhile
		case claim.Epoch != followed:
			owner = Node{}
			if err := json.Unmarshal(claim.Info, &owner); err != nil {
				return fmt.Errorf("read the claim of epoch %d: %w", claim.Epoch, err)
			}
			followed = claim.Epoch
			o.Follow(ctx, owner)
			o.Log.Info("standing by", "owner", owner.Name, "epoch", claim.Epoch, "kafka", owner.Kafka, "sync", owner.Sync)
			if !o.Self.canAsk(owner) {
				o.Log.Warn("the owner's --http cannot be reached from here, so nobody can tell whether it is alive: it will not be replaced",
					"owner", owner.Name, "host", owner.Host, "http", owner.HTTP)
			}
		}
		if o.Self.canAsk(owner) {
			awaitSilence(ctx, o, owner)
		} else {
			wait(ctx, o.Takeover) // for the claim of another node
		}
	}
}

// awaitSilence returns when owner has not answered for the takeover time, with
// some jitter so that two standbys seldom duel, and several questions in a row.
func awaitSilence(ctx context.Context, o Options, owner Node) {
	period := o.Takeover / 6
	patience := o.Takeover - period/2 + rand.N(period)
	heard, unanswered := time.Now(), 0
	for ctx.Err() == nil && (unanswered < leastUnanswered || time.Since(heard) < patience) {
		asked := time.Now()
		deadline, cancel := context.WithTimeout(ctx, 2*period)
		err := o.Alive(deadline, owner)
		cancel()
		unanswered++
		if err == nil {
			heard, unanswered = time.Now(), 0
		}
		wait(ctx, period-time.Since(asked))
	}
	if ctx.Err() == nil {
		o.Log.Warn("the owner does not answer", "owner", owner.Name, "silent", time.Since(heard).Round(time.Millisecond))
	}
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

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
