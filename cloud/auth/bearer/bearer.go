// Package bearer checks the tokens by which clients log in without a password
// here: signed JWTs [RFC-7519] of an issuer whose public keys are a JSON Web Key
// Set [RFC-7517].
package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Errors of Verify, to be tested with errors.Is.
var (
	ErrToken = errors.New("token is not accepted")
	ErrKeys  = errors.New("keys of the issuer cannot be read")
)

const (
	leeway      = 30 * time.Second // between the issuer's clock and ours
	maxKeys     = 1 << 20          // bytes of a key set
	maxToken    = 32 << 10         // bytes
	keysLife    = time.Hour        // after which the keys are read again
	keysPause   = 30 * time.Second // between two readings, however many tokens name an unknown key
	keysTimeout = 10 * time.Second // of one reading
)

// algorithms are those with a public key: what only its holder can have signed.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Options of a Verifier. All but Now and Client are required.
type Options struct {
	Keys     string // http(s) URL or path of the key set
	Issuer   string // that a token must name
	Audience string // that a token must be for
	Client   *http.Client
	Now      func() time.Time
}

// Verifier is safe for use by many goroutines.
type Verifier struct {
	o Options

	mu   sync.Mutex // guards what follows; held while the keys are read
	keys jose.JSONWebKeySet
	read time.Time // when the keys were asked for last
}

// Token is what a token that was accepted says.
type Token struct {
	Subject string
	Expires time.Time
}

// New checks the options. A key set in a file must be there already; one behind a
// URL is read with the first token.
func New(o Options) (*Verifier, error) {
	if o.Keys == "" || o.Issuer == "" || o.Audience == "" {
		return nil, errors.New("tokens need the issuer's keys, the issuer's name and the audience")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: keysTimeout}
	}
	v := &Verifier{o: o}
	if !v.remote() {
		if err := v.load(context.Background()); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *Verifier) remote() bool {
	return strings.HasPrefix(v.o.Keys, "http://") || strings.HasPrefix(v.o.Keys, "https://")
}

// Verify checks signature, issuer, audience and times of a token, and that it
// names a subject. Errors: ErrToken, ErrKeys.
func (v *Verifier) Verify(ctx context.Context, token string) (Token, error) {
	if len(token) > maxToken {
		return Token{}, fmt.Errorf("%w: it has %d bytes", ErrToken, len(token))
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return Token{}, fmt.Errorf("%w: it is not a JWT that is signed with a public key", ErrToken) // the cause may quote it
	}
	key, err := v.key(ctx, parsed.Headers[0].KeyID)
	if err != nil {
		return Token{}, err
	}
	var c jwt.Claims
	if err := parsed.Claims(key, &c); err != nil {
		return Token{}, fmt.Errorf("%w: the signature is wrong", ErrToken)
	}
	if c.Expiry == nil || c.Subject == "" {
		return Token{}, fmt.Errorf("%w: it has no subject or no time of expiry", ErrToken)
	}
	expected := jwt.Expected{Issuer: v.o.Issuer, AnyAudience: jwt.Audience{v.o.Audience}, Time: v.o.Now()}
	if err := c.ValidateWithLeeway(expected, leeway); err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return Token{Subject: c.Subject, Expires: c.Expiry.Time()}, nil
}

// key finds the public key that a token names, reading the keys again when they
// are old or do not have it.
func (v *Verifier) key(ctx context.Context, id string) (any, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, age := v.find(id), v.o.Now().Sub(v.read)
	if found != nil && age < keysLife {
		return found, nil
	}
	if age >= keysPause {
		switch err := v.load(ctx); {
		case err == nil:
			found = v.find(id)
		case found == nil:
			return nil, err
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: the issuer has no key %q", ErrToken, id)
	}
	return found, nil
}

// find returns nil if there is no such key, or not exactly one for a token that
// names none.
func (v *Verifier) find(id string) any {
	var found *jose.JSONWebKey
	for i, k := range v.keys.Keys {
		if id != "" && k.KeyID != id || k.Use != "" && k.Use != "sig" || !k.Valid() {
			continue
		}
		if found != nil {
			return nil
		}
		found = &v.keys.Keys[i]
	}
	if found == nil {
		return nil
	}
	return found.Public().Key
}

// load reads the keys.
func (v *Verifier) load(ctx context.Context) error {
	v.read = v.o.Now()
	body, err := v.body(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil || len(keys.Keys) == 0 {
		return fmt.Errorf("%w: %s is not a JSON Web Key Set", ErrKeys, v.o.Keys)
	}
	v.keys = keys
	return nil
}

func (v *Verifier) body(ctx context.Context) ([]byte, error) {
	if !v.remote() {
		return os.ReadFile(v.o.Keys)
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.o.Keys, nil)
	if err != nil {
		return nil, err
	}
	res, err := v.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", v.o.Keys, res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxKeys))
}
