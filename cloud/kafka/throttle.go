package kafka

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// A client that exceeds its limits is told so in the answer, and nothing more is read
// from its connection for that long. Other clients do not notice.
//
// Limits on time count the work on a request, from the start of its decoding until
// its answer is ready, without what is marked as stopwatch.Waiting. The encoding and
// writing of the answer come too late for that; they count for the next request of
// the connection.
//
// Nothing counts before the client has logged in: all unknown clients would share one
// limit, and one of them could keep the others out by using it up.

// effort returns the most work that reading or writing so many bytes can be. Any
// longer time is a wait: for the bucket, or for the client to take what was written
// before.
func effort(bytes int) time.Duration {
	return 100*time.Microsecond + time.Duration(bytes)*4*time.Nanosecond
}

// countBytes counts bytes that a request has written or will read.
func (r *request) countBytes(d quota.Direction, bytes int) {
	if quotas := r.conn.s.access.Quotas(); quotas != nil && bytes > 0 {
		r.throttle(quotas.Take(d, auth.UserOf(r.conn.session.Principal()), r.clientID, bytes))
	}
}

// start begins to measure the work on a request, if it may count, and returns the
// context for performing the request.
func (r *request) start(ctx context.Context) context.Context {
	if quotas := r.conn.s.access.Quotas(); quotas != nil {
		r.watch = quotas.Stopwatch()
	}
	return stopwatch.With(ctx, r.watch)
}

// countTime counts the work on a request whose answer is ready, and the writing of
// answers since the previous request.
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

// throttle makes the client wait. If it is called several times, the longest wait
// counts.
func (r *request) throttle(wait time.Duration) {
	if wait > 0 {
		r.conn.mute(wait)
		r.wait = max(r.wait, int32(wait.Milliseconds()), 1)
	}
}

// worked counts the work on the answer since the last lap of c.watch.
func (c *conn) worked() {
	if c.watch != nil {
		c.writing.Add(int64(c.watch.Lap()))
	}
}

// working performs a write of so many bytes, of this answer or of earlier ones, and
// counts the part of its time that is work.
func (c *conn) working(bytes int, write func() error) error {
	if c.watch == nil {
		return write()
	}
	c.watch.Lap()
	err := write()
	c.writing.Add(int64(min(c.watch.Lap(), effort(bytes))))
	return err
}
