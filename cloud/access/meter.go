package access

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// Limits on time count the work on a request, from the start of its decoding until
// its answer is ready, without what is marked as stopwatch.Waiting. The encoding and
// writing of the answer come too late for that; they count for the next request of
// the connection.
//
// No time counts before the client has logged in: all unknown clients would share one
// limit, and one of them could keep the others out by using it up.

// Effort returns the most work that reading or writing so many bytes can be. Any
// longer time is a wait: for the bucket, or for the client to take what was written
// before.
func Effort(bytes int) time.Duration {
	return 100*time.Microsecond + time.Duration(bytes)*4*time.Nanosecond
}

// Meter measures the work on the answers of one connection. The zero value has measured
// nothing. All methods but Access.CountTime are for the goroutine that writes.
type Meter struct {
	watch   *stopwatch.Stopwatch // of the last answer, nil if its time does not count
	writing atomic.Int64         // nanoseconds of work that no request was charged for yet
}

// CountBytes counts bytes that a request has written or will read. It returns for how
// long its client must wait. client is the name that the client gives itself.
func (a *Access) CountBytes(s *login.Session, client string, d quota.Direction, bytes int) time.Duration {
	quotas := a.Quotas()
	if quotas == nil || bytes <= 0 {
		return 0
	}
	return quotas.Take(d, auth.UserOf(s.Principal()), client, bytes)
}

// Watch begins to measure the work on a request, if it may count. It returns the
// context for performing the request, and the stopwatch, which is nil if its time does
// not count.
func (a *Access) Watch(ctx context.Context) (context.Context, *stopwatch.Stopwatch) {
	quotas := a.Quotas()
	if quotas == nil {
		return ctx, nil
	}
	watch := quotas.Stopwatch()
	return stopwatch.With(ctx, watch), watch
}

// CountTime counts the work on a request whose answer is ready, and the writing of
// answers since the previous request. It returns for how long the client must wait.
func (a *Access) CountTime(s *login.Session, client string, m *Meter, watch *stopwatch.Stopwatch) time.Duration {
	if watch == nil {
		return 0
	}
	worked := watch.Lap() + time.Duration(m.writing.Swap(0))
	if quotas := a.Quotas(); quotas != nil && s.Known() {
		return quotas.TakeTime(auth.UserOf(s.Principal()), client, worked)
	}
	return 0
}

// Answer begins to measure the work on an answer with the stopwatch of its request. The
// time until now was spent waiting for the answer.
func (m *Meter) Answer(watch *stopwatch.Stopwatch) {
	m.watch = watch
	m.watch.Lap()
}

// Worked counts the work on the answer since the last call of a method.
func (m *Meter) Worked() {
	if m.watch != nil {
		m.writing.Add(int64(m.watch.Lap()))
	}
}

// Write performs a write of so many bytes, of this answer or of earlier ones, and
// counts the part of its time that is work.
func (m *Meter) Write(bytes int, write func() error) error {
	if m.watch == nil {
		return write()
	}
	m.watch.Lap()
	err := write()
	m.writing.Add(int64(min(m.watch.Lap(), Effort(bytes))))
	return err
}
