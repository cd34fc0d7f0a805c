package receiver

import (
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
	look      = 2 * time.Second
	leastRate = 1 << 10          // bytes per second: less is standing still
	patience  = 30 * time.Second // with a frame that stands still
	shortOf   = 6 * time.Second  // the same while others wait for memory
	frameMost = 10 * time.Minute // beyond which the session's other lanes do not count
	writeMost = 30 * time.Second // with a gateway that does not read
)

var (
	errStalled = errors.New("the rest of a frame does not come")
	errNotRead = errors.New("gateway does not read what it is answered")
	errCrowded = errors.New("too many connections of this gateway have not said Hello")
)

// body reads the body that belongs to h and pays for it: a small one when it is
// complete, a large one when its beginning has arrived. Who announces a frame and
// sends nothing holds nothing; a frame that has begun to be paid for never waits
// again, so frames do not wait for each other.
func (s *session) body(st io.Reader, h wire.Header) (body []byte, memory Memory, err error) {
	w := s.watch()
	defer w.end()
	if body, err = s.fill(st, h, w, nil, min(h.Len, smallFrame)); err != nil {
		return nil, nil, err
	}
	if memory, err = w.pay(int64(max(h.Len, minCost))); err != nil {
		return nil, nil, err
	}
	if body, err = s.fill(st, h, w, body, h.Len); err != nil {
		memory.Release()
		return nil, nil, err
	}
	return body, memory, nil
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

// fill reads on until body has so many bytes. Memory is taken for what arrives.
func (s *session) fill(st io.Reader, h wire.Header, w *watch, body []byte, size int) ([]byte, error) {
	for len(body) < size {
		n := min(h.Next(len(body)), size-len(body))
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
func (w *watch) pay(n int64) (Memory, error) {
	defer w.s.r.ask()()
	w.paying.Store(true)
	defer func() {
		w.paid.Add(1)
		w.paying.Store(false)
	}()
	return w.s.share.Take(w.s.ctx, n)
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
		if short {
			w.s.r.blame(w.s.gateway)
		}
		w.s.end(fmt.Errorf("%w: %d bytes in %v", errStalled, frame, now.Sub(w.began).Round(time.Second)))
		return
	}
	w.timer.Reset(look)
}

// Pauses of a gateway that stood still while others waited for memory.
const (
	firstBlame  = 10 * time.Second
	mostBlame   = 5 * time.Minute
	forgetBlame = 2 * mostBlame // without another one
	maxBlamed   = 16 << 10
)

// blamed is what is remembered of such a gateway.
type blamed struct {
	pause time.Duration
	until time.Time
}

// blame makes a gateway wait before its next Hello counts, twice as long each
// time.
func (r *Receiver) blame(gateway string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	b := r.blamed[gateway]
	if now.Sub(b.until) > forgetBlame {
		b.pause = 0
	}
	if len(r.blamed) >= maxBlamed {
		clear(r.blamed)
	}
	b.pause = min(max(2*b.pause, firstBlame), mostBlame)
	b.until = now.Add(b.pause)
	r.blamed[gateway] = b
}

// excused returns an error while a gateway has to wait.
func (r *Receiver) excused(gateway string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blamed[gateway]
	left := time.Until(b.until)
	switch {
	case !ok:
		return nil
	case left > 0:
		return fmt.Errorf("%w: its last session stood still and held memory, the next may begin in %v", ErrBusy, left.Round(time.Second))
	case left < -forgetBlame:
		delete(r.blamed, gateway)
	}
	return nil
}

// prompt runs a write and ends the session when it takes too long: what the
// gateway does not read lies in memory here.
func (s *session) prompt(write func() error) error {
	late := time.AfterFunc(writeMost, func() { s.end(errNotRead) })
	defer late.Stop()
	return write()
}
