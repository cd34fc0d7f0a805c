package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
)

var (
	errLogin    = errors.New("login failed")
	errNameless = errors.New("client certificate names nobody")
	errIdentity = errors.New("a connection keeps its user and its mechanism")
)

// greet makes a connection ready for requests: TLS, and the principal of who need
// not log in.
func (c *conn) greet(ctx context.Context) error {
	c.principal = anonymous
	if secure, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(ctx, c.s.o.LoginTime)
		defer cancel()
		err := secure.HandshakeContext(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil: // it has sent too little, not the wrong thing
			return gone(fmt.Errorf("TLS handshake: %w", err))
		default:
			return gone(violated("TLS handshake: %w", err))
		}
		if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
			user := subject(chain[0])
			if user == "" {
				return violation{errNameless}
			}
			c.principal = auth.Principal(user)
		}
	}
	c.known.Store(len(c.listener.SASL) == 0)
	return nil
}

// subject is the user that a client certificate is for: its common name, or the
// first of its alternative names; "" if it has none.
func subject(cert *x509.Certificate) string {
	names := slices.Concat([]string{cert.Subject.CommonName}, cert.DNSNames, cert.EmailAddresses)
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	for _, name := range names {
		if name != "" {
			return name
		}
	}
	return ""
}

// admits tells whether a request may come at this time.
func (c *conn) admits(key kmsg.Key) error {
	switch {
	case key == kmsg.ApiVersions, key == kmsg.SASLHandshake, key == kmsg.SASLAuthenticate:
		return nil
	case !c.known.Load():
		return fmt.Errorf("%s before the client has logged in", key.Name())
	}
	if at := c.expires.Load(); at != 0 && c.s.o.Now().UnixNano() >= at {
		return fmt.Errorf("%s after the login has expired", key.Name())
	}
	return nil
}

// who is the client, for ACLs. Only perform asks.
func (c *conn) who() auth.Who {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		host = c.peer
	}
	return auth.Who{Principal: c.principal, Host: host}
}

// begin starts a login. Without the shard nobody's password is known here: the
// connection is closed, and clients try the next address.
func (c *conn) begin(mechanism string) (*login.Login, error) {
	l, err := c.s.logins.Begin(mechanism, c.from)
	if errors.Is(err, login.ErrNoUsers) {
		return nil, fmt.Errorf("%w: %w", err, broker.ErrNotOwner)
	}
	return l, err
}

// welcome makes the connection the user's, until the proof has expired or the
// listener wants another. It returns how long that is, 0 for ever (KIP-368).
func (c *conn) welcome(l *login.Login, p *login.Proved) (time.Duration, error) {
	principal, mechanism := auth.Principal(p.User), l.Mechanism
	if c.known.Load() && (principal != c.principal || mechanism != c.mechanism) {
		return 0, errIdentity
	}
	if l.ByPassword() {
		c.user.Store(&p.User)
	}
	if err := p.Still(); err != nil { // then Drop may have come too early for this one
		return 0, err
	}
	now := c.s.o.Now()
	expires := p.Expires
	if most := c.listener.Reauth; most > 0 && (expires.IsZero() || expires.After(now.Add(most))) {
		expires = now.Add(most)
	}
	c.principal, c.mechanism = principal, mechanism
	var life time.Duration
	if c.expires.Store(0); !expires.IsZero() {
		c.expires.Store(expires.UnixNano())
		life = max(expires.Sub(now), time.Millisecond) // 0 would be for ever
	}
	if !c.known.Swap(true) {
		c.memory.Swap(c.s.memory.Peer("")).Close()
		c.seat.Known()
	}
	return life, nil
}

// errDropped: see Drop.
var errDropped = errors.New("credentials of the user were changed or taken away")

// Drop closes the connections of a user that has logged in with a credential which was
// replaced or taken away. It does not wait for them, and may be called from
// auth.Options.Changed.
func (s *Server) Drop(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if u := c.user.Load(); u != nil && *u == user {
			c.cancel(errDropped)
		}
	}
}
