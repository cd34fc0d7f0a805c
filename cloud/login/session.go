package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/listener"
)

// Anonymous is the principal of clients that come by a listener that asks nobody who
// they are. It is Kafka's.
const Anonymous = "User:ANONYMOUS"

// Errors of a Session.
var (
	ErrTLS      = errors.New("TLS handshake")                                      // and it is the client's fault
	ErrNameless = errors.New("client certificate names nobody")                    // ErrTLS too
	ErrIdentity = errors.New("a connection keeps its user and its mechanism")      // it logged in again as another one
	ErrDropped  = errors.New("credentials of the user were changed or taken away") // the cause of the end of a session
)

// Sessions are those of all doors of a node.
type Sessions struct {
	mu   sync.Mutex
	open map[*Session]struct{}
}

// NewSessions returns Sessions.
func NewSessions() *Sessions { return &Sessions{open: make(map[*Session]struct{})} }

// Drop ends the sessions of a user that has logged in with a credential which was
// replaced or taken away. It does not wait for them, and may be called from
// auth.Options.Changed.
func (s *Sessions) Drop(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.open {
		if u := x.user.Load(); u != nil && *u == user {
			x.end(ErrDropped)
		}
	}
}

// Open begins the session of a connection that came by a listener. end ends the
// connection. Close must be called when it has ended.
func (s *Sessions) Open(l *listener.Listener, now func() time.Time, end context.CancelCauseFunc) *Session {
	x := &Session{sessions: s, listener: l, now: now, end: end, principal: Anonymous}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[x] = struct{}{}
	return x
}

// Session is who the client of a connection is, in any door: it has a client
// certificate, or it logs in, or its listener does not ask.
//
// A door opens one for each connection, has Greet shake hands, and serves nothing but a
// login before Known. The login is a Login, whose end it hands to Welcome. It asks
// Expired before each request.
type Session struct {
	sessions *Sessions
	listener *listener.Listener
	now      func() time.Time
	end      context.CancelCauseFunc

	known   atomic.Bool            // the client has proved who it is, or need not
	expires atomic.Int64           // Unix nanoseconds when it must do so again; 0: never
	user    atomic.Pointer[string] // that it has logged in as, by a credential that is kept of it; nil: by none

	principal string // this and the next one are owned by the goroutine that greets and then performs requests
	mechanism string
}

// Of returns the session of a client that another node has let in.
func Of(principal string) *Session {
	x := &Session{principal: principal}
	x.known.Store(true)
	return x
}

// Close ends the session.
func (x *Session) Close() {
	x.sessions.mu.Lock()
	defer x.sessions.mu.Unlock()
	delete(x.sessions.open, x)
}

// Greet makes a connection ready for requests: it shakes hands if nc is one of TLS, and
// finds the principal of a client that need not log in. within is the time for that.
// ErrTLS says that the client sent the wrong thing, any other error that it sent too
// little.
func (x *Session) Greet(ctx context.Context, nc net.Conn, within time.Duration) error {
	if secure, ok := nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		err := secure.HandshakeContext(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return fmt.Errorf("TLS handshake: %w", err)
		default:
			return fmt.Errorf("%w: %w", ErrTLS, err)
		}
		if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
			user := subject(chain[0])
			if user == "" {
				return fmt.Errorf("%w: %w", ErrTLS, ErrNameless)
			}
			x.principal = auth.Principal(user)
		}
	}
	x.known.Store(len(x.listener.SASL) == 0)
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

// Hurry ends the connection unless the client is known within that time. stop must be
// called when the connection ends.
func (x *Session) Hurry(within time.Duration) (stop func() bool) {
	return time.AfterFunc(within, func() {
		if !x.known.Load() {
			x.end(fmt.Errorf("client has not logged in within %v", within))
		}
	}).Stop
}

// Welcome makes the connection the user's, until the proof has expired or the listener
// wants another. It returns how long that is, 0 for ever, and whether it is the
// connection's first login. Errors: ErrIdentity, ErrChanged.
func (x *Session) Welcome(l *Login, p *Proved) (life time.Duration, first bool, err error) {
	principal, mechanism := auth.Principal(p.User), l.Mechanism
	if x.known.Load() && (principal != x.principal || mechanism != x.mechanism) {
		return 0, false, ErrIdentity
	}
	if l.ByPassword() {
		x.user.Store(&p.User)
	}
	if err := p.Still(); err != nil { // then Drop may have come too early for this one
		return 0, false, err
	}
	now := x.now()
	expires := p.Expires
	if most := x.listener.Reauth; most > 0 && (expires.IsZero() || expires.After(now.Add(most))) {
		expires = now.Add(most)
	}
	x.principal, x.mechanism = principal, mechanism
	if x.expires.Store(0); !expires.IsZero() {
		x.expires.Store(expires.UnixNano())
		life = max(expires.Sub(now), time.Millisecond) // 0 would be for ever
	}
	return life, !x.known.Swap(true), nil
}

// Known reports whether the client has proved who it is, or need not.
func (x *Session) Known() bool { return x.known.Load() }

// Expires reports whether the client must log in again some time.
func (x *Session) Expires() bool { return x.expires.Load() != 0 }

// Expired reports whether the client must log in again before it does anything else.
func (x *Session) Expired() bool {
	at := x.expires.Load()
	return at != 0 && x.now().UnixNano() >= at
}

// Principal is who the client is, as ACLs name it. Only the goroutine that performs
// the connection's requests asks.
func (x *Session) Principal() string { return x.principal }
