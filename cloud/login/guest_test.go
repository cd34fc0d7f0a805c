package login

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/listener"
)

// loopback is where guests come from.
var loopback = netip.MustParseAddr("127.0.0.1")

// open begins a session at a listener.
func open(t *testing.T, s listener.Settings) *Session {
	t.Helper()
	x := NewSessions().Open(&listener.Listener{SASL: s.SASL, Anonymous: s.Anonymous, Guests: s.Guests}, time.Now, func(error) {})
	t.Cleanup(x.Close)
	if err := x.Greet(t.Context(), nil, time.Second); err != nil || x.Known() {
		t.Errorf("known before the login: %v", err)
	}
	return x
}

// enter logs in, by PLAIN with "user password" or by another mechanism with the message.
func enter(t *testing.T, x *Session, l *Logins, mechanism string, from netip.Addr, message string) error {
	t.Helper()
	g, err := x.Begin(l, mechanism, from)
	if err != nil {
		return err
	}
	_, done, err := g.Step(t.Context(), []byte(message))
	if err != nil {
		return err
	}
	_, _, err = x.Welcome(g, done)
	return err
}

// TestAlways: at a listener of AMQP every client logs in, in the way that its settings
// ask for.
func TestAlways(t *testing.T) {
	for what, c := range map[string]struct {
		s                 listener.Settings
		anonymous         bool
		sasl              []string
		anybody, guests   bool
		needsAnAccountNow bool
	}{
		"nothing":                   {listener.Settings{}, false, []string{Plain}, false, true, false},
		"anonymous":                 {listener.Settings{}, true, []string{Plain}, true, false, false},
		"a certificate":             {listener.Settings{ClientCA: "f"}, true, []string{External}, false, false, true},
		"mechanisms":                {listener.Settings{SASL: []string{ScramSHA256}}, true, []string{ScramSHA256}, false, false, true},
		"both":                      {listener.Settings{ClientCA: "f", SASL: []string{External, Plain}}, false, []string{External, Plain}, false, false, true},
		"a certificate, no sasl":    {listener.Settings{ClientCA: "f"}, false, []string{External}, false, false, true},
		"mechanisms, not anonymous": {listener.Settings{SASL: []string{Plain}}, false, []string{Plain}, false, false, true},
	} {
		got := Always(c.s, c.anonymous)
		if !slices.Equal(got.SASL, c.sasl) || got.Anonymous != c.anybody || got.Guests != c.guests || got.Authenticated() != c.needsAnAccountNow {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// TestGuests: guest is let in from loopback while there are no users, and nobody else.
func TestGuests(t *testing.T) {
	a := users(t)
	l := New(Options{Users: func() *auth.Auth { return a }})
	s := Always(listener.Settings{}, false)
	x := open(t, s)
	if err := enter(t, x, l, Plain, loopback, "\x00guest\x00guest"); err != nil || !x.Known() || !x.Guest() || x.Principal() != "User:guest" {
		t.Errorf("%v, guest %v, %s", err, x.Guest(), x.Principal())
	}
	for what, c := range map[string]struct {
		s    listener.Settings
		from netip.Addr
		says string
	}{
		"another address":      {s, home, "\x00guest\x00guest"},
		"another password":     {s, netip.MustParseAddr("::1"), "\x00guest\x00secret"},
		"another name":         {s, netip.MustParseAddr("::1"), "\x00ann\x00guest"},
		"a listener with sasl": {Always(listener.Settings{SASL: []string{Plain}}, true), netip.MustParseAddr("127.0.0.2"), "\x00guest\x00guest"},
	} {
		synctest.Test(t, func(t *testing.T) { // which does not wait for the pause after a wrong password
			x := open(t, c.s)
			if err := enter(t, x, l, Plain, c.from, c.says); !errors.Is(err, auth.ErrCredentials) || x.Known() || x.Guest() {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	password(t, a, "ann", "ann's secret")
	x = open(t, s)
	if err := enter(t, x, l, Plain, netip.MustParseAddr("127.0.0.3"), "\x00guest\x00guest"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("guest while there are users: %v", err)
	}
	if err := enter(t, x, l, Plain, netip.MustParseAddr("127.0.0.4"), "\x00ann\x00ann's secret"); err != nil || x.Guest() || x.Principal() != "User:ann" {
		t.Errorf("a user: %v, guest %v, %s", err, x.Guest(), x.Principal())
	}
}

// TestGuestsPause: a wrong password costs its address a pause here too.
func TestGuestsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := users(t)
		l := New(Options{Users: func() *auth.Auth { return a }})
		for _, want := range []time.Duration{0, 1, 2, 4} {
			began := time.Now()
			if err := enter(t, open(t, Always(listener.Settings{}, false)), l, Plain, loopback, "\x00guest\x00x"); !errors.Is(err, auth.ErrCredentials) {
				t.Error(err)
			}
			if d := time.Since(began); d.Round(time.Second) != want*time.Second {
				t.Errorf("a try after %v, want %v s", d, want)
			}
		}
	})
}

// TestAnonymous: any name and password will do, and none of them is the client's.
func TestAnonymous(t *testing.T) {
	a := users(t, "ann")
	l := New(Options{Users: func() *auth.Auth { return a }})
	x := open(t, Always(listener.Settings{}, true))
	for _, message := range []string{"", "ann", "\x00ann"} {
		if err := enter(t, x, l, Plain, loopback, message); !errors.Is(err, ErrMessage) {
			t.Errorf("%q: %v", message, err)
		}
	}
	if err := enter(t, x, l, Plain, home, "\x00ann\x00x"); err != nil || x.Principal() != Anonymous || !x.Anonymous() || x.Guest() {
		t.Errorf("%v, %s", err, x.Principal())
	}
	none := New(Options{Users: func() *auth.Auth { return nil }})
	if err := enter(t, open(t, Always(listener.Settings{}, true)), none, Plain, home, "\x00a\x00b"); err != nil {
		t.Errorf("while the users are not known: %v", err)
	}
	if err := enter(t, open(t, Always(listener.Settings{}, false)), none, Plain, loopback, "\x00guest\x00guest"); !errors.Is(err, ErrNoUsers) {
		t.Errorf("a guest while the users are not known: %v", err)
	}
}

// secure is the server's side of a TLS connection whose client has a certificate of that
// name.
func secure(t *testing.T, name string) net.Conn {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	body, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	both := []tls.Certificate{{Certificate: [][]byte{body}, PrivateKey: private}}
	server, client := net.Pipe()
	t.Cleanup(func() { _ = errors.Join(server.Close(), client.Close()) })
	go func() { // its error is the server's, too
		_ = tls.Client(client, &tls.Config{Certificates: both, InsecureSkipVerify: true}).HandshakeContext(t.Context())
	}()
	return tls.Server(server, &tls.Config{Certificates: both, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true})
}

// TestExternal: the client is who its certificate says, whatever else it says.
func TestExternal(t *testing.T) {
	l := New(Options{Users: func() *auth.Auth { return nil }})
	s := Always(listener.Settings{ClientCA: "f"}, false)
	x := open(t, s)
	if err := enter(t, x, l, External, home, ""); !errors.Is(err, ErrMessage) || x.Known() {
		t.Errorf("without a certificate: %v", err)
	}
	if err := enter(t, x, l, Plain, home, "\x00ann\x00x"); !errors.Is(err, ErrMechanism) {
		t.Errorf("a mechanism that the listener does not have: %v", err)
	}
	for _, message := range []string{"", "eve"} {
		x := NewSessions().Open(&listener.Listener{SASL: s.SASL}, time.Now, func(error) {})
		t.Cleanup(x.Close)
		if err := x.Greet(t.Context(), secure(t, "ann"), time.Minute); err != nil || x.Known() {
			t.Fatalf("known before the login: %v", err)
		}
		if err := enter(t, x, l, External, home, message); err != nil || !x.Known() || x.Principal() != "User:ann" {
			t.Errorf("%q: %v, %s", message, err, x.Principal())
		}
	}
	if _, err := open(t, Always(listener.Settings{}, false)).Begin(l, External, home); !errors.Is(err, ErrMechanism) {
		t.Errorf("EXTERNAL at a listener without certificates: %v", err)
	}
}
