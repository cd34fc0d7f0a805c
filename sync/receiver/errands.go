package receiver

import (
	"context"
	"sync"
)

// maxErrands is how many requests of a kind may wait. Beyond it the control stream waits
// with them.
const maxErrands = 1000

// errands are requests of the control stream that may have to wait for a shard, or for the
// owner of the catalogue. They are answered one after the other, beside the reading of the
// stream: a gateway's Pings are answered meanwhile.
type errands struct {
	mu      sync.Mutex     // guards what follows
	waiting []func() error // each answers a request; its error ends the session
	running bool
	room    chan struct{} // closed when there is room; nil: nobody waits for it
}

// put adds a request of s. It waits while there are too many.
func (e *errands) put(s *session, answer func() error) error {
	for {
		e.mu.Lock()
		if len(e.waiting) < maxErrands {
			e.waiting = append(e.waiting, answer)
			if !e.running {
				e.running = true
				s.wg.Go(func() { e.run(s) })
			}
			e.mu.Unlock()
			return nil
		}
		if e.room == nil {
			e.room = make(chan struct{})
		}
		room := e.room
		e.mu.Unlock()
		select {
		case <-room:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// run answers requests until none is left or the session ends.
func (e *errands) run(s *session) {
	for {
		e.mu.Lock()
		if len(e.waiting) == 0 || s.ctx.Err() != nil {
			e.waiting, e.running = nil, false
			e.mu.Unlock()
			return
		}
		answer := e.waiting[0]
		e.waiting = e.waiting[1:]
		if e.room != nil {
			close(e.room)
			e.room = nil
		}
		e.mu.Unlock()
		if err := answer(); err != nil {
			s.fail(err)
			return
		}
	}
}
