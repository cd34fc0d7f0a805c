// Package listener is an address on which a door of a node listens, and what it
// requires of clients: TLS, certificates, logins.
package listener

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Settings configure a listener.
type Settings struct {
	Name      string // the same on all nodes of the cluster for the same kind of listener; unique in a node
	Listen    string // TCP address
	Advertise string // host, or host:port, under which clients reach it; default: that of the node
	TLSCert   string // file; with TLSKey, the listener speaks TLS. Both are read again when they change
	TLSKey    string
	ClientCA  string        // file: clients must have a certificate signed by one of these CAs
	SASL      []string      // mechanisms by which clients must log in (package login)
	Reauth    time.Duration // clients must log in again after this long; 0: never
	Here      bool          // this node passes requests on to the owners, and clients see no other node; Kafka only

	// These two are for doors whose clients log in at every listener, with or without
	// an account: see login.Always.
	Anonymous bool // any name and password will do, and the client is anonymous
	Guests    bool // while there are no users, clients on loopback can log in as guests
}

// Listener is an open listener. Without client certificates and SASL, it does not
// authenticate its clients.
type Listener struct {
	net.Listener
	Name   string        // finds the owner's listener of the same kind: cluster.Node.ListenerAddress
	TLS    *tls.Config   // nil: no TLS; client certificates, if verified, say who the client is
	SASL   []string      // mechanisms by which clients must log in; they outrank a certificate
	Reauth time.Duration // after which a client must log in again; 0: never

	Here      bool // see Settings
	Anonymous bool // see Settings
	Guests    bool // see Settings

	Traffic      *Traffic      // what has passed through it; NewAcceptor sets it if it is nil
	Certificates *Certificates // the source of TLS's own certificate; nil: no TLS
}

// Authenticated reports whether the listener authenticates every client.
func (s Settings) Authenticated() bool {
	return (s.ClientCA != "" || len(s.SASL) > 0) && !s.Anonymous && !s.Guests
}

// Check returns an error if the settings are invalid.
func (s Settings) Check() error {
	switch {
	case s.Listen == "":
		return errors.New("a listener needs an address: listen=HOST:PORT")
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return fmt.Errorf("listener %s: tls-cert and tls-key must be set together", s.Name)
	case s.ClientCA != "" && s.TLSCert == "":
		return fmt.Errorf("listener %s: client-ca needs tls-cert and tls-key", s.Name)
	case s.Reauth < 0:
		return fmt.Errorf("listener %s: reauth %v is negative", s.Name, s.Reauth)
	}
	return nil
}

// Open checks the settings, reads the files, and listens: with listen, or if it is nil on a
// new socket.
func (s Settings) Open(log *slog.Logger, listen func(address string) (net.Listener, error)) (Listener, error) {
	l := Listener{Name: s.Name, SASL: s.SASL, Reauth: s.Reauth, Here: s.Here, Anonymous: s.Anonymous, Guests: s.Guests}
	if err := s.Check(); err != nil {
		return l, err
	}
	var err error
	if s.TLSCert != "" {
		if l.Certificates, err = s.Certificates(log); err != nil {
			return l, fmt.Errorf("listener %s: %w", s.Name, err)
		}
		l.TLS = l.Certificates.TLS()
	}
	if listen == nil {
		listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if l.Listener, err = listen(s.Listen); err != nil {
		return l, fmt.Errorf("listener %s: %w", s.Name, err)
	}
	return l, nil
}

// Address returns the address under which clients reach the listener, which is open
// at addr. usual is the address without Advertise.
func (s Settings) Address(addr net.Addr, usual string) string {
	if s.Advertise == "" {
		return usual
	}
	if _, _, err := net.SplitHostPort(s.Advertise); err == nil {
		return s.Advertise
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return s.Advertise
	}
	return net.JoinHostPort(strings.Trim(s.Advertise, "[]"), port)
}
