package receiver

import (
	"context"
	"sync"
)

// pending counts the batches of a gateway that the log has not answered yet. It
// outlives sessions: a new session gets the marks only when no batch of an older one
// can still move them. Otherwise a record that was reported as a gap could be stored as
// a record too.
type pending struct {
	mu       sync.Mutex
	n        int
	sessions int           // that may add to n
	zero     chan struct{} // closed when n is 0
}

// hold adds a session.
func (p *pending) hold() {
	p.mu.Lock()
	p.sessions++
	p.mu.Unlock()
}

// drop removes a session and reports whether p is no longer needed.
func (p *pending) drop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions--
	return p.sessions == 0 && p.n == 0
}

func (p *pending) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		p.zero = make(chan struct{})
	}
	p.n++
}

// done counts one batch as answered and reports whether p is no longer needed.
func (p *pending) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		close(p.zero)
	}
	return p.sessions == 0 && p.n == 0
}

// wait returns when the log has answered everything.
func (p *pending) wait(ctx context.Context) error {
	p.mu.Lock()
	n, zero := p.n, p.zero
	p.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-zero:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
