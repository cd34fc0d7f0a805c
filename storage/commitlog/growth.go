package commitlog

import (
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// Growth tells a reader of many partitions which of them have changed. Watch is for those
// who read a few.
type Growth struct {
	c chan struct{} // capacity 1

	mu      sync.Mutex
	changed map[state.Place]struct{} // guarded by mu: since the last Take
}

// NewGrowth returns a Growth that no log notifies yet.
func NewGrowth() *Growth {
	return &Growth{c: make(chan struct{}, 1), changed: make(map[state.Place]struct{})}
}

// C gets an element when Take has something to return.
func (g *Growth) C() <-chan struct{} { return g.c }

// Take appends to into the partitions that have grown, or whose topic was deleted, since
// the last call, each once and in no order.
func (g *Growth) Take(into []state.Place) []state.Place {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.changed {
		into = append(into, key)
	}
	clear(g.changed)
	return into
}

// Add lets the reader know of partitions of which a log elsewhere says that they have
// changed.
func (g *Growth) Add(keys ...state.Place) {
	if len(keys) == 0 {
		return
	}
	g.mu.Lock()
	for _, key := range keys {
		g.changed[key] = struct{}{}
	}
	g.mu.Unlock()
	select {
	case g.c <- struct{}{}:
	default:
	}
}

// Notify lets g know of all partitions of this log that change from now on, until stop is
// called.
func (l *Log) Notify(g *Growth) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.growths = append(l.growths, g)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range l.growths {
			if l.growths[i] == g {
				l.growths = append(l.growths[:i:i], l.growths[i+1:]...)
				return
			}
		}
	}
}

// changed is called with mu held.
func (l *Log) changed(key state.Place) {
	for _, g := range l.growths {
		g.Add(key)
	}
}
