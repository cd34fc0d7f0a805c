package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage"
)

// races checks with other nodes whether they exclude each other in the bucket, even if
// each has its own way to it.
type races struct {
	once sync.Once
	wg   sync.WaitGroup
	ctx  context.Context // ends with the node; set by Run

	mu      sync.Mutex
	joining int  // guarded by mu; races under way to which others have invited
	over    bool // guarded by mu; no race is begun any more
}

// begin has the node do something until its context ends, which end waits for. It reports
// false if the node ends already.
func (r *races) begin(do func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.wg.Go(do)
	}
	return !r.over
}

// end waits for races under way. Their context has ended.
func (r *races) end() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.wg.Wait()
}

// raceTime is how long a race may take: some 200 requests, and a few seconds.
const raceTime = time.Minute

// maxRaces is how many races a node takes part in at once, if many nodes start.
const maxRaces = 4

// unraced is logged if it cannot be found out whether two nodes exclude each other.
const unraced = "not tested whether this node and the owner exclude each other in the bucket: both must have the same --bucket, and must reach each other's --peer"

// raceOwner checks, once in a node's life, that this node and the owner exclude each
// other. It runs in the background; if they do not, the node ends.
func (n *Node) raceOwner(ctx context.Context, owner cluster.Node) {
	n.races.once.Do(func() {
		n.races.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, raceTime)
			defer cancel()
			raced, err := storage.Race(ctx, n.bucket, func(ctx context.Context) error {
				if owner.Address(cluster.Peer) == "" {
					return peer.ErrUnknownVerb
				}
				return n.peers.client.Race(ctx, owner.Name, owner.Address(cluster.Peer))
			})
			switch {
			case errors.Is(err, storage.ErrNoCreate):
				n.fail(fmt.Errorf("this node and the owner, %s, do not exclude each other in the bucket: give both the same --bucket: %w", owner.Name, err))
			case errors.Is(ctx.Err(), context.Canceled): // the node ends
			case err != nil:
				n.o.Log.Warn(unraced, "owner", owner.Name, "err", err)
			case !raced:
				n.o.Log.Warn(unraced, "owner", owner.Name, "err", "the owner did not take part")
			default:
				n.o.Log.Info("this node and the owner exclude each other in the bucket", "owner", owner.Name)
			}
		})
	})
}

// joinRaces takes part in races to which other nodes have invited. It runs in the
// background.
func (n *Node) joinRaces() {
	r := &n.races
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joining == maxRaces || r.over {
		return
	}
	r.joining++
	r.wg.Go(func() {
		defer func() {
			r.mu.Lock()
			r.joining--
			r.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(n.races.ctx, raceTime)
		defer cancel()
		if _, err := storage.JoinRaces(ctx, n.bucket); err != nil && n.races.ctx.Err() == nil {
			n.o.Log.Warn("a test whether nodes exclude each other in the bucket was not finished", "err", err)
		}
	})
}
