// Package wiretest is an in-memory link between a sender and a receiver, for
// tests that need no network and no real time: it runs inside a testing/synctest
// bubble.
package wiretest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

// ErrCut is what both ends see of a link that was cut.
var ErrCut = errors.New("link cut")

// Options shape a link. The zero value is an instant one.
type Options struct {
	Peer    wire.Peer            // the gateway, as the receiver's end reports it
	Latency func() time.Duration // from a write until it can be read; order is kept
	Buffer  int                  // bytes in transit in one direction of one stream; 0 is 64 KiB
}

// Link is one connection. Gateway is the sender's end, Node the receiver's.
type Link struct {
	Gateway *End
	Node    *End
}

// New connects two ends.
func New(o Options) *Link {
	if o.Buffer <= 0 {
		o.Buffer = 64 << 10
	}
	if o.Latency == nil {
		o.Latency = func() time.Duration { return 0 }
	}
	l := &Link{Gateway: newEnd(o), Node: newEnd(o)}
	l.Gateway.other, l.Node.other = l.Node, l.Gateway
	return l
}

// Cut breaks the link: both ends see ErrCut. If keep is set, what is in transit to the
// node still arrives before the error; else it is lost.
func (l *Link) Cut(keep bool) {
	l.Gateway.fail(ErrCut, false)
	l.Node.fail(ErrCut, keep)
}

// End is one end of a link. The Sessions of a sender and a receiver are made of it.
type End struct {
	o     Options
	other *End

	mu       sync.Mutex
	err      error // why the end is closed, nil while it is open
	closed   chan struct{}
	incoming chan *stream
	streams  []*stream // this end's
}

func newEnd(o Options) *End {
	return &End{o: o, closed: make(chan struct{}), incoming: make(chan *stream, 16)}
}

// OpenStream opens a stream; urgency is ignored.
func (e *End) OpenStream(ctx context.Context, _ int8) (wire.Channel, error) {
	up, down := newPipe(e.o), newPipe(e.o)
	mine, theirs := &stream{r: down, w: up}, &stream{r: up, w: down}
	if err := e.adopt(mine); err != nil {
		return nil, err
	}
	if err := e.other.adopt(theirs); err != nil {
		return nil, ErrCut
	}
	select {
	case e.other.incoming <- theirs:
		return mine, nil
	case <-e.closed:
		return nil, e.cause()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// adopt copies the end's failure to the stream.
func (e *End) adopt(s *stream) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.streams = append(e.streams, s)
	return nil
}

// AcceptStream waits for a stream of the other end.
func (e *End) AcceptStream(ctx context.Context) (wire.Channel, error) {
	select {
	case s := <-e.incoming:
		return s, nil
	default:
	}
	select {
	case s := <-e.incoming:
		return s, nil
	case <-e.closed:
		return nil, e.cause()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close closes both ends; the other one sees a wire.CloseError. What is in transit is
// lost.
func (e *End) Close(code wire.Code, text string) {
	e.fail(io.ErrClosedPipe, false)
	e.other.fail(&wire.CloseError{Code: code, Text: text}, false)
}

// Peer is Options.Peer.
func (e *End) Peer() wire.Peer { return e.o.Peer }

// Done is closed when the end is.
func (e *End) Done() <-chan struct{} { return e.closed }

func (e *End) cause() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// fail ends this end's streams. With keep, what is in transit to it can be read before
// the error.
func (e *End) fail(err error, keep bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return
	}
	e.err = err
	close(e.closed)
	for _, s := range e.streams {
		s.w.stopWriting(err) // what is on its way is for the other end to lose
		s.r.stopReading(err, keep)
	}
}

type stream struct{ r, w *pipe }

func (s *stream) Read(p []byte) (int, error)  { return s.r.read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.w.write(p) }

// pipe is one direction of a stream.
type pipe struct {
	o Options

	mu      sync.Mutex
	change  sync.Cond
	chunks  []chunk
	size    int
	last    time.Time // when the newest chunk arrives
	readErr error     // after the remaining bytes
	putErr  error     // of the next write
}

type chunk struct {
	at time.Time
	b  []byte
}

func newPipe(o Options) *pipe {
	p := &pipe{o: o}
	p.change.L = &p.mu
	return p
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		for p.putErr == nil && p.size >= p.o.Buffer {
			p.change.Wait()
		}
		if p.putErr != nil {
			return n, p.putErr
		}
		part := b[:min(len(b), p.o.Buffer-p.size)]
		at := time.Now().Add(p.o.Latency())
		if at.Before(p.last) {
			at = p.last
		}
		p.last = at
		p.chunks = append(p.chunks, chunk{at, append([]byte(nil), part...)})
		p.size += len(part)
		n, b = n+len(part), b[len(part):]
		p.change.Broadcast()
	}
	return n, nil
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if len(p.chunks) > 0 {
			c := &p.chunks[0]
			if d := time.Until(c.at); d > 0 {
				p.mu.Unlock()
				time.Sleep(d)
				p.mu.Lock()
				continue
			}
			n := copy(b, c.b)
			if c.b = c.b[n:]; len(c.b) == 0 {
				p.chunks = p.chunks[1:]
			}
			p.size -= n
			p.change.Broadcast()
			return n, nil
		}
		if p.readErr != nil {
			return 0, p.readErr
		}
		p.change.Wait()
	}
}

// stopWriting makes the next write fail.
func (p *pipe) stopWriting(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putErr = err
	p.change.Broadcast()
}

// stopReading ends reading: after what is in transit if keep is set, else at once.
func (p *pipe) stopReading(err error, keep bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readErr = err
	if !keep {
		p.chunks, p.size = nil, 0
	}
	p.change.Broadcast()
}
