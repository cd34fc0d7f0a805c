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
)

// Connections of one admin port.
const (
	maxConns     = 256
	maxStrangers = 64 // that have shown no credential
)

// Limit returns a listener that takes as many connections as the gate of an admin
// port has seats for; Server gives them back.
func Limit(l net.Listener, conns *budget.Conns) net.Listener {
	return &gated{l, conns.Gate(budget.GateOptions{Name: "http", Max: maxConns, Strangers: maxStrangers})}
}

type gated struct {
	net.Listener
	gate *budget.Gate
}

// Accept turns away whom there is no seat for, and waits for the next.
func (l *gated) Accept() (net.Conn, error) {
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
		return &conn{nc, seat}, nil
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

// seatKey is under which a request's context has the seat of its connection.
type seatKey struct{}

// seatOf returns nil for a connection without a seat.
func seatOf(r *http.Request) *budget.Seat {
	seat, _ := r.Context().Value(seatKey{}).(*budget.Seat)
	return seat
}

// Server returns a server for an admin port, with bounds on what a stranger can
// make it hold: 16 KiB of headers, 10 s for them, a minute for an answer.
func Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, MaxHeaderBytes: 12 << 10, // net/http adds 4 KiB
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		// What it says is about single connections, and any stranger can make it say it.
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

// remote is the address by which a request's sender is told from others.
func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not of a TCP listener
	}
	return budget.Address(net.TCPAddrFromAddrPort(from))
}
