package queue

import (
	"slices"
	"sync"
)

// Window limits how many messages consumers have leased and not settled (prefetch).
// Several consumers can share one.
type Window struct {
	mu    sync.Mutex
	limit int     // guarded by mu; 0: none
	used  int     // guarded by mu
	pumps []*pump // guarded by mu: they feed its consumers, one for each consumer
}

// NewWindow returns a window for limit messages; 0 is no limit.
func NewWindow(limit int) *Window { return &Window{limit: limit} }

// Resize changes the limit. What is leased beyond it stays leased.
func (w *Window) Resize(limit int) { w.change(func() { w.limit = limit }) }

// Release gives back the places of n messages that are settled.
func (w *Window) Release(n int) { w.change(func() { w.used = max(0, w.used-n) }) }

// change makes a change, and wakes the pumps if it makes room.
func (w *Window) change(to func()) {
	w.mu.Lock()
	full := !w.open()
	to()
	var wake []*pump
	if full && w.open() {
		wake = slices.Clone(w.pumps)
	}
	w.mu.Unlock()
	for _, p := range wake {
		p.wake()
	}
}

func (w *Window) open() bool { return w.limit == 0 || w.used < w.limit }

// free returns how many messages still fit, at most most.
func (w *Window) free(most int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit == 0 {
		return most
	}
	return min(most, max(0, w.limit-w.used))
}

// take takes a place, false if there is none.
func (w *Window) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open() {
		return false
	}
	w.used++
	return true
}

func (w *Window) join(p *pump) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pumps = append(w.pumps, p)
}

func (w *Window) leave(p *pump) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.pumps, p); i >= 0 {
		w.pumps = slices.Delete(w.pumps, i, i+1)
	}
}
