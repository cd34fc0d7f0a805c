package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// ErrDoors means that doors of this node do not answer the node itself.
var ErrDoors = errors.New("its own listeners do not answer")

// Door is a listener of this node that the node itself checks.
type Door struct {
	Name string
	Ask  func(ctx context.Context) error // returns nil if the listener answers and works
}

// AskDoors asks all doors at once. It returns ErrDoors with the names of those that
// did not answer in time.
func AskDoors(ctx context.Context, limit time.Duration, doors []Door) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	errs := make([]error, len(doors))
	var wg sync.WaitGroup
	for i, d := range doors {
		wg.Go(func() {
			if err := d.Ask(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", d.Name, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrDoors, err)
	}
	return nil
}

// DoorWatch asks the doors of an owner while it leads.
type DoorWatch struct {
	Takeover time.Duration
	Doors    []Door

	// Control is asked beside each door. It does nothing but answer, so if it is late, this
	// process gets too little of the machine, which another node might not do better. nil:
	// there is none.
	Control func(ctx context.Context) error

	// May reports whether it helps if this node stops leading: another node stands by,
	// and the shard has not just moved.
	May func() bool
	Log *slog.Logger
}

// Run returns ErrDoors when a door has not answered for the takeover time and for
// several questions in a row, and May reports true. It returns nil when ctx ends.
func (w DoorWatch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := make(chan error, len(w.Doors))
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, d := range w.Doors {
		wg.Go(func() {
			if err := w.watch(ctx, d); err != nil {
				silent <- err
			}
		})
	}
	select {
	case err := <-silent:
		cancel()
		return err
	case <-ctx.Done():
		return nil
	}
}

// watch asks one door. Time in which this process did not run, or too slowly, is not held
// against the door.
func (w DoorWatch) watch(ctx context.Context, d Door) error {
	period := w.Takeover / 6
	stays := budget.NewEpisode(budget.EpisodeOptions{
		Begin: "a listener of this node does not answer the node itself, which goes on leading: no other node could do better",
		End:   "the listener answers again", Quiet: time.Hour, Log: w.Log})
	defer stays.End("listener", d.Name)
	answered, unanswered := time.Now(), 0
	for {
		began := time.Now()
		busy, err := w.ask(ctx, d, 2*period)
		asked := time.Since(began)
		if err == nil {
			stays.End("listener", d.Name)
			w.rest(ctx, period)
			answered, unanswered = time.Now(), 0
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		pause := max(period-asked, 0)
		late := max(asked-2*period, wait(ctx, pause)-pause)
		if ctx.Err() != nil {
			return nil
		}
		if late > period || busy {
			answered, unanswered = time.Now(), 0
			continue
		}
		if unanswered++; unanswered < leastUnanswered || time.Since(answered) < w.Takeover {
			continue
		}
		if w.May() {
			return fmt.Errorf("%w: %s, for %v: %w", ErrDoors, d.Name, time.Since(answered).Round(time.Millisecond), err)
		}
		stays.Note("listener", d.Name, "err", err)
	}
}

// ask asks a door. It reports whether the control was late meanwhile: later than an eighth of
// the limit. The control is not asked if the door answers before that: then it does not matter.
func (w DoorWatch) ask(ctx context.Context, d Door, limit time.Duration) (busy bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- d.Ask(ctx) }()
	late := time.NewTimer(limit / 8)
	defer late.Stop()
	select {
	case err = <-answer:
		if err == nil {
			return false, nil
		}
		return w.busy(ctx, limit/8), err
	case <-late.C:
		busy = w.busy(ctx, limit/8)
		return busy, <-answer
	}
}

// busy reports whether the control is late.
func (w DoorWatch) busy(ctx context.Context, late time.Duration) bool {
	if w.Control == nil {
		return false
	}
	began := time.Now()
	_ = w.Control(ctx) // one that fails at once says nothing about the machine
	return time.Since(began) > late
}

// rest waits until a door that answers is to be asked again. The pause is longer
// while nothing depends on the door.
func (w DoorWatch) rest(ctx context.Context, period time.Duration) {
	for range 10 {
		wait(ctx, 2*period)
		if ctx.Err() != nil || w.May() {
			return
		}
	}
}

// fitness is whether this node may lead as far as its doors are concerned. All shards
// ask it.
type fitness struct {
	m *Manager

	mu    sync.Mutex // guards what follows; held while the doors are asked
	asked time.Time  // when they were asked last
	ok    bool       // the result
	since time.Time  // when this node first could not lead; zero: it can
}

// check asks the doors, unless that was done a moment ago.
func (f *fitness) check(ctx context.Context) bool {
	o := f.m.o
	if o.Fit == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.asked) < o.Takeover/6 && !f.asked.IsZero() {
		return f.ok
	}
	err := o.Fit(ctx)
	f.asked, f.ok = time.Now(), true
	switch {
	case err == nil || ctx.Err() != nil:
		f.since = time.Time{}
	case f.since.IsZero():
		f.since, f.ok = time.Now(), false
		o.Log.Warn("this node does not lead yet: its own listeners do not answer", "err", err)
	case time.Since(f.since) >= 4*o.Takeover:
		o.Log.Warn("this node leads although its own listeners do not answer: no other node has taken the shard", "err", err)
	default:
		f.ok = false
	}
	return f.ok
}
