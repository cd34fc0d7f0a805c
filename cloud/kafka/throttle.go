package kafka

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/quota"
)

// A client that exceeds its limits is told so in the answer, and nothing more is read
// from its connection for that long. Other clients do not notice. access.Meter says
// which time counts.

// countBytes counts bytes that a request has written or will read.
func (r *request) countBytes(d quota.Direction, bytes int) {
	r.throttle(r.conn.s.access.CountBytes(r.conn.session, r.clientID, d, bytes))
}

// start begins to measure the work on a request, if it may count, and returns the
// context for performing the request.
func (r *request) start(ctx context.Context) context.Context {
	ctx, r.watch = r.conn.s.access.Watch(ctx)
	return ctx
}

// countTime counts the work on a request whose answer is ready, and the writing of
// answers since the previous request.
func (r *request) countTime() {
	c := r.conn
	r.throttle(c.s.access.CountTime(c.session, r.clientID, &c.meter, r.watch))
}

// throttle makes the client wait. If it is called several times, the longest wait
// counts.
func (r *request) throttle(wait time.Duration) {
	if wait > 0 {
		r.conn.mute(wait)
		r.wait = max(r.wait, int32(wait.Milliseconds()), 1)
	}
}

// throttledLater makes the client of a Produce wait as an owner has said, in ms. Any
// goroutine may call it.
func (r *request) throttledLater(ms int32) {
	if ms <= 0 {
		return
	}
	r.conn.mute(milliseconds(ms))
	for old := r.waitLater.Load(); ms > old && !r.waitLater.CompareAndSwap(old, ms); {
		old = r.waitLater.Load()
	}
}
