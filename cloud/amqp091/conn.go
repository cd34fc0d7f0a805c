package amqp091

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// conn is one connection. Two goroutines serve it:
//
//	read ── methods, in order ──▶ engine ── outcomes, deliveries ──▶ write
//
// read performs the methods of all channels. What was published and settled while it had
// more to read goes to the engine as one Work (burst.go). Other methods wait until what
// was published before is durable. write takes deliveries from the consumers as fast as
// the client reads, and writes them with all answers that wait.
type conn struct {
	s        *Server
	ctx      context.Context // ends with the connection
	cancel   context.CancelCauseFunc
	nc       net.Conn
	peer     string
	from     netip.Addr // for which the connection is counted
	listener *listener.Listener
	seat     *budget.Seat
	session  *login.Session
	id       string // of the session, for the engine
	stuck    atomic.Int64

	memory  *budget.Peer // of messages that arrive
	answers *budget.Peer // of what is written
	pending *budget.Peer // of transactions

	tunnel *Tunnel // nil: the client has connected to this node

	// Set by the handshake, not changed after it.
	client    client
	user      string // as in the property user-id
	vhost     string
	engine    *queue.Engine
	rights    *access.Vhost      // asked by read
	reading   *access.Vhost      // asked by write
	heartbeat atomic.Int64       // nanoseconds; 0: none
	remote    io.ReadWriteCloser // the tunnel to the node that has the vhost; nil: this node has it
	parted    atomic.Bool        // that node has sent connection.close or its answer

	// Owned by read.
	frames    *wire.Reader
	channels  map[uint16]*channel         // changed with mu locked
	exchanges map[string]routing.Exchange // that the client has published to
	burst     *burst
	arriving  *budget.Claim // for bodies that have not arrived whole; nil: none
	partial   int           // bytes of those
	exclusive bool          // the session may own queues
	maxOpen   int           // channels at once

	// mu is the last to be locked: while it is held, nothing of the engine is called.
	mu         sync.Mutex
	changed    *sync.Cond   // works, ordered, out, or the end of ctx
	opened     time.Time    // guarded by mu: when the client has opened its vhost; zero: it has not, or has left
	out        *wire.Writer // guarded by mu: what waits for write
	frameMax   uint32       // guarded by mu: of out
	ready      []*consumer  // guarded by mu: Take may return something
	ended      []*consumer  // guarded by mu: cancelled by the engine
	confirming []*channel   // guarded by mu: they have confirms to write
	works      int          // guarded by mu: without an outcome
	flying     []*burst     // guarded by mu: of those, the ones that publish, oldest first
	ordered    int          // guarded by mu: of those, what later methods must see
	closing    bool         // guarded by mu: connection.close was sent; only the answer counts
	last       bool         // guarded by mu: write ends when out is empty
	wake       chan struct{}
}

// client is what a client said of itself.
type client struct {
	cancelNotify bool // it understands basic.cancel
	blocked      bool // it understands connection.blocked
	authFailure  bool // it understands connection.close after a failed login
	name         string
}

// errGone means that the client has closed the connection, or has asked for that. It is
// not logged.
var errGone = errors.New("connection ended")

// newConn makes a connection that has no seat yet.
func newConn(s *Server, nc net.Conn, l *listener.Listener) *conn {
	from := budget.Address(nc.RemoteAddr())
	if l.TLS != nil {
		nc = tls.Server(nc, l.TLS)
	}
	c := &conn{
		s: s, nc: nc, listener: l, from: from, peer: nc.RemoteAddr().String(), id: s.nextSession(),
		memory: s.memory.Peer(""), answers: s.answers.Peer(""), pending: s.pending.Peer(""),
		channels: make(map[uint16]*channel), exchanges: make(map[string]routing.Exchange),
		out: s.writer(), frameMax: wire.MinFrameMax, wake: make(chan struct{}, 1),
	}
	c.changed = sync.NewCond(&c.mu)
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.session = s.o.Sessions.Open(l, s.o.Now, c.cancel)
	return c
}

