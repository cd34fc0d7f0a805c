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
	Quiet time.Duration // an episode is over after this long without an event; default: 30 s
	Log   *slog.Logger  // default: slog.Default
}

// Episode reduces a trouble that occurs many times to two log lines. The first event
// logs a line with the arguments of Note. The second line follows when no event has
// come for Quiet: it says how long the trouble lasted and how many events there were.
// Use NewEpisode to make one. An Episode may be used by many goroutines.
type Episode struct {
	o EpisodeOptions

	mu     sync.Mutex // guards what follows
	count  int        // 0: no trouble
	began  time.Time
	latest time.Time
	timer  *time.Timer
}

// NewEpisode returns an Episode without events.
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

// look ends the episode if no event has come for Quiet.
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

// End ends the episode at once, for callers that know that the trouble is over.
// Without an episode it does nothing.
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
