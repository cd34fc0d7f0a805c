package bearer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer signs tokens, and publishes its keys.
type issuer struct {
	keys  map[string]*ecdsa.PrivateKey
	asked int
	down  bool
}

func newIssuer(t *testing.T, ids ...string) *issuer {
	t.Helper()
	i := &issuer{keys: make(map[string]*ecdsa.PrivateKey)}
	for _, id := range ids {
		i.add(t, id)
	}
	return i
}

func (i *issuer) add(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.keys[id] = key
}

func (i *issuer) set(t *testing.T) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, key := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"})
	}
	body, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (i *issuer) ServeHTTP(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if i.asked++; i.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(i.set(t))
	})
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, c jwt.Claims) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	if id != "" {
		opts.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var now = time.Unix(1_700_000_000, 0)

func good() jwt.Claims {
	return jwt.Claims{Issuer: "https://id.example", Subject: "ann", Audience: jwt.Audience{"other", "weir"},
		Expiry: jwt.NewNumericDate(now.Add(time.Minute)), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now)}
}

func TestVerify(t *testing.T) {
	i := newIssuer(t, "k1")
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, i.set(t), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{Keys: path, Issuer: "https://id.example", Audience: "weir", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*jwt.Claims)) string {
		c := good()
		change(&c)
		return sign(t, jose.ES256, i.keys["k1"], "k1", c)
	}
	stranger := newIssuer(t, "k1")
	public, err := crypto.PublicKey(i.keys["k1"].Public()).(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	valid := with(func(*jwt.Claims) {})
	for what, token := range map[string]string{
		"valid":       valid,
		"just late":   with(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-leeway / 2)) }),
		"without kid": sign(t, jose.ES256, i.keys["k1"], "", good()),
	} {
		if got, err := v.Verify(t.Context(), token); err != nil || got.Subject != "ann" || got.Expires.IsZero() {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	for what, token := range map[string]string{
		"nothing":         "",
		"no token":        "a.b.c",
		"long":            strings.Repeat("x", maxToken+1),
		"cut":             valid[:len(valid)-4],
		"another body":    strings.Split(with(func(c *jwt.Claims) { c.Subject = "root" }), ".")[1] + valid,
		"unsigned":        "eyJhbGciOiJub25lIn0." + strings.Split(valid, ".")[1] + ".",
		"public as key":   sign(t, jose.HS256, public, "k1", good()),
		"another signer":  sign(t, jose.ES256, stranger.keys["k1"], "k1", good()),
		"unknown key":     sign(t, jose.ES256, i.keys["k1"], "k9", good()),
		"expired":         with(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-2 * leeway)) }),
		"no expiry":       with(func(c *jwt.Claims) { c.Expiry = nil }),
		"not yet":         with(func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(now.Add(2 * leeway)) }),
		"another issuer":  with(func(c *jwt.Claims) { c.Issuer = "https://other.example" }),
		"for others":      with(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} }),
		"for nobody":      with(func(c *jwt.Claims) { c.Audience = nil }),
		"without subject": with(func(c *jwt.Claims) { c.Subject = "" }),
	} {
		got, err := v.Verify(t.Context(), token)
		if !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		if err != nil && len(token) > 20 && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error quotes the token: %v", what, err)
		}
	}
}

// Keys behind a URL are read when a token names a new one, but not for each token
// that names nonsense, and an issuer that is away for a while is no loss.
func TestKeysChange(t *testing.T) {
	i := newIssuer(t, "k1")
	s := httptest.NewServer(i.ServeHTTP(t))
	t.Cleanup(s.Close)
	at := now
	v, err := New(Options{Keys: s.URL, Issuer: "https://id.example", Audience: "weir", Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(key, id string) error {
		c := good()
		c.Expiry, c.NotBefore = jwt.NewNumericDate(at.Add(time.Minute)), nil
		_, err := v.Verify(t.Context(), sign(t, jose.ES256, i.keys[key], id, c))
		return err
	}
	for range 3 {
		if err := verify("k1", "k1"); err != nil || i.asked != 1 {
			t.Errorf("%v, asked %d times", err, i.asked)
		}
	}
	i.add(t, "k2")
	if err := verify("k2", "k2"); !errors.Is(err, ErrToken) || i.asked != 1 {
		t.Errorf("at once: %v, asked %d times", err, i.asked)
	}
	at = at.Add(keysPause)
	if err := verify("k2", "k2"); err != nil || i.asked != 2 {
		t.Errorf("a new key: %v, asked %d times", err, i.asked)
	}
	for range 5 {
		if err := verify("k1", "nonsense"); !errors.Is(err, ErrToken) || i.asked != 2 {
			t.Errorf("nonsense: %v, asked %d times", err, i.asked)
		}
	}
	i.down, at = true, at.Add(keysLife)
	if err := verify("k1", "k1"); err != nil || i.asked != 3 {
		t.Errorf("the issuer is away: %v, asked %d times", err, i.asked)
	}
	at = at.Add(keysPause)
	if err := verify("k1", "k9"); !errors.Is(err, ErrKeys) {
		t.Errorf("the issuer is away, an unknown key: %v", err)
	}
}

func TestOptions(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(bad, []byte(`{"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Keys: "x", Issuer: "i"}, {Keys: "x", Audience: "a"}, {Keys: bad, Issuer: "i", Audience: "a"}, {Keys: bad + "x", Issuer: "i", Audience: "a"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
