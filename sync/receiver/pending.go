package receiver

import (
	"context"
	"sync"
)

// pending counts what a gateway's sessions have handed to the log and the log
// has not answered. It outlives them: a new session is told the marks only when
// nothing that an older one handed over can still move them. Else a record that
// is on its way as a gap could be taken as a record too.
type pending struct {
	mu       sync.Mutex
	n        int
	sessions int           // that may add to it
	zero     chan struct{} // closed when n is 0
}

// hold adds a session.
func (p *pending) hold() {
	p.mu.Lock()
	p.sessions++
	p.mu.Unlock()
}

// drop takes a session away and reports whether nobody needs p any more.
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

// done takes one away and reports whether nobody needs p any more.
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
