// Package fleet manages the gateways: the certificate authority that they trust, the
// tokens with which new ones join, the members, and when each was last in contact. The
// authority is an object of its own in the bucket, because a standby needs it to
// redirect gateways to the owner. Tokens and members are in the journal, so every owner
// of the shard has the same.
package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/sync/join"
)

// DefaultTokenLife and DefaultTokenUses are the defaults of a new token.
const (
	DefaultTokenLife = 24 * time.Hour
	DefaultTokenUses = 100
)

// Gateway is one member.
type Gateway struct {
	ID      string    `json:"id"`
	Key     []byte    `json:"key"` // SHA-256 of its public key; nil after a reset
	Joined  time.Time `json:"joined"`
	Expires time.Time `json:"expires"` // of its newest certificate
	Revoked bool      `json:"revoked"`

	Allow []string `json:"allow,omitempty"` // patterns of topics; see grants
	Deny  []string `json:"deny,omitempty"`

	Seen *Seen `json:"seen,omitempty"` // see Contact; nil: the log does not have it
}

// token is a join token; only its holders know its secret.
type token struct {
	Hash     []byte    `json:"hash"` // SHA-256 of the secret
	Expires  time.Time `json:"expires"`
	Uses     int       `json:"uses"`               // how many gateways may join with it
	Gateways []string  `json:"gateways,omitempty"` // the ids that it is for; nil: any
	Topics   []string  `json:"topics,omitempty"`   // the only topics that gateways joining with it may write to; nil: all. Format level 2
	Made     time.Time `json:"made,omitzero"`      // zero before format level 2
	Node     string    `json:"node,omitempty"`     // the node that it is for; "": it is for gateways. Format level 2
}

// Options configure a Fleet.
type Options struct {
	CA  *join.CA // see Authority
	Now func() time.Time

	// Changed, if not nil, is called when a gateway was revoked or reset, so that its
	// session can be closed. It must not block.
	Changed func(gateway string)

	// NodesChanged, if not nil, is called when a node was revoked or reset. It must not
	// block.
	NodesChanged func()
}

// Fleet is a state.Machine.
type Fleet struct {
	o Options

	joining machine.Turn // one join at a time, from the check to the durable entry
	log     machine.Log  // set by Start

	mu       sync.RWMutex // guards what Apply changes
	tokens   map[[sha256.Size]byte]*token
	gateways map[string]*Gateway
	nodes    map[string]*Node // those that were ever revoked or have joined, by name

	hearing sync.Mutex          // guards what this owner has heard of gateways; locked after mu
	watched map[string]*watched // by id; members only
	refused int                 // of those, with refusals
}

// New returns an empty fleet.
func New(o Options) *Fleet {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Fleet{o: o, tokens: make(map[[sha256.Size]byte]*token), gateways: make(map[string]*Gateway), nodes: make(map[string]*Node), watched: make(map[string]*watched)}
}

// Start begins to serve.
func (f *Fleet) Start(_ context.Context, log machine.WaitingLog) { f.Serve(log) }

// Serve makes Fleet accept changes, which it writes to log.
func (f *Fleet) Serve(log machine.Log) { f.log = log }

// Close ends the service, for which nothing runs.
func (f *Fleet) Close() error { return nil }

// NewToken makes a join token: uses gateways may join with it until life is over; with
// ids, only those. With topics, gateways that join with it may write only to topics
// that match one of these patterns (see Allow). The token is durable on return. Only
// the caller sees it: the journal keeps its hash.
func (f *Fleet) NewToken(ctx context.Context, uses int, life time.Duration, ids []string, topics ...string) (string, error) {
	if uses <= 0 || life <= 0 {
		return "", errors.New("a join token needs at least one use and some time")
	}
	for _, id := range ids {
		if err := f.checkID(id); err != nil {
			return "", err
		}
	}
	if err := CheckPatterns(topics); err != nil {
		return "", err
	}
	if len(topics) > 0 && f.log.Level() < GrantsLevel {
		return "", machine.ErrLevel
	}
	t := join.NewToken(f.o.CA)
	hash := join.HashSecret(t.Secret)
	made := token{Hash: hash[:], Expires: f.o.Now().Add(life), Uses: uses, Gateways: ids, Topics: topics, Made: f.o.Now()}
	if err := machine.Propose(ctx, f.log, kindToken, "a join token", made); err != nil {
		return "", err
	}
	return t.Reveal(), nil
}

