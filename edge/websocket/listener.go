package websocket

import "net"

// Listener makes WebSockets of what another listener accepts.
type Listener struct {
	net.Listener
	origins []string
}

// NewListener returns a listener above another one, of TCP or TLS. Web pages may
// connect if they come from the host that they connect to, or from one of the
// origins: HOST, SCHEME://HOST, with * for any part of it. Clients other than
// browsers name no origin, and may.
func NewListener(below net.Listener, origins []string) *Listener {
	return &Listener{below, origins}
}

// Accept returns a *Conn whose Handshake is still to be called.
func (l *Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: nc, origins: l.origins}, nil
}
