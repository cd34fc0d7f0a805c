package websocket

import "net"

// Listener turns the connections of another listener into WebSockets.
type Listener struct {
	net.Listener
	origins []string
}

// NewListener returns a listener on top of another one, of TCP or TLS. A web page may connect if it
// comes from the host that it connects to, or from one of the origins: HOST or SCHEME://HOST, with
// * for any part of it. Clients other than browsers send no origin, and may connect.
func NewListener(below net.Listener, origins []string) *Listener {
	return &Listener{below, origins}
}

// Accept returns a *Conn. The caller must call its Handshake.
func (l *Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: nc, origins: l.origins}, nil
}
