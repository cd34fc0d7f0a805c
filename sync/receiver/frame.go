package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

const (
	// minCost is what a frame takes from the budgets at least: the outcome of a
	// small one takes memory too.
	minCost = 1 << 10
	// smallFrame is read before it is paid for: a small frame that is complete
	// never waits for large ones that are not.
	smallFrame = 32 << 10
	// readSize is how much is read at once, so that progress is seen.
	readSize = 64 << 10
)

// Patience with a frame that does not go on. A lane may stand still while the
// others use the link, so what counts is what the whole session brings, unless
// somebody waits for the memory.
const (
	look      = 5 * time.Second
	leastRate = 1 << 10          // bytes per second: less is standing still
	patience  = 30 * time.Second // with a frame that stands still
	shortOf   = 10 * time.Second // the same while others wait for memory
	frameMost = 10 * time.Minute // beyond which the session's other lanes do not count
	writeMost = 30 * time.Second // with a gateway that does not read
)

var (
	errStalled = errors.New("the rest of a frame does not come")
	errNotRead = errors.New("gateway does not read what it is answered")
	errCrowded = errors.New("too many connections of this gateway have not said Hello")
)

// body reads the body that belongs to h and pays for it as it arrives.
func (s *session) body(st io.Reader, h wire.Header) ([]byte, Claim, error) {
	w := s.watch()
	defer w.end()
	if h.Len <= smallFrame {
		body, err := s.fill(st, h, w, nil)
		if err != nil {
			return nil, nil, err
		}
		w.end() // what follows is not the gateway's to wait for
		claim, err := s.take(int64(max(h.Len, minCost)))
		return body, claim, err
	}
	claim := s.share.Claim(int64(h.Len))
	body, err := s.fill(st, h, w, claim)
	if err != nil {
		claim.Release()
		return nil, nil, err
	}
	claim.Arrived()
	return body, claim, nil
}

// take pays for a small frame. The claim of an error holds nothing.
func (s *session) take(n int64) (Claim, error) {
	defer s.r.ask()()
	return s.share.Take(s.ctx, n)
}

// shortAfter is how long a frame has asked for memory when it counts as waiting.
const shortAfter = 500 * time.Millisecond

// ask notes that a frame asks for memory, until what it returns is called.
func (r *Receiver) ask() (answered func()) {
	var mu sync.Mutex
	var counted, done bool
	timer := time.AfterFunc(shortAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			counted = true
			r.waiting.Add(1)
		}
	})
	return func() {
		if timer.Stop() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done = true
		if counted {
			r.waiting.Add(-1)
		}
	}
}

// fill reads piece by piece. Without a claim it pays for nothing.
func (s *session) fill(st io.Reader, h wire.Header, w *watch, claim Claim) ([]byte, error) {
	var body []byte
	for len(body) < h.Len {
		n := h.Next(len(body))
		if claim != nil {
			if err := w.pay(s.ctx, claim, int64(n)); err != nil {
				return nil, err
			}
		}
		body = append(make([]byte, 0, len(body)+n), body...)
		for len(body) < cap(body) {
			got, err := st.Read(body[len(body):min(cap(body), len(body)+readSize)])
			body = body[:len(body)+got]
			w.got.Add(int64(got))
			s.got.Add(int64(got))
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil && len(body) < cap(body) {
				return nil, err
			}
		}
	}
	return body, nil
}

// watch ends a session whose frame does not go on.
type watch struct {
	s      *session
	began  time.Time
	got    atomic.Int64 // bytes of the frame
	paying atomic.Bool  // it waits for memory here
	paid   atomic.Int64 // how often it did
	timer  *time.Timer

	mu    sync.Mutex // guards what follows
	over  bool
	moved time.Time
	// What the last look saw.
	frame, session, payments int64
}

func (s *session) watch() *watch {
	w := &watch{s: s, began: time.Now(), session: s.got.Load()}
	w.moved = w.began
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(look, w.look)
	return w
}

// end says that the frame is complete, or given up. It may be called again.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// pay waits for memory, for which the gateway is not to blame.
func (w *watch) pay(ctx context.Context, claim Claim, n int64) error {
	defer w.s.r.ask()()
	w.paying.Store(true)
	defer func() {
		w.paid.Add(1)
		w.paying.Store(false)
	}()
	return claim.Grow(ctx, n)
}

// look is called every few seconds while the frame is not complete.
func (w *watch) look() {
	const least = leastRate * int64(look/time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	now := time.Now()
	frame, session, paid := w.got.Load(), w.s.got.Load(), w.paid.Load()
	short := w.s.r.waiting.Load() > 0
	others := !short && now.Sub(w.began) < frameMost && session-w.session >= least
	if frame-w.frame >= least || others || w.paying.Load() || paid != w.payments {
		w.moved = now
	}
	w.frame, w.session, w.payments = frame, session, paid
	most := patience
	if short {
		most = shortOf
	}
	if now.Sub(w.moved) >= most {
		w.s.end(fmt.Errorf("%w: %d bytes in %v", errStalled, frame, now.Sub(w.began).Round(time.Second)))
		return
	}
	w.timer.Reset(look)
}

// prompt runs a write and ends the session when it takes too long: what the
// gateway does not read lies in memory here.
func (s *session) prompt(write func() error) error {
	late := time.AfterFunc(writeMost, func() { s.end(errNotRead) })
	defer late.Stop()
	return write()
}
