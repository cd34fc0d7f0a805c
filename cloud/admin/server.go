package admin

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
)

// Limits for the connections of one admin port.
const (
	maxConns     = 256
	maxStrangers = 64 // without a credential so far
)

// Listener accepts only as many connections as there are seats, and counts what passes
// through them, with what TLS adds. Server gives the seats back.
type Listener struct {
	net.Listener
	gate    *budget.Gate
	traffic listener.Traffic
}

// Limit returns a Listener that accepts the connections of l, which has that name in log
// lines.
func Limit(l net.Listener, name string, conns *budget.Conns) *Listener {
	return &Listener{Listener: l, gate: conns.Gate(budget.GateOptions{Name: name, Max: maxConns, Strangers: maxStrangers})}
}

// Counts returns what was counted. Requests and errors are those of a Guard that has
// the Traffic.
func (l *Listener) Counts() []listener.Counts {
	return []listener.Counts{l.traffic.Counts("", l.gate.Counts())}
}

// Traffic is where requests are counted: see Options.
func (l *Listener) Traffic() *listener.Traffic { return &l.traffic }

// Accept closes connections for which there is no seat, and waits for the next.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		seat, err := l.gate.Enter(budget.Address(nc.RemoteAddr()), func() { nc.Close() })
		if err != nil {
			nc.Close()
			continue
		}
		return &conn{l.traffic.Conn(nc), seat}, nil
	}
}

// conn is a connection with a seat.
type conn struct {
	net.Conn
	seat *budget.Seat
}

func (c *conn) Close() error {
	c.seat.Leave()
	return c.Conn.Close()
}

// seatKey is the context key of the seat of a request's connection.
type seatKey struct{}

// Seat returns the seat of a request's connection, nil if it has none.
func Seat(r *http.Request) *budget.Seat {
	seat, _ := r.Context().Value(seatKey{}).(*budget.Seat)
	return seat
}

// Server returns a server for an admin port. It bounds what a stranger can make it
// hold: 16 KiB of headers, 10 s to send them, a minute for an answer.
func Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, MaxHeaderBytes: 12 << 10, // net/http adds 4 KiB
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		// These messages are about single connections, and any stranger can cause them.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			if secure, ok := nc.(*tls.Conn); ok {
				nc = secure.NetConn()
			}
			if c, ok := nc.(*conn); ok {
				return context.WithValue(ctx, seatKey{}, c.seat)
			}
			return ctx
		},
	}
}

// remote returns the address that stands for the sender of a request.
func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // the listener is not a TCP listener
	}
	return budget.Address(net.TCPAddrFromAddrPort(from))
}
