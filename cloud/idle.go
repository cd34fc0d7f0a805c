package cloud

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/pause"
)

// ErrIdle ends a node that nobody has used for Options.IdleExit. Its logs are closed, with
// a checkpoint of all that they hold.
var ErrIdle = errors.New("this node is not used")

// idleSteps is how many times in Options.IdleExit, at least, a node looks whether it is
// used, and idleStep the longest time between.
const (
	idleSteps = 10
	idleStep  = 200 * time.Millisecond
)

// idleness finds out that a node is not used.
type idleness struct {
	after   time.Duration
	clients func() bool                 // somebody is connected, or something is to be done
	behind  func() bool                 // queues lack records: other nodes are asked, so only when there is nothing else
	own     func() bool                 // the node is asking its own doors: a connection may be its own
	spare   func() bool                 // the cluster can do without the node
	tidy    func(context.Context) error // leaves nothing for the next start to read again
}

// await returns true when the node has not been used for the time, and is tidy. It returns
// false when ctx ends.
func (i idleness) await(ctx context.Context) bool {
	step := min(i.after/idleSteps, idleStep)
	for since := time.Now(); ; {
		if pause.For(ctx, step) != nil {
			return false
		}
		switch {
		case i.own():
			continue
		case i.clients():
			since = time.Now()
			continue
		case time.Since(since) < i.after || !i.spare():
			continue
		case i.behind():
			since = time.Now()
			continue
		}
		if i.tidy(ctx) != nil {
			since = time.Now()
			continue
		}
		if !i.clients() && !i.behind() { // none came meanwhile
			return ctx.Err() == nil
		}
	}
}

// use is what a node knows of its use, besides the connections of its doors.
type use struct {
	requests atomic.Int64 // at the admin port, under way
	latest   atomic.Int64 // when the last one ended, in Unix nanoseconds
	asking   atomic.Int64 // questions to this node's own doors, under way
	asked    atomic.Int64 // when the last one ended, in Unix nanoseconds
}

// idleness is of this node.
func (n *Node) idleness() idleness {
	return idleness{after: n.o.IdleExit, clients: n.used, behind: func() bool { return n.bridgeLag() > 0 }, own: n.use.own, spare: n.manager.Spare, tidy: n.tidy}
}

// used reports whether somebody uses this node, or it has something to do, as far as it
// can tell without a question to other nodes.
func (n *Node) used() bool {
	if n.use.requests.Load() > 0 || time.Since(time.Unix(0, n.use.latest.Load())) < idleStep {
		return true
	}
	for _, l := range n.metrics.Listeners() {
		switch l.Door {
		case cluster.Kafka, cluster.AMQP, cluster.Management, cluster.Sync:
			if l.Open > 0 {
				return true
			}
		}
	}
	return n.Role() == console.RoleRecovering
}

// own reports whether a connection may be that of a question to this node's own doors,
// which a door notices some time later to have ended.
func (u *use) own() bool {
	return u.asking.Load() > 0 || time.Since(time.Unix(0, u.asked.Load())) < idleStep/2
}

// ask brackets a question to a door of this node.
func (u *use) ask() (end func()) {
	u.asking.Add(1)
	return func() {
		u.asked.Store(time.Now().UnixNano())
		u.asking.Add(-1)
	}
}

// handler counts requests at the admin port. Health and metrics, which are asked for all
// the time, are no use of the node.
func (u *use) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
		default:
			u.requests.Add(1)
			defer func() {
				u.latest.Store(time.Now().UnixNano())
				u.requests.Add(-1)
			}()
		}
		h.ServeHTTP(w, r)
	})
}

// tidy rewrites what waits for it in the logs of this node, and writes checkpoints.
func (n *Node) tidy(ctx context.Context) error {
	for _, own := range n.shards.all() {
		if own.Log.Stats().Waiting == 0 {
			continue
		}
		if err := own.Log.Maintain(ctx); err != nil {
			if ctx.Err() == nil {
				n.o.Log.Warn("this node is not used, and cannot end yet: its log was not rewritten", n.about(own.ID, "err", err)...)
			}
			return err
		}
	}
	return nil
}
