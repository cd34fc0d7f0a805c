package budget

import (
	"cmp"
	"log/slog"
	"sync"
	"time"
)

// EpisodeOptions configure an Episode. Begin and End are required.
type EpisodeOptions struct {
	Begin string        // message of the line when a trouble begins, a warning
	End   string        // message of the line when it is over
	Quiet time.Duration // without an event, after which it is over; default: 30 s
	Log   *slog.Logger  // default: slog.Default
}

// Episode makes two log lines of a trouble, however often it is noted: one at the
// first event, with what the caller says of it, and one when no event has come for a
// while, with how long it lasted and how many events there were. The zero value
// cannot be used. An Episode may be used by many goroutines.
type Episode struct {
	o EpisodeOptions

	mu     sync.Mutex // guards what follows
	count  int        // 0: no trouble
	began  time.Time
	latest time.Time
	timer  *time.Timer
}

// NewEpisode returns an Episode in which nothing has happened.
func NewEpisode(o EpisodeOptions) *Episode {
	o.Quiet = cmp.Or(o.Quiet, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Episode{o: o}
}

// Note counts an event. The first of an episode is logged with args.
func (e *Episode) Note(args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.latest = time.Now()
	if e.count++; e.count > 1 {
		return
	}
	e.began = e.latest
	e.timer = time.AfterFunc(e.o.Quiet, e.look)
	e.o.Log.Warn(e.o.Begin, args...)
}

// look ends the episode if it was quiet for long enough.
func (e *Episode) look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count == 0 {
		return
	}
	if left := e.o.Quiet - time.Since(e.latest); left > 0 {
		e.timer.Reset(left)
		return
	}
	e.end(e.latest)
}

// End says that the trouble is over, for callers that know. Without an episode it
// does nothing.
func (e *Episode) End(args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count > 0 {
		e.end(time.Now(), args...)
	}
}

func (e *Episode) end(at time.Time, args ...any) {
	e.timer.Stop()
	args = append([]any{"lasted", at.Sub(e.began).Round(time.Millisecond), "count", e.count}, args...)
	e.o.Log.Info(e.o.End, args...)
	e.count = 0
}

// Running reports whether an episode has begun and is not over.
func (e *Episode) Running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count > 0
}
