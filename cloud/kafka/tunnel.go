package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
)

// A client of a listener with route=here has one node for everything, which passes its
// requests on to the owners (relay.go). At an owner they arrive through a tunnel, which is
// a connection like any other: for the client, who has logged in at its own node, with the
// same order, permissions, quotas and budgets. On a tunnel there is one more message, in
// place of the length of a request: hasten.

// Tunnel describes a connection whose client is at another node.
type Tunnel struct {
	Principal string `json:"principal"`
	From      string `json:"from"`     // the client's address
	Listener  string `json:"listener"` // the name of the listener that it uses
	Host      string `json:"host"`     // of the address that the client has of its node
	Port      int32  `json:"port"`
}

// hasten takes the place of a request's length: the request whose correlation id follows,
// which waits for records, is answered now.
const hasten = -1

// Errors of ServeTunnel.
var (
	errTunnel  = errors.New("malformed tunnel")
	errTunnels = errors.New("too many tunnels")
	errClosed  = errors.New("door is closed")
)

// ServeTunnel serves a connection whose client is at another node, which has opened the
// stream. It returns when the connection has ended and the stream is closed. An error comes
// before anything was read.
func (s *Server) ServeTunnel(t Tunnel, stream io.ReadWriteCloser) error {
	if t.Principal == "" {
		return fmt.Errorf("%w: without a principal", errTunnel)
	}
	c := newTunnelled(s, t, stream)
	s.mu.Lock()
	err := error(nil)
	switch {
	case s.ctx.Err() != nil:
		err = errClosed
	case s.tunnels >= s.o.MaxTunnels:
		err = fmt.Errorf("%w: there are %d", errTunnels, s.tunnels)
	default:
		s.tunnels++
		s.wg.Add(1)
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if err != nil {
		c.refuse()
		return err
	}
	defer s.wg.Done()
	c.serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tunnels--
	delete(s.conns, c)
	return nil
}

// newTunnelled makes the connection at the owner.
func newTunnelled(s *Server, t Tunnel, stream io.ReadWriteCloser) *conn {
	c := s.connect(tunnelEnd{stream, t.From}, &listener.Listener{Name: t.Listener, Traffic: s.tunnelled})
	c.tunnel, c.here = true, &node{id: hereID, host: t.Host, port: t.Port}
	c.memory.Store(s.relayed.Peer("")) // not of s.memory: two nodes whose clients hold all of that would wait for each other
	c.session = login.Of(t.Principal)
	return c
}

// tunnelEnd is the stream of a tunnel as a connection. It has no deadlines: the client's
// node reads what it has asked for, and ends the tunnel when the client has gone.
type tunnelEnd struct {
	io.ReadWriteCloser
	from string // Tunnel.From
}

// Read returns no error of the stream itself: to the connection it is a client that is
// gone.
func (e tunnelEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (e tunnelEnd) Write(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Write(p)
	if err != nil {
		err = io.ErrClosedPipe
	}
	return n, err
}

func (e tunnelEnd) LocalAddr() net.Addr              { return tunnelAddress(e.from) }
func (e tunnelEnd) RemoteAddr() net.Addr             { return tunnelAddress(e.from) }
func (e tunnelEnd) SetDeadline(time.Time) error      { return nil }
func (e tunnelEnd) SetReadDeadline(time.Time) error  { return nil }
func (e tunnelEnd) SetWriteDeadline(time.Time) error { return nil }

// tunnelAddress is an address of a client at another node.
type tunnelAddress string

func (a tunnelAddress) Network() string { return "tunnel" }
func (a tunnelAddress) String() string  { return string(a) }

// polling is the long poll of a tunnelled connection. Its requests can be hastened from
// the goroutine that reads.
type polling struct {
	mu       sync.Mutex
	timer    *time.Timer // of the poll under way; nil: there is none; guarded by mu
	of       int32       // its correlation id; guarded by mu
	hastened int32       // the last request that was hastened; guarded by mu
}

// begin gives a poll its timer, and ends that when it is hastened.
func (p *polling) begin(of int32, timer *time.Timer) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer, p.of = timer, of
	if p.hastened == of {
		timer.Reset(0)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.timer = nil
	}
}

func (p *polling) hasten(of int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hastened = of
	if p.timer != nil && p.of == of {
		p.timer.Reset(0)
	}
}

// hastened reads the rest of a message that hastens a request.
func (c *conn) hastened() error {
	p, err := c.peek(4)
	if err != nil {
		return err
	}
	c.poll.hasten(int32(binary.BigEndian.Uint32(p)))
	_, err = c.br.Discard(4)
	return err
}

// waitTimer returns the timer of a request that waits for records.
func (r *request) waitTimer(ms int32) (timer *time.Timer, stop func()) {
	timer = time.NewTimer(min(milliseconds(ms), maxPoll))
	if !r.conn.tunnel {
		return timer, func() { timer.Stop() }
	}
	end := r.conn.poll.begin(r.correlation, timer)
	return timer, func() { end(); timer.Stop() }
}

// loopback opens a tunnel to this node itself.
func (s *Server) loopback(_ context.Context, t Tunnel) (io.ReadWriteCloser, error) {
	near, far := net.Pipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	s.wg.Go(func() {
		if err := s.ServeTunnel(t, far); err != nil {
			_ = far.Close() // the other end sees that
		}
	})
	return near, nil
}
