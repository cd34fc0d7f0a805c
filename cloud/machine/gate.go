package machine

import (
	"context"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// Gate keeps changes out of slices that move to another shard. A change is inside from
// before it is decided until its outcome is known. The zero value lets all in.
type Gate struct {
	mu     sync.Mutex
	closed weir.SliceSet      // guarded by mu
	inside map[weir.Slice]int // guarded by mu; changes
	idle   chan struct{}      // guarded by mu; closed at the next end of the last change of a slice; nil: nobody waits
}

// Closed reports whether a slice has moved, or is about to.
func (g *Gate) Closed(s weir.Slice) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed.Has(s)
}

// Enter begins a change in a slice, unless it is closed. The change ends with a call of
// leave.
func (g *Gate) Enter(s weir.Slice) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.Has(s) {
		return nil, false
	}
	if g.inside == nil {
		g.inside = make(map[weir.Slice]int)
	}
	g.inside[s]++
	return func() { g.leave(s) }, true
}

func (g *Gate) leave(s weir.Slice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[s]--; g.inside[s] > 0 {
		return
	}
	delete(g.inside, s)
	if g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Close closes slices, and returns nil when no change is inside them. Errors: ctx's; the
// slices are closed all the same.
func (g *Gate) Close(ctx context.Context, set weir.SliceSet) error {
	for {
		idle := g.close(set)
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close closes slices. If a change is inside, it returns what is closed when there is less
// inside.
func (g *Gate) close(set weir.SliceSet) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, word := range set {
		g.closed[i] |= word
	}
	for s := range g.inside {
		if !set.Has(s) {
			continue
		}
		if g.idle == nil {
			g.idle = make(chan struct{})
		}
		return g.idle
	}
	return nil
}

// Open opens slices that have not moved after all.
func (g *Gate) Open(set weir.SliceSet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, word := range set {
		g.closed[i] &^= word
	}
}
