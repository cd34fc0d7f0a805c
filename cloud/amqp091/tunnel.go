package amqp091

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// Tunnel describes a connection whose client has logged in at one node while another node
// has its vhost. The first node, the client's, passes every frame on to the second, the
// vhost's, and every frame of that back. It answers heartbeats and new secrets itself.
type Tunnel struct {
	Vhost     string `json:"vhost"`
	User      string `json:"user"` // as in the property user-id
	Principal string `json:"principal"`
	Guest     bool   `json:"guest,omitempty"`     // see login.Session
	Anonymous bool   `json:"anonymous,omitempty"` // likewise
	From      string `json:"from"`                // the client's address
	To        string `json:"to"`                  // that at which the client reaches its node
	TLS       bool   `json:"tls,omitempty"`       // the client uses it
	Name      string `json:"name,omitempty"`      // connection_name of the client's properties

	CancelNotify bool `json:"cancel_notify,omitempty"` // the client understands basic.cancel
	Blocked      bool `json:"blocked,omitempty"`       // the client understands connection.blocked

	FrameMax   uint32 `json:"frame_max"`   // as tuned, in bytes
	ChannelMax int    `json:"channel_max"` // as tuned
}

// Errors of ServeTunnel.
var (
	ErrNoVhost = errors.New("this node does not have the vhost")
	errTunnel  = errors.New("malformed tunnel")
	errFull    = errors.New("too many connections")
)

// openTunnel makes this node the client's: another node has the vhost.
func (c *conn) openTunnel(vhost string) error {
	if c.s.o.Remote == nil {
		return c.forced(fmt.Sprintf("vhost '%s' is not on this node", vhost))
	}
	c.mu.Lock()
	frameMax := c.frameMax
	c.mu.Unlock()
	remote, err := c.s.o.Remote(c.ctx, Tunnel{Vhost: vhost, User: c.user, Principal: c.session.Principal(), Guest: c.session.Guest(), Anonymous: c.session.Anonymous(),
		From: c.peer, To: c.nc.LocalAddr().String(), TLS: c.listener.TLS != nil, Name: c.client.name, CancelNotify: c.client.cancelNotify, Blocked: c.client.blocked, FrameMax: frameMax, ChannelMax: c.maxOpen})
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if err != nil {
		return c.forced(fmt.Sprintf("vhost '%s' is not on this node, and the node that has it cannot be reached", vhost))
	}
	c.vhost, c.remote = vhost, remote
	return nil
}

// relay passes on what the client sends until one of the two nodes or the client closes
// the connection. It returns errGone if the client has, or the vhost's node in good order.
func (c *conn) relay() error {
	var following sync.WaitGroup
	following.Go(c.follow)
	defer following.Wait()
	defer c.remote.Close()
	out := c.s.writer()
	for {
		if n := out.Len(); n > 0 && !c.frames.Buffered() || n >= writeBytes {
			if _, err := out.WriteTo(c.remote); err != nil {
				c.abandon()
			}
			out.Trim()
		}
		if err := c.heed(); err != nil {
			return err
		}
		f, err := c.frames.Next()
		if err != nil {
			return c.refuseFrame(err)
		}
		c.listener.Traffic.Received.Add(uint64(len(f.Payload) + wire.FrameOverhead))
		pass, err := c.intercept(f)
		if e, ok := errors.AsType[*wire.Error](err); ok {
			return c.hangUp(e)
		}
		if err != nil {
			return err
		}
		if pass {
			out.Frame(f)
		}
	}
}

// intercept performs what concerns the client's node. It reports whether the frame is for
// the vhost's.
func (c *conn) intercept(f wire.Frame) (pass bool, err error) {
	switch {
	case c.isClosing():
		return false, c.farewell(f)
	case f.Type == wire.FrameHeartbeat:
		return false, nil
	case f.Channel != 0:
		if c.session.Expired() {
			return false, &wire.Error{Code: wire.ConnectionForced, Text: "the login has expired"}
		}
	case f.Type == wire.FrameMethod:
		switch id, _ := wire.SplitMethod(f.Payload); {
		case id == wire.IDConnectionUpdateSecret:
			return false, c.control(f)
		case id == wire.IDConnectionCloseOk && c.parted.Load():
			return false, errGone // the vhost's node sees the stream end
		}
	}
	return true, nil
}

// follow writes to the client what the vhost's node sends. When that ends without a
// connection.close or its answer, the client is told to connect again.
func (c *conn) follow() {
	in := wire.NewReader(c.remote)
	c.mu.Lock()
	in.SetFrameMax(c.frameMax)
	c.mu.Unlock()
	for {
		f, err := in.Next()
		if err != nil {
			c.abandon()
			return
		}
		id := wire.MethodID(0)
		if f.Channel == 0 && f.Type == wire.FrameMethod {
			id, _ = wire.SplitMethod(f.Payload)
		}
		c.mu.Lock()
		for c.out.Len() > maxUnwritten && c.ctx.Err() == nil {
			c.changed.Wait()
		}
		if !c.closing {
			c.out.Frame(f)
		}
		c.mu.Unlock()
		c.signal()
		switch id {
		case wire.IDConnectionClose: // the client answers
			c.part(closeTime)
		case wire.IDConnectionCloseOk:
			c.part(0)
			return
		}
	}
}

