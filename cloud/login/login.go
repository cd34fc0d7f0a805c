// Package login authenticates the clients of any door: by password, SCRAM, token or
// certificate (SASL). Passwords are checked one at a time, since a check takes milliseconds of a
// core, and logins of one address wait in line. A wrong password costs its address a
// pause, which grows. A user who has logged in from an address before waits for
// neither.
package login

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// The SASL mechanisms.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"

	// External is the name in the client's certificate. Protocols without it, such as
	// Kafka's, take that name without a login.
	External = "EXTERNAL"
)

// Mechanisms lists the SASL mechanisms that need no certificate, best first.
func Mechanisms() []string { return []string{OAuthBearer, ScramSHA512, ScramSHA256, Plain} }

// Errors of the calls below, to be tested with errors.Is. A wrong user or password is
// auth.ErrCredentials.
var (
	ErrNoUsers   = errors.New("this node does not know the users") // this node does not own the shard
	ErrMessage   = errors.New("unexpected message")                // not one of the mechanism
	ErrChanged   = errors.New("credentials were just changed")     // during the check; another try may succeed
	ErrMechanism = errors.New("mechanism is not offered")          // by the listener
	errOther     = fmt.Errorf("%w: acting for another user is not supported", ErrMessage)
)

// Options configure Logins.
type Options struct {
	Users     func() *auth.Auth   // nil while this node does not own the shard
	Tokens    *bearer.Verifier    // nil: no OAUTHBEARER
	Penalties *budget.Penalties   // default: one of its own, with pauses of 8 s at most
	Waited    func(time.Duration) // called with the time for which a password waited for the core, if it did; may be nil
}

// Logins checks secrets for all doors of a node. It may be used by many goroutines.
type Logins struct {
	o     Options
	lines lines
	core  chan struct{} // one token: held during the check of a password
	known *known
}

// New returns Logins.
func New(o Options) *Logins {
	if o.Penalties == nil {
		o.Penalties = budget.NewPenalties(budget.PenaltiesOptions{Longest: 8 * time.Second, Lines: budget.NewLines(budget.LinesOptions{Burst: 5})})
	}
	return &Logins{o: o, core: make(chan struct{}, 1), known: newKnown()}
}

// Login is one exchange in which a client authenticates. It is used by one goroutine.
type Login struct {
	Mechanism string

	logins   *Logins
	from     netip.Addr
	users    *auth.Auth
	began    uint64         // generation of the users
	exchange *auth.Exchange // of SCRAM
	user     string

	certificate string // the name in the client's certificate, for EXTERNAL
	anonymous   bool   // any name and password will do
	guests      bool   // the user Guest can log in while there are no users
}

// Proved is the result of a successful login.
type Proved struct {
	User    string
	Expires time.Time // when the login ends; zero: never

	// Of a login that proved nothing, at most one is set.
	Guest     bool // it is Guest of a cluster without users
	Anonymous bool // any name and password would have done

	login *Login
}

// Refused is a login that failed because of what the client sent.
type Refused struct {
	budget.Verdict
	Err error
}

func (r *Refused) Error() string { return r.Err.Error() }
func (r *Refused) Unwrap() error { return r.Err }

// Begin starts a login from an address (see budget.Address). Errors: ErrNoUsers.
func (l *Logins) Begin(mechanism string, from netip.Addr) (*Login, error) {
	g := &Login{Mechanism: mechanism, logins: l, from: from}
	if mechanism == OAuthBearer {
		return g, nil
	}
	if g.users = l.o.Users(); g.users == nil {
		return nil, fmt.Errorf("log in by %s: %w", mechanism, ErrNoUsers)
	}
	g.began = g.users.Generation()
	switch mechanism {
	case ScramSHA256:
		g.exchange = g.users.NewExchange(auth.SCRAMSHA256)
	case ScramSHA512:
		g.exchange = g.users.NewExchange(auth.SCRAMSHA512)
	}
	return g, nil
}

// User returns the user that the client claims to be, "" before it has said so.
func (g *Login) User() string { return g.user }

// ByPassword reports whether the login is checked against the stored users.
func (g *Login) ByPassword() bool { return g.users != nil }

// Step takes the client's next message and returns the answer. If done is not nil,
// the login has succeeded and this is its last answer. Errors: *Refused, and ctx's.
func (g *Login) Step(ctx context.Context, message []byte) (answer []byte, done *Proved, err error) {
	switch {
	case g.Mechanism == OAuthBearer:
		done, err = g.bearer(ctx, message)
	case g.Mechanism == Plain:
		done, err = g.plain(ctx, message)
	case g.Mechanism == External:
		done, err = g.external()
	case g.user == "":
		answer, err = g.exchange.First(message)
		g.user = g.exchange.User()
	default:
		answer, done, err = g.scram(ctx, message)
	}
	if err != nil && ctx.Err() == nil {
		err = g.refuse(err)
	}
	return answer, done, err
}

