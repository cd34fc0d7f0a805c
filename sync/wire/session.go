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

// Channel is an ordered byte stream in both directions. The sender opens
// it, the receiver accepts it; QUIC and an in-memory link (wiretest) carry it. Reads and writes after the session ended return a CloseError when
// the peer ended it.
type Channel = io.ReadWriter

// Peer is the gateway that a session is with.
type Peer struct {
	Addr string
	// Gateway is the name that the gateway proved: that in the verified client
	// certificate. Empty while it joins.
	Gateway string
	// Certificate is the verified client certificate; nil while it joins and on
	// transports without certificates.
	Certificate *x509.Certificate
}
