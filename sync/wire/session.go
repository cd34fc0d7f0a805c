package wire

import (
	"crypto/x509"
	"io"
)

// ALPN names, one per protocol.
const (
	ALPN     = "weir/1"
	ALPNJoin = "weir-join/1"
)

// Channel is an ordered byte stream in both directions. The sender opens it, the
// receiver accepts it. QUIC carries it, or an in-memory link (wiretest). If the peer
// ended the session, later reads and writes return a CloseError.
type Channel = io.ReadWriter

// Peer is the gateway that a session is with.
type Peer struct {
	Addr string
	// Gateway is the name in the verified client certificate. It is empty while the
	// gateway joins.
	Gateway string
	// Certificate is the verified client certificate. It is nil while the gateway
	// joins, and on transports without certificates.
	Certificate *x509.Certificate
}
