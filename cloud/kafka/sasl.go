package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
)

// The SASL mechanisms that a listener can offer.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// Mechanisms lists all that there are, best first.
func Mechanisms() []string { return []string{OAuthBearer, ScramSHA512, ScramSHA256, Plain} }

// login is a conversation in which a client proves who it is.
type login struct {
	mechanism string
	exchange  *auth.Exchange // of SCRAM
	user      string         // who the client says it is, as soon as it has
}

// proved is what a login ends with.
type proved struct {
	user    string
	expires time.Time // when the proof is worth nothing any more; zero: never
}

var (
	errLogin    = errors.New("login failed")
	errMessage  = errors.New("unexpected message")
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
func (c *conn) begin(mechanism string) (*login, error) {
	l := &login{mechanism: mechanism}
	if mechanism == OAuthBearer {
		return l, nil
	}
	users := c.s.o.Auth()
	if users == nil {
		return nil, fmt.Errorf("log in by %s: %w", mechanism, broker.ErrNotOwner)
	}
	switch mechanism {
	case ScramSHA256:
		l.exchange = users.NewExchange(auth.SCRAMSHA256)
	case ScramSHA512:
		l.exchange = users.NewExchange(auth.SCRAMSHA512)
	}
	return l, nil
}

// step takes the client's next message. With proved, the login is done, and the
// answer is its last.
func (c *conn) step(ctx context.Context, l *login, message []byte) (answer []byte, done *proved, err error) {
	switch {
	case l.mechanism == Plain:
		done, err = c.plain(ctx, l, message)
		return nil, done, err
	case l.mechanism == OAuthBearer:
		done, err = c.bearer(ctx, l, message)
		return nil, done, err
	case l.user == "":
		answer, err = l.exchange.First(message)
		l.user = l.exchange.User()
		return answer, nil, err
	}
	if answer, err = l.exchange.Final(message); err != nil {
		return nil, nil, err
	}
	return answer, &proved{user: l.user}, nil
}

// plain checks a password [RFC-4616]. One at a time: it costs milliseconds.
func (c *conn) plain(ctx context.Context, l *login, message []byte) (*proved, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return nil, errMessage
	}
	l.user = string(parts[1])
	if as := string(parts[0]); as != "" && as != l.user {
		return nil, fmt.Errorf("%w: nobody acts for another", errMessage)
	}
	users := c.s.o.Auth()
	if users == nil {
		return nil, broker.ErrNotOwner
	}
	if err := turn(ctx, c.s.hashing); err != nil {
		return nil, err
	}
	defer func() { <-c.s.hashing }()
	if err := users.CheckPassword(l.user, string(parts[2])); err != nil {
		return nil, err
	}
	return &proved{user: l.user}, nil
}

// bearer checks a token [RFC-7628, KIP-255].
func (c *conn) bearer(ctx context.Context, l *login, message []byte) (*proved, error) {
	header, rest, _ := strings.Cut(string(message), "\x01")
	var token string
	for _, pair := range strings.Split(rest, "\x01") {
		if value, ok := strings.CutPrefix(pair, "auth="); ok {
			scheme, t, _ := strings.Cut(value, " ")
			if strings.EqualFold(scheme, "bearer") {
				token = strings.TrimSpace(t)
			}
		}
	}
	if !strings.HasPrefix(header, "n,") || token == "" {
		return nil, errMessage
	}
	goOn := quota.Waiting(ctx) // perhaps for the issuer's keys
	t, err := c.s.o.Tokens.Verify(ctx, token)
	goOn()
	if err != nil {
		return nil, err
	}
	l.user = t.Subject
	if as := strings.TrimSuffix(strings.TrimPrefix(header[2:], "a="), ","); as != "" && as != l.user {
		return nil, fmt.Errorf("%w: nobody acts for another", errMessage)
	}
	return &proved{user: t.Subject, expires: t.Expires}, nil
}

// welcome makes the connection the user's, until the proof has expired or the
// listener wants another. It returns how long that is, 0 for ever (KIP-368).
func (c *conn) welcome(mechanism string, p *proved) (time.Duration, error) {
	principal := auth.Principal(p.user)
	if c.known.Load() && (principal != c.principal || mechanism != c.mechanism) {
		return 0, errIdentity
	}
	now := c.s.o.Now()
	expires := p.expires
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
