package kafka

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// Who writes, reads or asks for more than his limits allow is told so in the answer,
// and nothing more is read of his connection for so long, which others do not notice.
//
// Limits on time count the work on a request: from when its decoding begins until
// its answer is ready, but for what is marked as stopwatch.Waiting. The encoding and the
// writing of the answer come too late for that, and count for the next request of the
// connection.
//
// Nothing counts before the client has logged in: all those whom nobody knows yet
// would share one limit, and whoever uses it up would keep the others out.

// effort is the most work that it can be to read or write so many bytes. Who takes
// longer waits for the bucket, or for the client to take what was written before.
func effort(bytes int) time.Duration {
	return 100*time.Microsecond + time.Duration(bytes)*4*time.Nanosecond
}

// countBytes counts bytes that a request has written or will read.
func (r *request) countBytes(d quota.Direction, bytes int) {
	if quotas := r.conn.s.access.Quotas(); quotas != nil && bytes > 0 {
		r.throttle(quotas.Take(d, auth.UserOf(r.conn.session.Principal()), r.clientID, bytes))
	}
}

// start begins to measure the work on a request, if that may count, and returns the
// context to perform it with.
func (r *request) start(ctx context.Context) context.Context {
	if quotas := r.conn.s.access.Quotas(); quotas != nil {
		r.watch = quotas.Stopwatch()
	}
	return stopwatch.With(ctx, r.watch)
}

// countTime counts the work on a request whose answer is ready, but for its writing,
// and on answers that were written since the request before.
func (r *request) countTime() {
	if r.watch == nil {
		return
	}
	c := r.conn
	worked := r.watch.Lap() + time.Duration(c.writing.Swap(0))
	if quotas := c.s.access.Quotas(); quotas != nil && c.session.Known() {
		r.throttle(quotas.TakeTime(auth.UserOf(c.session.Principal()), r.clientID, worked))
	}
}

// throttle makes the client wait. Of several reasons, the one counts that lasts longest.
func (r *request) throttle(wait time.Duration) {
	if wait > 0 {
		r.conn.mute(wait)
		r.wait = max(r.wait, int32(wait.Milliseconds()), 1)
	}
}

// worked counts what was done for the answer since c.watch was last asked.
func (c *conn) worked() {
	if c.watch != nil {
		c.writing.Add(int64(c.watch.Lap()))
	}
}

// working counts a write of so many bytes, of parts of this answer or of earlier
// ones, as far as it is work.
func (c *conn) working(bytes int, write func() error) error {
	if c.watch == nil {
		return write()
	}
	c.watch.Lap()
	err := write()
	c.writing.Add(int64(min(c.watch.Lap(), effort(bytes))))
	return err
}
