// Package stopwatch measures how long the server works on a request, without the time
// for which the request waits. A door makes a Stopwatch for each request to be
// measured and performs the request with a context that carries it (With). Code that
// waits marks that with Waiting.
package stopwatch

import (
	"context"
	"time"
)

// Stopwatch measures how long the server works on a request. It stops while the
// request waits. It is used by one goroutine at a time. A request that is not
// measured has a nil Stopwatch.
type Stopwatch struct {
	now    func() time.Time
	since  time.Time // when it last started; undefined while it is stopped
	worked time.Duration
	waits  int // calls of Waiting that have not ended: they may be nested
}

// New returns a running Stopwatch that uses this clock.
func New(now func() time.Time) *Stopwatch { return &Stopwatch{now: now, since: now()} }

// Lap returns the working time since the last call of Lap, or since New.
func (s *Stopwatch) Lap() time.Duration {
	if s == nil {
		return 0
	}
	s.pass()
	worked := s.worked
	s.worked = 0
	return worked
}

// pass adds the working time until now.
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

// With returns a context that carries the stopwatch.
func With(ctx context.Context, s *Stopwatch) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, stopwatchKey{}, s)
}

// Without returns a context that carries no stopwatch, for the goroutines of a request that
// has several.
func Without(ctx context.Context) context.Context {
	return context.WithValue(ctx, stopwatchKey{}, (*Stopwatch)(nil))
}

// Waiting stops the stopwatch in ctx, if there is one, until the returned function is
// called. The same goroutine must call it, usually deferred.
//
// Code that waits for anything that is not work on the request calls Waiting: for a
// write to the bucket, for other clients, for a turn.
func Waiting(ctx context.Context) (ended func()) {
	s, _ := ctx.Value(stopwatchKey{}).(*Stopwatch)
	if s == nil {
		return ignored
	}
	s.stand()
	return s.resume
}

func ignored() {}

// Bounded is for a mixture of work and waiting. Of the time until the returned
// function is called, at most the duration passed to it counts as work.
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
