package receiver

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

const (
	// minCost is the least that a frame takes from the budgets: the outcome of a small
	// frame takes memory too.
	minCost = 1 << 10
	// smallFrame is the size up to which a frame is read before memory is taken for it.
	// So a complete small frame never waits for incomplete large ones.
	smallFrame = 32 << 10
	// readSize is how much is read at once, so that progress is noticed.
	readSize = 64 << 10
)

// Time limits for a frame that makes no progress. A lane may stand still while the
// others use the link, so the bytes of the whole session count, unless others wait for
// the memory.
const (
	look      = 2 * time.Second
	leastRate = 1 << 10          // bytes per second: less counts as no progress
	patience  = 30 * time.Second // with a frame that makes no progress
	shortOf   = 6 * time.Second  // the same, while others wait for memory
	frameMost = 10 * time.Minute // after it, bytes of the session's other lanes do not count
	writeMost = 30 * time.Second // with a gateway that does not read
)

var (
	errStalled = errors.New("frame stopped arriving")
	errNotRead = errors.New("gateway does not read its answers")
	errCrowded = errors.New("too many connections of this gateway have not said Hello")
)

// body reads the body that belongs to h and takes memory for it: for a small one when
// it is complete, for a large one when its beginning has arrived. A peer that announces
// a frame and sends nothing holds no memory. Once a frame has some memory it never
// waits for more, so frames do not wait for each other.
func (s *session) body(st io.Reader, h wire.Header) (body []byte, memory *budget.Claim, err error) {
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

// shortAfter is how long a frame must have waited for memory to count as waiting.
const shortAfter = 500 * time.Millisecond

// ask notes that a frame asks for memory, until answered is called.
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

// fill reads until body has that many bytes. Memory is taken for what arrives.
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

// watch ends a session whose frame makes no progress.
type watch struct {
	s      *session
	began  time.Time
	got    atomic.Int64 // bytes of the frame
	paying atomic.Bool  // the frame waits for memory here
	paid   atomic.Int64 // how often it waited
	timer  *time.Timer

	mu    sync.Mutex // guards what follows
	over  bool
	moved time.Time
	// Values at the last call of look.
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

// end says that the frame is complete or given up. It may be called more than once.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// pay waits for memory. The gateway is not to blame for this time.
func (w *watch) pay(n int64) (*budget.Claim, error) {
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

// Pauses of a gateway whose frame stood still while others waited for memory.
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

// excused returns an error while a gateway must still wait.
func (r *Receiver) excused(gateway string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blamed[gateway]
	left := time.Until(b.until)
	switch {
	case !ok:
		return nil
	case left > 0:
		return fmt.Errorf("%w: its last session stopped arriving and held memory: wait %v before the next", uplink.ErrBusy, left.Round(time.Second))
	case left < -forgetBlame:
		delete(r.blamed, gateway)
	}
	return nil
}

// prompt runs a write and ends the session if it takes too long: what the gateway does
// not read takes memory here.
func (s *session) prompt(write func() error) error {
	late := time.AfterFunc(writeMost, func() { s.end(errNotRead) })
	defer late.Stop()
	return write()
}
