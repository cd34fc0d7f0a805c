package kafka

import (
	"context"
	"sync"
)

// budget is a number of bytes that requests share. Who asks first gets first, so
// that a large request is not overtaken for ever.
type budget struct {
	mu      sync.Mutex
	free    int
	waiting []*claim
}

type claim struct {
	n     int
	given chan struct{}
}

func newBudget(n int) *budget { return &budget{free: n} }

// acquire takes n bytes, and waits until they are there. It returns ctx.Err()
// without having taken any when ctx ends first.
func (b *budget) acquire(ctx context.Context, n int) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	w := &claim{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range b.waiting {
		if o == w {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.give()
			return ctx.Err()
		}
	}
	b.free += n // it was given just now
	b.give()
	return ctx.Err()
}

// release gives n bytes back.
func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.give()
}

func (b *budget) give() {
	for len(b.waiting) > 0 && b.waiting[0].n <= b.free {
		b.free -= b.waiting[0].n
		close(b.waiting[0].given)
		b.waiting = b.waiting[1:]
	}
}