// part ends relay when the client has answered, or after that time.
func (c *conn) part(within time.Duration) {
	c.parted.Store(true)
	_ = c.nc.SetReadDeadline(time.Now().Add(within)) // an error shows at the next read
}

// abandon closes the connection of a client whose vhost's node is gone.
func (c *conn) abandon() {
	if !c.parted.Load() {
		c.fail(&wire.Error{Code: wire.ConnectionForced, Text: fmt.Sprintf("the node that has vhost '%s' is gone", c.vhost)})
	}
}

// heed sets how long the client may be silent.
func (c *conn) heed() error {
	h := time.Duration(c.heartbeat.Load())
	if h == 0 || c.isClosing() || c.parted.Load() {
		return nil
	}
	err := c.nc.SetReadDeadline(time.Now().Add(2*h + heartbeatGrace))
	if c.parted.Load() { // meanwhile
		c.part(0)
	}
	return gone(err)
}

// ServeTunnel serves a connection whose client has logged in at another node, which has
// opened the stream. It returns when the connection has ended and the stream is closed.
// Errors, which come before anything was read: ErrNoVhost, and others that mean that the
// tunnel cannot be served.
func (s *Server) ServeTunnel(t Tunnel, stream io.ReadWriteCloser) error {
	if t.FrameMax < wire.MinFrameMax || t.FrameMax > maxFrame || t.ChannelMax < 1 || t.ChannelMax > maxChannels || t.Principal == "" {
		return fmt.Errorf("%w: frames of %d bytes, %d channels, principal %q", errTunnel, t.FrameMax, t.ChannelMax, t.Principal)
	}
	if _, err := s.o.Queues(t.Vhost); err != nil {
		return fmt.Errorf("%w: %w", ErrNoVhost, err)
	}
	c := newTunnelled(s, t, stream)
	s.mu.Lock()
	if s.closed || s.tunnels >= s.o.MaxConns {
		s.mu.Unlock()
		c.refuse()
		return errFull
	}
	s.tunnels++
	s.serving.Add(1)
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	c.serve()
	s.mu.Lock()
	s.tunnels--
	delete(s.conns, c)
	s.mu.Unlock()
	s.serving.Done()
	return nil
}

// newTunnelled makes the connection at the vhost's node.
func newTunnelled(s *Server, t Tunnel, stream io.ReadWriteCloser) *conn {
	c := &conn{
		s: s, nc: &tunnelEnd{ReadWriteCloser: stream, to: t.To}, listener: s.tunnelled, peer: t.From, id: s.nextSession(), tunnel: &t,
		memory: s.memory.Peer(""), answers: s.answers.Peer(""), pending: s.pending.Peer(""),
		channels: make(map[uint16]*channel), exchanges: make(map[string]routing.Exchange),
		out: s.writer(), frameMax: t.FrameMax, wake: make(chan struct{}, 1),
		client: client{cancelNotify: t.CancelNotify, blocked: t.Blocked, name: t.Name}, user: t.User, maxOpen: t.ChannelMax,
	}
	c.from = budget.Address(tunnelAddress(t.From))
	c.changed = sync.NewCond(&c.mu)
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.session = login.Elsewhere(t.Principal, t.Guest, t.Anonymous)
	c.out.SetFrameMax(t.FrameMax)
	return c
}

// enter is the handshake of a connection that another node has made ready.
func (c *conn) enter() error {
	c.frames = wire.NewReader(c.nc)
	c.frames.SetFrameMax(c.tunnel.FrameMax)
	return c.enterVhost(c.tunnel.Vhost)
}

// tunnelEnd is the stream of a tunnel as the connection of the vhost's node. It has no
// write deadline: the client's node watches whether the client reads.
type tunnelEnd struct {
	io.ReadWriteCloser
	to string // Tunnel.To

	mu     sync.Mutex
	late   *time.Timer // of the read deadline; guarded by mu
	closed bool        // guarded by mu
}

// Read returns no error of the stream itself: to the connection it is a client that is
// gone.
func (e *tunnelEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (e *tunnelEnd) Write(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Write(p)
	if err != nil {
		err = io.ErrClosedPipe
	}
	return n, err
}

func (e *tunnelEnd) LocalAddr() net.Addr            { return tunnelAddress(e.to) }
func (e *tunnelEnd) RemoteAddr() net.Addr           { return tunnelAddress("") } // conn.peer has the client's
func (e *tunnelEnd) SetDeadline(t time.Time) error  { return e.SetReadDeadline(t) }
func (*tunnelEnd) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline closes the stream at that time: it is set when nothing but the client's
// farewell may come.
func (e *tunnelEnd) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.late != nil {
		e.late.Stop()
	}
	if !e.closed && !t.IsZero() {
		e.late = time.AfterFunc(time.Until(t), func() { _ = e.Close() })
	}
	return nil
}

func (e *tunnelEnd) Close() error {
	e.mu.Lock()
	e.closed = true
	if e.late != nil {
		e.late.Stop()
	}
	e.mu.Unlock()
	return e.ReadWriteCloser.Close()
}

// tunnelAddress is an address as text.
type tunnelAddress string

func (tunnelAddress) Network() string  { return "tcp" }
func (a tunnelAddress) String() string { return string(a) }

// tunnelListener stands for the other nodes, at which clients of tunnels have logged in.
func tunnelListener() *listener.Listener {
	return &listener.Listener{Name: "peer", Traffic: new(listener.Traffic)}
}
