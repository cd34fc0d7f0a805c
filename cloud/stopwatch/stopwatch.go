// Package stopwatch measures for how long the server works on a request: not while the
// request waits. A door makes a Stopwatch for a request whose time counts, performs the
// request with a context that has it (With), and whatever waits below says so (Waiting).
package stopwatch

import (
	"context"
	"time"
)

// Stopwatch measures for how long the server works on a request. It stands while
// the request waits, and is used by one goroutine at a time. That of a request that
// nobody measures is nil.
type Stopwatch struct {
	now    func() time.Time
	since  time.Time // when it began to run; of no meaning while it stands
	worked time.Duration
	waits  int // Waitings that have not ended: they may lie within each other
}

// New returns one that runs, by this clock.
func New(now func() time.Time) *Stopwatch { return &Stopwatch{now: now, since: now()} }

// Lap returns what was worked since the last call, or since the start, and begins
// anew.
func (s *Stopwatch) Lap() time.Duration {
	if s == nil {
		return 0
	}
	s.pass()
	worked := s.worked
	s.worked = 0
	return worked
}

// pass counts what was worked until now.
func (s *Stopwatch) pass() {
	now := s.now()
	if s.waits == 0 {
		s.worked += max(now.Sub(s.since), 0)
	}
	s.since = now
}

func (s *Stopwatch) stand() {
	s.pass()
	s.waits++
}

func (s *Stopwatch) resume() {
	s.pass()
	s.waits--
}

type stopwatchKey struct{}

// With returns a context by which Waiting finds the stopwatch.
func With(ctx context.Context, s *Stopwatch) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, stopwatchKey{}, s)
}

// Waiting stops the stopwatch of the request that ctx is of, if there is one, until
// the function that it returns is called: by the same goroutine, usually deferred.
//
// Whatever waits for something that is no work on the request says so: for the
// bucket to take a write, for other clients, for a turn.
func Waiting(ctx context.Context) (ended func()) {
	s, _ := ctx.Value(stopwatchKey{}).(*Stopwatch)
	if s == nil {
		return ignored
	}
	s.stand()
	return s.resume
}

func ignored() {}

// Bounded is for what is work and waiting in one: of the time until the function that
// it returns is called, no more counts than what that is given.
func Bounded(ctx context.Context) (ended func(most time.Duration)) {
	s, _ := ctx.Value(stopwatchKey{}).(*Stopwatch)
	if s == nil {
		return ignoredMost
	}
	s.pass()
	before := s.worked
	return func(most time.Duration) {
		s.pass()
		s.worked = min(s.worked, before+most)
	}
}

func ignoredMost(time.Duration) {}
