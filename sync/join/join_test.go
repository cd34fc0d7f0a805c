package join

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var born = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA(born)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newIdentity(t *testing.T, ca *CA, gateway string, at time.Time, validity time.Duration) *Identity {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewCSR(key, gateway)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, gateway, at, validity)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(key, der, ca.Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestToken(t *testing.T) {
	ca := newCA(t)
	tok := NewToken(ca)
	printed := tok.Reveal()
	got, err := ParseToken(" " + printed + "\n")
	if err != nil || got != tok {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got.Fingerprint != Fingerprint(ca.Certificate()) {
		t.Error("fingerprint is not the CA's")
	}
	for i := range printed {
		b := []byte(printed)
		b[i] ^= 1
		if _, err := ParseToken(string(b)); !errors.Is(err, ErrTokenMalformed) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for _, s := range []string{"", "weir1.", "weir2." + printed[6:], printed[:len(printed)-1], printed + "A", printed + "="} {
		if _, err := ParseToken(s); !errors.Is(err, ErrTokenMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestTokenStaysOutOfLogs(t *testing.T) {
	tok := NewToken(newCA(t))
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", tok)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "token", fmt.Sprint(tok))
	fmt.Fprintf(&b, "%v %+v %#v %s", tok, tok, tok, tok)
	if secret := tok.Reveal()[6:20]; strings.Contains(b.String(), secret) || !strings.Contains(b.String(), "[hidden]") {
		t.Errorf("logged %s", b.String())
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("weir1." + strings.Repeat("A", 70))
	f.Add(Token{Secret: [16]byte{1}}.Reveal())
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err == nil && tok.Reveal() != strings.TrimSpace(s) {
			t.Fatalf("%q became %q", s, tok.Reveal())
		}
	})
}

func TestCAMarshal(t *testing.T) {
	ca := newCA(t)
	for _, secret := range [][]byte{nil, []byte("a long enough secret")} {
		b, err := ca.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnmarshalCA(b, secret)
		if err != nil || !got.cert.Equal(ca.cert) || !got.key.Equal(ca.key) {
			t.Fatalf("secret %q: %v", secret, err)
		}
		for _, n := range []int{0, 7, 12, 20, len(b) / 2, len(b) - 1} {
			if _, err := UnmarshalCA(b[:n], secret); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSecret) {
				t.Errorf("cut to %d: %v", n, err)
			}
		}
	}
	wrapped, err := ca.Marshal([]byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{nil, []byte("two"), {}} {
		if _, err := UnmarshalCA(wrapped, secret); !errors.Is(err, ErrSecret) {
			t.Errorf("secret %q: %v", secret, err)
		}
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := UnmarshalCA(wrapped, []byte("one")); !errors.Is(err, ErrSecret) {
		t.Errorf("flipped: %v", err)
	}
	if again, _ := ca.Marshal([]byte("one")); bytes.Equal(again, wrapped) {
		t.Error("two wrappings are equal")
	}
}

func FuzzUnmarshalCA(f *testing.F) {
	ca, err := NewCA(born)
	if err != nil {
		f.Fatal(err)
	}
	for _, secret := range [][]byte{nil, []byte("s")} {
		b, err := ca.Marshal(secret)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := UnmarshalCA(b, []byte("s")); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSecret) {
			t.Fatal(err)
		}
	})
}

func TestDeriveIsStable(t *testing.T) {
	ca := newCA(t)
	b, err := ca.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnmarshalCA(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := ca.Derive("a", 32)
	y, _ := again.Derive("a", 32)
	z, _ := ca.Derive("b", 32)
	if !bytes.Equal(x, y) || bytes.Equal(x, z) || len(x) != 32 {
		t.Error("derived keys")
	}
}

func TestGatewayID(t *testing.T) {
	for _, id := range []string{"a", "gw-1", "A.b_c-9", strings.Repeat("x", 64)} {
		if err := CheckGateway(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "a b", "ä", "a/b", "a\x00", strings.Repeat("x", 65)} {
		if err := CheckGateway(id); !errors.Is(err, ErrGatewayID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestCSR(t *testing.T) {
	key, _ := NewKey()
	csr, err := NewCSR(key, "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckCSR(csr, "gw-2"); !errors.Is(err, ErrRequest) {
		t.Errorf("another name: %v", err)
	}
	for i := range csr {
		b := bytes.Clone(csr)
		b[i] ^= 0x40
		if _, err := CheckCSR(b, "gw-1"); err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	if _, err := newCA(t).SignGateway(csr, "gw-2", born, 0); !errors.Is(err, ErrRequest) {
		t.Errorf("signed for another: %v", err)
	}
}

func TestCheckClient(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	leaf := newIdentity(t, ca, "gw-1", born, 10*day).Leaf()
	node, err := ca.SignServer(born)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		cert *x509.Certificate
		ca   *x509.Certificate
		at   time.Duration
		want error
	}{
		{"valid", leaf, ca.cert, day, nil},
		{"early", leaf, ca.cert, -day, ErrNotYet},
		{"expired", leaf, ca.cert, 11 * day, ErrExpired},
		{"at the end of grace", leaf, ca.cert, 409 * day, ErrExpired},
		{"too old", leaf, ca.cert, 411 * day, ErrTooOld},
		{"foreign", leaf, other.cert, day, ErrForeign},
		{"a node's", node.Leaf, ca.cert, day, ErrForeign},
		{"the CA's own", ca.cert, ca.cert, day, ErrForeign},
	} {
		err := CheckClient(x.cert, x.ca, born.Add(x.at))
		if !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestIdentityFile(t *testing.T) {
	ca := newCA(t)
	id := newIdentity(t, ca, "gw-1", born, day)
	path := filepath.Join(t.TempDir(), "identity.pem")
	if _, err := LoadIdentity(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing: %v", err)
	}
	if err := id.Save(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	got, err := LoadIdentity(path)
	if err != nil || got.Gateway() != "gw-1" || !got.Leaf().Equal(id.Leaf()) || !got.CA().Equal(ca.cert) {
		t.Fatalf("got %+v, %v", got, err)
	}

	csr, err := got.CSR()
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, "gw-1", born.Add(day), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Renew(der); err != nil {
		t.Fatal(err)
	}
	again, err := LoadIdentity(path)
	if err != nil || !again.Leaf().NotAfter.Equal(born.Add(day+DefaultValidity)) {
		t.Fatalf("renewed: %v, %v", again.Leaf().NotAfter, err)
	}
	if err := got.Renew(newIdentity(t, ca, "gw-1", born, day).Leaf().Raw); !errors.Is(err, ErrCorrupt) {
		t.Errorf("certificate for another key: %v", err)
	}
	// A disk that takes nothing does not keep a gateway from its new certificate.
	if err := os.MkdirAll(filepath.Join(path+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	later, err := ca.SignGateway(csr, "gw-1", born.Add(2*day), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Renew(later); !errors.Is(err, ErrNotStored) || !got.Leaf().NotAfter.Equal(born.Add(2*day+DefaultValidity)) {
		t.Errorf("renewed on a full disk: %v, until %v", err, got.Leaf().NotAfter)
	}
	if again, err = LoadIdentity(path); err != nil || !again.Leaf().NotAfter.Equal(born.Add(day+DefaultValidity)) {
		t.Errorf("what lies on the disk: %v, %v", again.Leaf().NotAfter, err)
	}
	for _, s := range []string{"", "junk", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for i, err := range verdicts() {
		if got := Verdict(err); int(got) != i {
			t.Errorf("%v travels as %d", err, got)
		}
		back := VerdictError(uint8(i), "text")
		if !errors.Is(back, err) {
			t.Errorf("%d comes back as %v", i, back)
		}
	}
	if !errors.Is(VerdictError(Verdict(errors.New("other")), "other"), ErrUnavailable) || !errors.Is(VerdictError(200, ""), ErrUnavailable) {
		t.Error("unknown verdicts")
	}
}

// handshake runs TLS over loopback and returns both ends' errors.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		a.Close()
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	b.Close()
	return <-done, clientErr
}

func TestTLS(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	node, err := ca.SignServer(born)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return born.Add(100 * day) }
	server := ServerTLS(ca.cert, node, now, func(c *x509.Certificate) error {
		if c.Subject.CommonName == "bad" {
			return ErrRevoked
		}
		return nil
	})
	id := newIdentity(t, ca, "gw-1", born, 365*day)
	clock1970 := func() time.Time { return time.Unix(0, 0) }
	noCert := id.TLS(now)
	noCert.GetClientCertificate = nil
	for _, x := range []struct {
		name           string
		client         *tls.Config
		server, gatewy error // nil: must succeed; errAny: must fail
	}{
		{"joined", id.TLS(now), nil, nil},
		{"clock at 1970", id.TLS(clock1970), nil, nil},
		{"expired may renew", newIdentity(t, ca, "gw-1", born, 10*day).TLS(now), nil, nil},
		{"foreign gateway", newIdentity(t, other, "gw-1", born, 365*day).TLS(now), errAny, ErrForeign},
		{"revoked", newIdentity(t, ca, "bad", born, 365*day).TLS(now), ErrRevoked, errAny},
		{"no certificate", noCert, errAny, errAny},
		{"joining", JoinTLS(NewToken(ca), now), nil, nil},
		{"joining, clock at 1970", JoinTLS(NewToken(ca), clock1970), nil, nil},
		{"joining, clock far ahead", JoinTLS(NewToken(ca), func() time.Time { return born.Add(9000 * day) }), errAny, ErrExpired},
		{"joining another cloud", JoinTLS(NewToken(other), now), errAny, ErrForeign},
	} {
		serverErr, clientErr := handshake(t, server, x.client)
		check := func(who string, got, want error) {
			if (got == nil) != (want == nil) || want != errAny && !errors.Is(got, want) {
				t.Errorf("%s: %s got %v, want %v", x.name, who, got, want)
			}
		}
		check("node", serverErr, x.server)
		check("gateway", clientErr, x.gatewy)
	}
}

var errAny = errors.New("any")

// A resumed session skips the verification of certificates, but not ours.
func TestResumptionIsChecked(t *testing.T) {
	ca := newCA(t)
	node, err := ca.SignServer(born)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return born.Add(day) }
	revoked := false
	server := ServerTLS(ca.cert, node, now, func(*x509.Certificate) error {
		if revoked {
			return ErrRevoked
		}
		return nil
	})
	client := newIdentity(t, ca, "gw-1", born, 365*day).TLS(now)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if s, c := handshake(t, server, client); s != nil || c != nil {
		t.Fatal(s, c)
	}
	revoked = true
	if s, _ := handshake(t, server, client); !errors.Is(s, ErrRevoked) {
		t.Fatalf("resumed although revoked: %v", s)
	}
}

// TestOpenKey: the key that a gateway asks to join with outlives the asking.
func TestOpenKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first, err := OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenKey(path)
	if err != nil || !first.Equal(again) {
		t.Errorf("another key the second time: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("rubbish: %v", err)
	}
}
