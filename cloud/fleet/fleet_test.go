package fleet

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// recovered returns a fleet that has replayed the log.
func recovered(t *testing.T, log *machinetest.Log, o Options) *Fleet {
	t.Helper()
	f := New(o)
	for _, e := range log.Entries {
		if err := f.Apply(e.Kind, e.Body); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func start(t *testing.T, o Options) (*Fleet, *machinetest.Log) {
	t.Helper()
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.CA = ca
	f := New(o)
	j := machinetest.New(f)
	f.Serve(j)
	return f, j
}

func request(t *testing.T, id string) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func token16(t *testing.T, f *Fleet, uses int, life time.Duration, ids ...string) [16]byte {
	t.Helper()
	text, err := f.NewToken(t.Context(), uses, life, ids)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := join.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok.Secret
}

func TestJoin(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f, j := start(t, Options{Now: func() time.Time { return now }})
	any2 := token16(t, f, 2, time.Hour)
	bound := token16(t, f, 5, time.Hour, "gw-b")
	_, csrA := request(t, "gw-a")
	_, csrA2 := request(t, "gw-a")
	_, csrB := request(t, "gw-b")
	_, csrC := request(t, "gw-c")

	der, err := f.Join(t.Context(), any2, "gw-a", csrA)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		secret [16]byte
		id     string
		csr    []byte
		want   error
	}{
		{"unknown token", [16]byte{1}, "gw-c", csrC, join.ErrTokenUnknown},
		{"bound to another", bound, "gw-c", csrC, join.ErrTokenBound},
		{"bound to this", bound, "gw-b", csrB, nil},
		{"taken by another key", any2, "gw-a", csrA2, join.ErrGatewayTaken},
		{"again with its key", any2, "gw-a", csrA, nil},
		{"spent", any2, "gw-c", csrC, join.ErrTokenSpent},
		{"request for another id", bound, "gw-b", csrC, join.ErrRequest},
	} {
		if _, err := f.Join(t.Context(), step.secret, step.id, step.csr); !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, err, step.want)
		}
	}
	late := token16(t, f, 1, time.Hour)
	now = now.Add(2 * time.Hour)
	if _, err := f.Join(t.Context(), late, "gw-c", csrC); !errors.Is(err, join.ErrTokenExpired) {
		t.Errorf("expired token: %v", err)
	}
	if err := f.Admit("gw-a", cert); err != nil {
		t.Errorf("admit a member: %v", err)
	}
	if err := f.Admit("gw-x", cert); !errors.Is(err, ErrUnknownGateway) {
		t.Errorf("admit a stranger: %v", err)
	}

	// Everything is in the journal: the next owner knows the same.
	next := recovered(t, j, Options{})
	if err := next.Admit("gw-a", cert); err != nil {
		t.Errorf("admit after recovery: %v", err)
	}
	if got := len(next.Gateways()); got != 2 {
		t.Errorf("%d gateways after recovery", got)
	}
}

func TestRevokeAndReset(t *testing.T) {
	f, _ := start(t, Options{})
	secret := token16(t, f, 10, time.Hour)
	_, csr := request(t, "gw")
	der, err := f.Join(t.Context(), secret, "gw", csr)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Revoke(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	if err := f.Admit("gw", cert); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("admit a revoked gateway: %v", err)
	}
	if _, err := f.Renew(t.Context(), "gw", csr); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("renew a revoked gateway: %v", err)
	}
	if err := f.Reset(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Renew(t.Context(), "gw", csr); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("renew, without a token, after a reset: %v", err)
	}
	_, other := request(t, "gw")
	if _, err := f.Join(t.Context(), secret, "gw", other); err != nil {
		t.Errorf("join with another key after a reset: %v", err)
	}
	if err := f.Admit("gw", cert); err == nil {
		t.Error("the old key is still admitted")
	}
	if err := f.Reset(t.Context(), "nobody"); !errors.Is(err, ErrUnknownGateway) {
		t.Errorf("reset a stranger: %v", err)
	}
}

