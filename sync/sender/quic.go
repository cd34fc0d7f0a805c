package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/weirmq/weir/sync/wire"
)

const (
	// handshakeTimeout is short: redialling finds a link that is up again within 0.3 s,
	// while a handshake under way waits for its own retransmission.
	handshakeTimeout = 2500 * time.Millisecond
	idleTimeout      = 3 * pingInterval
	receiveWindow    = 128 << 10 // a cloud sends Acks, nothing large
	minPacket        = 1200      // larger first packets fail on a 1300-byte path
)

// DialTLS dials with a fixed TLS configuration.
func DialTLS(conf *tls.Config) Dial {
	return func(ctx context.Context, addr string) (Session, error) { return dialQUIC(ctx, addr, conf) }
}

// dialQUIC uses a socket of its own for each connection, bound to the wildcard address.
// So the connection survives a change of the local address, and an interface that goes
// down affects only this connection.
func dialQUIC(ctx context.Context, addr string, conf *tls.Config) (Session, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return Session{}, fmt.Errorf("resolve %s: %w", addr, err)
	}
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return Session{}, fmt.Errorf("open socket: %w", err)
	}
	t := &quic.Transport{Conn: socket}
	c, err := t.Dial(ctx, to, conf, &quic.Config{
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		InitialStreamReceiveWindow:     receiveWindow,
		MaxStreamReceiveWindow:         receiveWindow,
		InitialConnectionReceiveWindow: receiveWindow,
		MaxConnectionReceiveWindow:     receiveWindow,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              minPacket,
	})
	if err != nil {
		return Session{}, errors.Join(err, t.Close(), socket.Close())
	}
	open := func(ctx context.Context, urgency int8) (wire.Channel, error) {
		st, err := c.OpenStreamSync(ctx)
		if err != nil {
			return nil, closeError(err)
		}
		st.SetPriority(urgency, true)
		return quicStream{st}, nil
	}
	end := func(code wire.Code, text string) {
		c.CloseWithError(quic.ApplicationErrorCode(code), text)
		t.Close() // without CloseWithError it would close the connection without a message
		socket.Close()
	}
	return Session{open, end}, nil
}

type quicStream struct{ s *quic.Stream }

func (s quicStream) Read(p []byte) (int, error) {
	n, err := s.s.Read(p)
	return n, closeError(err)
}

func (s quicStream) Write(p []byte) (int, error) {
	n, err := s.s.Write(p)
	return n, closeError(err)
}

// alertBadCertificate is how a node refuses a certificate in the handshake (RFC 9001
// §4.8: 0x100 plus the TLS alert). In TLS 1.3 the gateway's handshake is already
// complete then, so the error comes with the first read.
const alertBadCertificate = 0x100 + 42

// closeError translates what ended a connection into errors of this protocol.
func closeError(err error) error {
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok && app.Remote {
		return &wire.CloseError{Code: wire.Code(app.ErrorCode), Text: app.ErrorMessage}
	}
	if tr, ok := errors.AsType[*quic.TransportError](err); ok && tr.Remote && tr.ErrorCode == alertBadCertificate {
		return errRejected
	}
	return err
}
