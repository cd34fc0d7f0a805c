package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// Receive windows of one connection. quic-go buffers unread bytes up to these; its
// default is 15 MB. They begin small, because a stranger has them too, and grow with
// what is read.
const (
	streamWindow     = 64 << 10
	maxStreamWindow  = 2 << 20
	connWindow       = 128 << 10
	maxConnWindow    = 4 << 20
	maxStreams       = 1 + weir.Lanes
	handshakeTimeout = 5 * time.Second
	idleTimeout      = 15 * time.Second // three Pings of the gateway
	minPacket        = 1200             // larger first packets fail on a 1300-byte path
)

// Serve accepts gateways on Options.Conn until Close, or until the socket fails.
// Connections leave the listener when their handshake is complete: nothing is acted on
// before, a Hello included.
func (r *Receiver) Serve() error {
	if r.o.Conn == nil || r.o.TLS == nil {
		return errors.New("receiver needs a socket and a TLS configuration")
	}
	var ln *quic.Listener
	listening := make(chan struct{}) // closed when ln is set
	var accepting sync.WaitGroup
	var a *attempts
	a = newAttempts(func() {
		accepting.Go(func() {
			<-listening
			c, err := ln.Accept(context.Background())
			a.accepted()
			if err == nil { // else the loop below sees it, too
				r.serve(c)
			}
		})
	})
	t := &quic.Transport{Conn: r.o.Conn, StatelessResetKey: (*quic.StatelessResetKey)(r.o.ResetKey),
		VerifySourceAddress: func(net.Addr) bool { return a.busy() }, ConnContext: a.begin}
	var err error
	if ln, err = t.Listen(r.o.TLS, quicConfig()); err != nil {
		return fmt.Errorf("listen for gateways: %w", err)
	}
	close(listening)
	defer accepting.Wait()
	r.mu.Lock()
	closed := r.closed
	r.listener = ln
	if !closed {
		r.serving.Add(1)
	}
	r.mu.Unlock()
	if closed {
		return errors.Join(ln.Close(), t.Close(), r.o.Conn.Close())
	}
	defer r.serving.Done()
	defer r.o.Conn.Close()
	defer t.Close()
	defer r.wg.Wait() // sessions send their Goodbye over t
	for {
		c, err := ln.Accept(context.Background())
		if err != nil {
			if r.ctx.Err() != nil || errors.Is(err, quic.ErrServerClosed) {
				return nil
			}
			r.endAll(ErrClosed)
			return fmt.Errorf("accept gateway: %w", err)
		}
		accepting.Go(func() { r.serve(c) })
	}
}

func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              minPacket,
	}
}

// serve serves a connection whose handshake is complete until it ends.
func (r *Receiver) serve(c *quic.Conn) {
	established(c.Context())
	if c.ConnectionState().TLS.NegotiatedProtocol == wire.ALPNJoin {
		r.HandleJoin(overQUIC(c, &r.joins))
	} else {
		r.Handle(overQUIC(c, &r.gateways))
	}
}

// overQUIC returns the session of a connection whose handshake is complete.
func overQUIC(c *quic.Conn, t *listener.Traffic) Session {
	peer := wire.Peer{Addr: c.RemoteAddr().String()}
	if certs := c.ConnectionState().TLS.PeerCertificates; len(certs) > 0 {
		peer.Certificate, peer.Gateway = certs[0], certs[0].Subject.CommonName
	}
	return Session{
		Peer: peer,
		AcceptStream: func(ctx context.Context) (wire.Channel, error) {
			st, err := c.AcceptStream(ctx)
			if err != nil {
				return nil, closeError(err)
			}
			return quicStream{st, t}, nil
		},
		Close: func(code wire.Code, text string) { c.CloseWithError(quic.ApplicationErrorCode(code), text) },
	}
}

type quicStream struct {
	s       *quic.Stream
	traffic *listener.Traffic
}

func (s quicStream) Read(p []byte) (int, error) {
	n, err := s.s.Read(p)
	s.traffic.Received.Add(uint64(n))
	return n, closeError(err)
}

func (s quicStream) Write(p []byte) (int, error) {
	n, err := s.s.Write(p)
	s.traffic.Sent.Add(uint64(n))
	return n, closeError(err)
}

// closeError turns the peer's application error into the matching one of package wire.
func closeError(err error) error {
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok && app.Remote {
		return &wire.CloseError{Code: wire.Code(app.ErrorCode), Text: app.ErrorMessage}
	}
	return err
}