// Join admits a gateway and returns its certificate (DER). If the id is already known,
// the gateway needs its known key, or a Reset. The errors are those that join.Verdict
// knows.
func (f *Fleet) Join(ctx context.Context, secret [16]byte, id string, csr []byte) ([]byte, error) {
	defer f.joining.Take(ctx)()
	hash := join.HashSecret(secret)
	if err := f.admitToken(hash, id); err != nil {
		return nil, err
	}
	if err := f.checkID(id); err != nil {
		return nil, err
	}
	return f.certify(ctx, id, csr, hash[:])
}

func (f *Fleet) admitToken(hash [sha256.Size]byte, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tokens[hash]
	switch {
	case t == nil:
		return join.ErrTokenUnknown
	case f.o.Now().After(t.Expires):
		return join.ErrTokenExpired
	case t.Uses <= 0:
		return join.ErrTokenSpent
	case t.Node != "":
		return fmt.Errorf("%w: it is for the node %q", join.ErrTokenBound, t.Node)
	case t.Gateways != nil && !slices.Contains(t.Gateways, id):
		return join.ErrTokenBound
	}
	return nil
}

// checkID refuses an id that new gateways must not have. A gateway that has one keeps
// it.
func (f *Fleet) checkID(id string) error {
	if _, err := f.Gateway(id); err == nil {
		return join.CheckGateway(id)
	}
	return join.CheckNewGateway(id)
}

// Renew gives a gateway that is connected with its certificate a new one for the same
// key. Durable on return.
func (f *Fleet) Renew(ctx context.Context, id string, csr []byte) ([]byte, error) {
	defer f.joining.Take(ctx)()
	switch g, err := f.Gateway(id); {
	case err != nil:
		return nil, err
	case g.Key == nil:
		return nil, fmt.Errorf("gateway was reset and must join again: %w", join.ErrRevoked)
	}
	return f.certify(ctx, id, csr, nil)
}

// certify is called with joining held.
func (f *Fleet) certify(ctx context.Context, id string, csr []byte, tokenHash []byte) ([]byte, error) {
	der, err := f.o.CA.SignGateway(csr, id, f.o.Now(), 0)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse what was signed: %w", err)
	}
	key := keyHash(cert)
	if g, err := f.Gateway(id); err == nil {
		switch {
		case g.Revoked:
			return nil, join.ErrRevoked
		case g.Key != nil && !slices.Equal(g.Key, key):
			return nil, fmt.Errorf("%w: %s", join.ErrGatewayTaken, id)
		}
	}
	now := joined{Gateway{ID: id, Key: key, Joined: f.o.Now(), Expires: cert.NotAfter}, tokenHash}
	if err := machine.Propose(ctx, f.log, kindJoined, "a gateway", now); err != nil {
		return nil, err
	}
	return der, nil
}

func keyHash(cert *x509.Certificate) []byte {
	sum := join.Fingerprint(cert)
	return sum[:]
}

// Admit checks a gateway whose certificate is valid: it must be a member, with this
// key, and not revoked.
func (f *Fleet) Admit(id string, cert *x509.Certificate) error {
	g, err := f.Gateway(id)
	switch {
	case err != nil:
		return err
	case g.Revoked:
		return join.ErrRevoked
	case !slices.Equal(g.Key, keyHash(cert)):
		return fmt.Errorf("%w: it was reset and must join again: give it a new token with --join-file", join.ErrRevoked)
	}
	return nil
}

// Reset forgets a gateway's key: the next join under its id may use another.
func (f *Fleet) Reset(ctx context.Context, id string) error { return f.change(ctx, kindReset, id) }

// Revoke bars a gateway until a Reset.
func (f *Fleet) Revoke(ctx context.Context, id string) error { return f.change(ctx, kindRevoked, id) }

func (f *Fleet) change(ctx context.Context, kind uint16, id string) error {
	if _, err := f.Gateway(id); err != nil {
		return err
	}
	return f.log.Propose(ctx, kind, []byte(id))
}

// Gateway returns one member, or ErrUnknownGateway.
func (f *Fleet) Gateway(id string) (Gateway, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if g := f.gateways[id]; g != nil {
		return *g, nil
	}
	return Gateway{}, fmt.Errorf("%w: %s", ErrUnknownGateway, id)
}

// Gateways lists the members by id.
func (f *Fleet) Gateways() []Gateway {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]Gateway, 0, len(f.gateways))
	for _, g := range f.gateways {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Gateway) int { return strings.Compare(a.ID, b.ID) })
	return all
}