// refuse counts a wrong secret, at most once for each login.
func (g *Login) refuse(err error) error {
	if _, done := errors.AsType[*Refused](err); done {
		return err
	}
	return &Refused{Verdict: g.logins.o.Penalties.Wrong(g.from), Err: err}
}

// Still returns ErrChanged if any credential was replaced or removed since the login
// began: perhaps the one that it used. A caller that records the user before it calls
// Still misses no change that auth.Options.Changed reports.
func (p *Proved) Still() error {
	if g := p.login; g.users != nil && g.users.Generation() != g.began {
		return ErrChanged
	}
	return nil
}

// plain checks a password [RFC-4616].
func (g *Login) plain(ctx context.Context, message []byte) (*Proved, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return nil, ErrMessage
	}
	g.user = string(parts[1])
	if as := string(parts[0]); as != "" && as != g.user {
		return nil, errOther
	}
	l, password := g.logins, string(parts[2])
	switch {
	case g.anonymous:
		return &Proved{User: auth.UserOf(Anonymous), Anonymous: true, login: g}, nil
	case g.guests && g.user == Guest && password == Guest && g.users.Empty():
		return &Proved{User: Guest, Guest: true, login: g}, nil
	}
	if !l.known.has(g, password) {
		if err := g.check(ctx, password); err != nil {
			return nil, err
		}
		l.known.add(g, password)
	}
	return &Proved{User: g.user, login: g}, nil
}

// check checks a password when it has the turn of its address and then of the core.
func (g *Login) check(ctx context.Context, password string) error {
	l := g.logins
	defer stopwatch.Waiting(ctx)() // most of this is waiting; the work is limited here
	leave, err := l.turn(ctx, g.from)
	if err != nil {
		return err
	}
	defer leave()
	began := time.Now()
	select {
	case l.core <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.core }()
	if d := time.Since(began); l.o.Waited != nil && d > time.Millisecond {
		l.o.Waited(d)
	}
	if err := g.users.CheckPassword(g.user, password); err != nil {
		return g.refuse(err) // before the next one of the address has its turn
	}
	return nil
}

// external takes the name in the client's certificate, which the handshake has verified.
// A name in the message would change nothing: RabbitMQ does not look at it either.
func (g *Login) external() (*Proved, error) {
	if g.user = g.certificate; g.user == "" {
		return nil, fmt.Errorf("%w: the client has no certificate", ErrMessage)
	}
	return &Proved{User: g.user, login: g}, nil
}

// turn waits until an address may try a secret. It has the turn alone until leave.
func (l *Logins) turn(ctx context.Context, from netip.Addr) (leave func(), err error) {
	if leave, err = l.lines.enter(ctx, from); err != nil {
		return nil, err
	}
	if err := l.o.Penalties.Wait(ctx, from); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// scram checks the client's proof. The check is cheap, but a proof can be guessed as
// well.
func (g *Login) scram(ctx context.Context, message []byte) ([]byte, *Proved, error) {
	l := g.logins
	if !l.known.may(g) {
		defer stopwatch.Waiting(ctx)()
		leave, err := l.turn(ctx, g.from)
		if err != nil {
			return nil, nil, err
		}
		defer leave()
	}
	answer, err := g.exchange.Final(message)
	if err != nil {
		l.known.missed(g)
		return nil, nil, g.refuse(err)
	}
	l.known.add(g, "")
	return answer, &Proved{User: g.user, login: g}, nil
}

// bearer checks a token [RFC-7628, KIP-255]. Tokens cannot be guessed, so it needs no
// turn.
func (g *Login) bearer(ctx context.Context, message []byte) (*Proved, error) {
	header, rest, _ := strings.Cut(string(message), "\x01")
	var token string
	for pair := range strings.SplitSeq(rest, "\x01") {
		if value, ok := strings.CutPrefix(pair, "auth="); ok {
			scheme, t, _ := strings.Cut(value, " ")
			if strings.EqualFold(scheme, "bearer") {
				token = strings.TrimSpace(t)
			}
		}
	}
	if !strings.HasPrefix(header, "n,") || token == "" {
		return nil, ErrMessage
	}
	resume := stopwatch.Waiting(ctx) // perhaps for the issuer's keys
	t, err := g.logins.o.Tokens.Verify(ctx, token)
	resume()
	if err != nil {
		return nil, err
	}
	g.user = t.Subject
	if as := strings.TrimSuffix(strings.TrimPrefix(header[2:], "a="), ","); cmp.Or(as, g.user) != g.user {
		return nil, errOther
	}
	return &Proved{User: t.Subject, Expires: t.Expires, login: g}, nil
}
