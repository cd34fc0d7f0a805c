package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/listener"
)

// Anonymous is the principal of clients of a listener that does not authenticate. The
// name is Kafka's.
const Anonymous = "User:ANONYMOUS"

// Guest is the name and the password with which RabbitMQ's clients log in by default.
const Guest = "guest"

// Errors of a Session.
var (
	ErrTLS      = errors.New("TLS handshake")                                            // the handshake failed because of the client
	ErrNameless = errors.New("client certificate has no name")                           // also ErrTLS
	ErrIdentity = errors.New("the user and the mechanism of a connection cannot change") // the client logged in again as another user, or by another mechanism
	ErrDropped  = errors.New("credentials of the user were changed or taken away")       // why the session ended
)

// Sessions holds the sessions of all doors of a node.
type Sessions struct {
	mu   sync.Mutex
	open map[*Session]struct{}
}

// NewSessions returns a Sessions without sessions.
func NewSessions() *Sessions { return &Sessions{open: make(map[*Session]struct{})} }

// Drop ends the sessions of a user that logged in with a credential which was
// replaced or removed. It does not wait for them to end, and may be called from
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

// Open begins the session of a connection to a listener. end closes the connection.
// Close must be called when the connection has ended.
func (s *Sessions) Open(l *listener.Listener, now func() time.Time, end context.CancelCauseFunc) *Session {
	x := &Session{sessions: s, listener: l, now: now, end: end, principal: Anonymous}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[x] = struct{}{}
	return x
}

// Session says who the client of a connection is: by its client certificate, by a
// login, or anonymous if the listener does not authenticate.
//
// A door opens a session for each connection and calls Greet for the handshake. Until
// Known reports true it serves nothing but a Login, whose result it passes to
// Welcome. Before each request it checks Expired.
type Session struct {
	sessions *Sessions
	listener *listener.Listener
	now      func() time.Time
	end      context.CancelCauseFunc

	known   atomic.Bool            // the client is authenticated, or need not be
	expires atomic.Int64           // Unix nanoseconds when it must log in again; 0: never
	user    atomic.Pointer[string] // user of the login, if it was checked against the stored users; else nil

	principal   string // this and the next fields are owned by the goroutine that calls Greet and then performs requests
	mechanism   string
	certificate string // the name in the client's certificate, "" without one
	guest       bool
	anonymous   bool
}

// Of returns the session of a client that another node has authenticated.
func Of(principal string) *Session {
	x := &Session{principal: principal}
	x.known.Store(true)
	return x
}

// Elsewhere is Of for the client of a connection: guest and anonymous are what Guest and
// Anonymous return at that node. The session does not expire and is not dropped: that
// node closes the connection.
func Elsewhere(principal string, guest, anonymous bool) *Session {
	x := Of(principal)
	x.guest, x.anonymous = guest, anonymous
	return x
}

// Close ends the session.
func (x *Session) Close() {
	if x.sessions == nil { // of another node
		return
	}
	x.sessions.mu.Lock()
	defer x.sessions.mu.Unlock()
	delete(x.sessions.open, x)
}

// Greet prepares a connection for requests: it performs the handshake if nc uses TLS,
// and finds the principal of a client that need not log in. It must succeed within
// that time. ErrTLS means that the client sent something wrong, any other error that
// it sent too little.
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
			x.principal, x.certificate = auth.Principal(user), user
		}
	}
	x.known.Store(len(x.listener.SASL) == 0)
	return nil
}

// subject returns the user of a client certificate: its common name, else the first
// of its alternative names, else "".
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

// Hurry closes the connection unless the client is known within that time. stop must
// be called when the connection ends.
func (x *Session) Hurry(within time.Duration) (stop func() bool) {
	return time.AfterFunc(within, func() {
		if !x.known.Load() {
			x.end(fmt.Errorf("client has not logged in within %v", within))
		}
	}).Stop
}

// Always completes the settings of a listener whose clients log in at every listener, as
// those of AMQP do. Without sasl they do so by their certificate if they need one, else
// by PLAIN: if anonymous is set with any name and password, else as users, or as Guest
// from loopback while there are no users.
func Always(s listener.Settings, anonymous bool) listener.Settings {
	switch {
	case len(s.SASL) > 0:
	case s.ClientCA != "":
		s.SASL = []string{External}
	default:
		s.SASL, s.Anonymous, s.Guests = []string{Plain}, anonymous, !anonymous
	}
	return s
}

// Begin starts a login of the connection by a mechanism of its listener, from an address
// (see budget.Address). It is Logins.Begin, and for EXTERNAL, anonymous clients and
// guests too. Errors: ErrMechanism, ErrNoUsers.
func (x *Session) Begin(l *Logins, mechanism string, from netip.Addr) (*Login, error) {
	switch {
	case !slices.Contains(x.listener.SASL, mechanism):
		return nil, fmt.Errorf("log in by %q: %w", mechanism, ErrMechanism)
	case mechanism == External:
		return &Login{Mechanism: External, logins: l, from: from, certificate: x.certificate}, nil
	case mechanism == Plain && x.listener.Anonymous:
		return &Login{Mechanism: Plain, logins: l, from: from, anonymous: true}, nil
	}
	g, err := l.Begin(mechanism, from)
	if err != nil {
		return nil, err
	}
	g.guests = x.listener.Guests && from.IsLoopback()
	return g, nil
}

// Welcome makes the user of a login the user of the connection. It returns for how
// long that lasts, which depends on the token or listener (0: forever), and whether
// this is the first login of the connection. Errors: ErrIdentity, ErrChanged.
func (x *Session) Welcome(l *Login, p *Proved) (life time.Duration, first bool, err error) {
	principal, mechanism := auth.Principal(p.User), l.Mechanism
	if x.known.Load() && (principal != x.principal || mechanism != x.mechanism) {
		return 0, false, ErrIdentity
	}
	if l.ByPassword() {
		x.user.Store(&p.User)
	}
	if err := p.Still(); err != nil { // the session was not registered yet when Drop ran
		return 0, false, err
	}
	now := x.now()
	expires := p.Expires
	if most := x.listener.Reauth; most > 0 && (expires.IsZero() || expires.After(now.Add(most))) {
		expires = now.Add(most)
	}
	x.principal, x.mechanism, x.guest, x.anonymous = principal, mechanism, p.Guest, p.Anonymous
	if x.expires.Store(0); !expires.IsZero() {
		x.expires.Store(expires.UnixNano())
		life = max(expires.Sub(now), time.Millisecond) // 0 would mean forever
	}
	return life, !x.known.Swap(true), nil
}

// Known reports whether the client is authenticated, or need not be.
func (x *Session) Known() bool { return x.known.Load() }

// Expires reports whether the client must log in again at some time.
func (x *Session) Expires() bool { return x.expires.Load() != 0 }

// Expired reports whether the client must log in again before its next request.
func (x *Session) Expired() bool {
	at := x.expires.Load()
	return at != 0 && x.now().UnixNano() >= at
}

// Guest reports whether the client has logged in as Guest of a cluster without users. It
// may be called only by the goroutine that performs the connection's requests.
func (x *Session) Guest() bool { return x.guest }

// Anonymous reports whether the client has logged in where any name and password will
// do: one whose principal is Anonymous may also be a user of that name. It may be called
// only by the goroutine that performs the connection's requests.
func (x *Session) Anonymous() bool { return x.anonymous }

// Principal returns the client's principal, as ACLs name it. It may be called only by
// the goroutine that performs the connection's requests.
func (x *Session) Principal() string { return x.principal }
