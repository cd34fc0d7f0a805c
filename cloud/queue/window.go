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
	lives []*live // guarded by mu: the queues of its consumers, one for each consumer
}

// NewWindow returns a window for limit messages; 0 is no limit.
func NewWindow(limit int) *Window { return &Window{limit: limit} }

// Resize changes the limit. What is leased beyond it stays leased.
func (w *Window) Resize(limit int) { w.change(func() { w.limit = limit }) }

// Release gives back the places of n messages that are settled.
func (w *Window) Release(n int) { w.change(func() { w.used = max(0, w.used-n) }) }

// change makes a change, and wakes the queues if it makes room.
func (w *Window) change(to func()) {
	w.mu.Lock()
	full := !w.open()
	to()
	var wake []*live
	if full && w.open() {
		wake = slices.Clone(w.lives)
	}
	w.mu.Unlock()
	for _, l := range wake {
		l.wake()
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

func (w *Window) join(l *live) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives = append(w.lives, l)
}

func (w *Window) leave(l *live) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.lives, l); i >= 0 {
		w.lives = slices.Delete(w.lives, i, i+1)
	}
}