func TestAuthority(t *testing.T) {
	b := mem.New()
	secret := []byte("a secret of some length")
	first, err := Authority(t.Context(), b, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Authority(t.Context(), b, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if join.Fingerprint(first.Certificate()) != join.Fingerprint(second.Certificate()) {
		t.Error("two nodes got two CAs")
	}
	if _, err := Authority(t.Context(), b, nil, time.Now()); !errors.Is(err, join.ErrSecret) {
		t.Errorf("without the secret: %v", err)
	}
}

func TestApplyRefusesRubbish(t *testing.T) {
	for kind, body := range map[uint16]string{kindToken: "{}", kindJoined: "{}", 42: ""} {
		if err := New(Options{}).Apply(kind, []byte(body)); err == nil {
			t.Errorf("kind %d with %q was applied", kind, body)
		}
	}
	if text, err := func() (string, error) {
		f, _ := start(t, Options{})
		return f.NewToken(t.Context(), 0, time.Hour, nil)
	}(); err == nil || strings.Contains(text, "weir1") {
		t.Errorf("a token without uses: %q %v", text, err)
	}
}

// TestAuthorityMissing: in a bucket with a log no second CA is made, and a changed one
// is not used.
func TestAuthorityMissing(t *testing.T) {
	b := mem.New()
	if err := CheckAuthority(t.Context(), b); err != nil {
		t.Errorf("in an empty bucket: %v", err)
	}
	if _, err := Authority(t.Context(), b, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	body, err := b.Get(t.Context(), AuthorityKey, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: b, Beside: []string{AuthorityKey}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	put := func(body []byte) {
		if err := b.Delete(t.Context(), AuthorityKey); err != nil {
			t.Fatal(err)
		}
		if body == nil {
			return
		}
		if err := b.Create(t.Context(), AuthorityKey, body); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, want error) {
		t.Helper()
		_, err := Authority(t.Context(), b, nil, time.Now())
		if checked := CheckAuthority(t.Context(), b); !errors.Is(err, want) || !errors.Is(checked, want) || !strings.Contains(err.Error(), AuthorityKey) {
			t.Errorf("%s: %v, and the check says %v", what, err, checked)
		}
	}
	put(nil)
	refused("missing", storage.ErrMissing)
	for at := range body {
		for _, bit := range []byte{1, 0x10} {
			changed := slices.Clone(body)
			changed[at] ^= bit
			put(changed)
			if r, err := check.Check(t.Context(), b, nil); err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], AuthorityKey) {
				t.Errorf("byte %d changed: the check of the log says %q, %v", at, r.Problems, err)
			}
			if at == 8 { // plain, or wrapped by a secret that nobody has
				continue
			}
			refused(fmt.Sprintf("byte %d changed", at), join.ErrCorrupt)
		}
	}
}

// TestTokensAreForgotten: the tokens of earlier starts do not pile up, and one
// that has expired lately is still answered as such.
func TestTokensAreForgotten(t *testing.T) {
	now := time.Now()
	f, j := start(t, Options{Now: func() time.Time { return now }})
	var last, recent [16]byte
	for range 50 {
		recent, last = last, token16(t, f, 1, DefaultTokenLife)
		now = now.Add(2 * 24 * time.Hour)
	}
	for name, f := range map[string]*Fleet{"owner": f, "recovered": recovered(t, j, f.o)} {
		if n := len(f.tokens); n < 2 || n > 6 {
			t.Errorf("%s: %d tokens are kept", name, n)
		}
		if _, err := f.Join(t.Context(), recent, "gw", nil); !errors.Is(err, join.ErrTokenExpired) {
			t.Errorf("%s: a token that has just expired: %v", name, err)
		}
	}
}

// TestChanged: who keeps a copy is told of each gateway that must not go on.
func TestChanged(t *testing.T) {
	var told []string
	f := New(Options{Changed: func(id string) { told = append(told, id) }})
	apply := func(kind uint16, body string) {
		t.Helper()
		if err := f.Apply(kind, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		apply(kindJoined, fmt.Sprintf(`{"id":%q,"key":"AQ=="}`, id))
	}
	apply(kindRevoked, "a")
	apply(kindReset, "b")
	apply(kindReset, "unknown")
	if !slices.Equal(told, []string{"a", "b", "unknown"}) {
		t.Errorf("told of %q", told)
	}
}
