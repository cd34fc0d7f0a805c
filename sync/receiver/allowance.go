package receiver

import (
	"context"
	"sync"
)

// allowance is a number of bytes that goroutines acquire and give back. Requests are
// served in order, so small frames do not starve a large one.
type allowance struct {
	mu    sync.Mutex
	size  int64
	free  int64
	queue []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{}
}

func newAllowance(size int64) *allowance { return &allowance{size: size, free: size} }

// acquire waits for n bytes, or for the whole allowance if n is more than that. It returns
// the number to pass to give.
func (b *allowance) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, b.size)
	b.mu.Lock()
	if len(b.queue) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return n, nil
	}
	c := &waiter{n: n, ready: make(chan struct{})}
	b.queue = append(b.queue, c)
	b.mu.Unlock()

	select {
	case <-c.ready:
		return n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	for i, q := range b.queue {
		if q == c {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			b.serve() // this one may have been first in the queue
			b.mu.Unlock()
			return 0, context.Cause(ctx)
		}
	}
	b.mu.Unlock() // it was served meanwhile
	b.give(n)
	return 0, context.Cause(ctx)
}

func (b *allowance) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.serve()
	b.mu.Unlock()
}

// serve hands out what is free. Called with mu held.
func (b *allowance) serve() {
	for len(b.queue) > 0 && b.queue[0].n <= b.free {
		b.free -= b.queue[0].n
		close(b.queue[0].ready)
		b.queue = b.queue[1:]
	}
}