// serve returns when the connection is closed and none of its goroutines runs. What was
// published before the close is still performed.
func (c *conn) serve() {
	context.AfterFunc(c.ctx, func() {
		_ = c.nc.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	err := c.greet()
	if err == nil {
		hurry := time.AfterFunc(c.s.o.LoginTime, func() { c.cancel(errSlowLogin) })
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.write(); err != nil {
				c.cancel(err)
			}
		})
		if err = c.handshake(); err == nil {
			hurry.Stop()
			c.mu.Lock()
			c.opened = c.s.o.Now()
			c.mu.Unlock()
			if c.remote != nil {
				err = c.relay()
			} else {
				err = c.read()
			}
		}
		hurry.Stop()
		c.finish(err, &wg)
	}
	c.cancel(err)
	c.close()
	c.report(context.Cause(c.ctx))
}

// finish writes what still waits to be written, if the client takes it, and ends write.
func (c *conn) finish(err error, writing *sync.WaitGroup) {
	if !errors.Is(err, errGone) && !errors.As(err, new(*wire.Error)) {
		c.cancel(err)
	}
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
	c.signal()
	writing.Wait()
}

// close gives back what the connection holds. None of its goroutines runs any more.
func (c *conn) close() {
	if c.engine != nil {
		c.leave()
	}
	if c.arriving != nil {
		c.arriving.Release()
	}
	c.memory.Close()
	c.answers.Close()
	c.pending.Close()
	c.session.Close()
}

// leaveTime is how long the end of a session may take: the log can be slow.
const leaveTime = 30 * time.Second

// leave submits what was published, returns what was delivered and not settled, and ends
// the session.
func (c *conn) leave() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), leaveTime)
	defer cancel()
	c.flush()
	for _, ch := range c.channels {
		ch.release(ctx)
	}
	c.mu.Lock()
	c.opened = time.Time{}
	clear(c.channels)
	c.mu.Unlock()
	c.flush()
	if !c.exclusive {
		return
	}
	c.exclusive = false
	if err := c.engine.EndSession(ctx, c.vhost, c.id); err != nil && !errors.Is(err, queue.ErrClosed) {
		c.warn("amqp: the exclusive queues of a connection are not deleted before this node leads again", "err", err)
	}
}

// report counts and logs why a connection has ended.
func (c *conn) report(err error) {
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		return
	}
	if _, ok := errors.AsType[*wire.Error](err); ok {
		c.s.count.errors.Inc()
		c.listener.Traffic.Errors.Add(1)
	}
	c.warn("amqp connection closed", "err", err)
}

// warn logs what a client has done, unless too much is logged about its address.
func (c *conn) warn(what string, args ...any) {
	c.s.lines.Warn(c.s.o.Log, c.from, what, append([]any{"address", c.peer}, args...)...)
}

// giveWay closes a connection whose seat another connection gets.
func (c *conn) giveWay() { c.cancel(errGone) }

// refuse closes a connection that is not served.
func (c *conn) refuse() {
	c.cancel(errGone)
	_ = c.nc.Close()
	c.close()
}

// gone maps the many errors of a closed connection to errGone.
func gone(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT} {
		if errors.Is(err, end) {
			return errGone
		}
	}
	return err
}

// send adds a method to what is written.
func (c *conn) send(channel uint16, m wire.Method) error {
	c.mu.Lock()
	err := c.out.Method(channel, m)
	c.mu.Unlock()
	c.signal()
	return err
}

// signal wakes write.
func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// await waits until done reports true; done is called with mu held.
func (c *conn) await(done func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !done() {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		c.changed.Wait()
	}
	return nil
}

// fail sends connection.close. After it only the client's answer counts. It may be called
// by any goroutine; only the first call counts.
func (c *conn) fail(e *wire.Error) {
	c.mu.Lock()
	first := !c.closing
	if first {
		c.closing = true
		_, m := e.Close(0)
		if err := c.out.Method(0, m); err != nil {
			c.cancel(err)
		}
	}
	c.mu.Unlock()
	if first {
		_ = c.nc.SetReadDeadline(time.Now().Add(closeTime)) // an error shows at the next read
		c.signal()
	}
}

// closeTime is how long a client has to answer connection.close.
const closeTime = 10 * time.Second
