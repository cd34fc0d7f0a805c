package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/sync/join"
)

// NodesLevel is the format level from which on a node can be revoked.
const NodesLevel = 2

// Node is a node of the cluster that was revoked, now or at some time, or has joined with a
// token.
type Node struct {
	Name    string `json:"name"`
	Revoked bool   `json:"revoked"`

	// Since is the end of the second in which it was last revoked, or joined; if both were in
	// one second, a second later. Certificates of this name that were issued before are
	// refused, also after a reset.
	Since time.Time `json:"since,omitzero"`

	// Joined is when it last got its first certificate with a token: it has not needed the
	// CA's key. Zero: it has never, or not after it was last reset.
	Joined time.Time `json:"joined,omitzero"`
}

// nodeChanged is the body of kindNode.
type nodeChanged struct {
	Node
	Token []byte `json:"token,omitempty"` // hash of the one that was used
}

// applyNode is called with mu held.
func (f *Fleet) applyNode(body []byte) error {
	var n nodeChanged
	if err := json.Unmarshal(body, &n); err != nil || n.Name == "" {
		return fmt.Errorf("decode an entry of a node: %w", errors.Join(err, machine.ErrShape))
	}
	if len(n.Token) == sha256.Size {
		if t := f.tokens[[sha256.Size]byte(n.Token)]; t != nil {
			t.Uses--
		}
	}
	if n.Revoked {
		maps.DeleteFunc(f.tokens, func(_ [sha256.Size]byte, t *token) bool { return t.Node == n.Name })
	}
	f.nodes[n.Name] = &n.Node
	return nil
}

// from returns the Since of a node for which something happens at a time. Certificates have
// whole seconds: it is after those of this second, and of the last join, which are issued for
// its Since. The clock of another owner may have been ahead.
func (n Node) from(now time.Time) time.Time {
	since := now.UTC().Truncate(time.Second).Add(time.Second)
	if !since.After(n.Since) {
		since = n.Since.Add(time.Second)
	}
	return since
}

// NewNodeToken makes a token with which the node of a name, which does not have the CA's key,
// gets its first certificate, once, until life is over. Durable on return; only the caller
// sees it. Errors: machine.ErrLevel.
func (f *Fleet) NewNodeToken(ctx context.Context, name string, life time.Duration) (string, error) {
	if name == "" || life <= 0 {
		return "", errors.New("a token for a node needs its name and some time")
	}
	if f.log.Level() < NodesLevel {
		return "", machine.ErrLevel
	}
	t := join.NewToken(f.o.CA)
	hash := join.HashSecret(t.Secret)
	made := token{Hash: hash[:], Expires: f.o.Now().Add(life), Uses: 1, Made: f.o.Now(), Node: name}
	if err := machine.Propose(ctx, f.log, kindToken, "a token for a node", made); err != nil {
		return "", err
	}
	return t.Reveal(), nil
}

// JoinNode admits a node without the CA's key. Certificates of its name from before are
// refused from now on. The errors are those that join.Verdict knows.
func (f *Fleet) JoinNode(ctx context.Context, secret [16]byte, name string, csr []byte) (join.Admission, error) {
	defer f.joining.Take(ctx)()
	if err := f.CheckNodeToken(secret, name); err != nil {
		return join.Admission{}, err
	}
	n, _ := f.node(name)
	if n.Revoked {
		return join.Admission{}, fmt.Errorf("%w: the node %q: weirctl nodes reset lets it in again", join.ErrRevoked, name)
	}
	since := n.from(f.o.Now())
	a, err := f.o.CA.AdmitNode(csr, name, since)
	if err != nil {
		return join.Admission{}, err
	}
	hash := join.HashSecret(secret)
	return a, machine.Propose(ctx, f.log, kindNode, "a node", nodeChanged{Node{Name: name, Since: since, Joined: since}, hash[:]})
}

// CheckNodeToken returns why a node cannot join with the secret of a token.
func (f *Fleet) CheckNodeToken(secret [16]byte, name string) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	t := f.tokens[join.HashSecret(secret)]
	switch {
	case t == nil:
		return join.ErrTokenUnknown
	case f.o.Now().After(t.Expires):
		return join.ErrTokenExpired
	case t.Node == "":
		return fmt.Errorf("%w: weirctl nodes token makes one for a node", join.ErrTokenBound)
	case t.Node != name:
		return fmt.Errorf("%w: it is for the node %q, and this one is %q", join.ErrTokenBound, t.Node, name)
	case t.Uses <= 0:
		return join.ErrTokenSpent
	}
	return nil
}

// RenewNode gives a node that has joined, and that is connected with its certificate, new
// ones. Nothing is written. Errors: join.ErrRevoked, join.ErrRequest.
func (f *Fleet) RenewNode(name string, csr []byte) (join.Admission, error) {
	n, _ := f.node(name)
	if n.Revoked || n.Joined.IsZero() {
		return join.Admission{}, fmt.Errorf("%w: the node %q has not joined, or is revoked", join.ErrRevoked, name)
	}
	now := f.o.Now()
	if now.Before(n.Since) { // it has joined in this second
		now = n.Since
	}
	return f.o.CA.AdmitNode(csr, name, now)
}

// NodeJoined reports whether a node has joined with a token, and so has not needed the CA's
// key.
func (f *Fleet) NodeJoined(name string) bool {
	n, _ := f.node(name)
	return !n.Joined.IsZero()
}

// RevokeNode bars a node from the others until ResetNode. Certificates of that name that
// were issued before now are refused for good, and so are tokens. Durable on return. Errors:
// machine.ErrLevel.
func (f *Fleet) RevokeNode(ctx context.Context, name string) error {
	defer f.joining.Take(ctx)()
	n, _ := f.node(name)
	return f.changeNode(ctx, Node{Name: name, Revoked: true, Since: n.from(f.o.Now()), Joined: n.Joined})
}

// ResetNode admits a revoked node again, with a certificate that is made from now on: it
// waits until Since is over. Durable on return. Errors: ErrUnknownNode
// if it is not revoked, machine.ErrLevel.
func (f *Fleet) ResetNode(ctx context.Context, name string) error {
	defer f.joining.Take(ctx)()
	n, known := f.node(name)
	if !known || !n.Revoked {
		return fmt.Errorf("%w: %s", ErrUnknownNode, name)
	}
	if err := pause.For(ctx, min(n.Since.Sub(f.o.Now()), 2*time.Second)); err != nil {
		return err
	}
	n.Revoked, n.Joined = false, time.Time{}
	return f.changeNode(ctx, n)
}

func (f *Fleet) changeNode(ctx context.Context, n Node) error {
	if f.log.Level() < NodesLevel {
		return machine.ErrLevel
	}
	return machine.Propose(ctx, f.log, kindNode, "a node", nodeChanged{Node: n})
}

func (f *Fleet) node(name string) (Node, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if n := f.nodes[name]; n != nil {
		return *n, true
	}
	return Node{}, false
}

// NodeRevoked reports whether the node of a name is revoked.
func (f *Fleet) NodeRevoked(name string) bool {
	n, _ := f.node(name)
	return n.Revoked
}

// RevokedNodes lists the names of the revoked nodes, sorted.
func (f *Fleet) RevokedNodes() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var all []string
	for name, n := range f.nodes {
		if n.Revoked {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, strings.Compare)
	return all
}

// AdmitNode checks a node whose certificate is valid and was issued then. The error is
// ErrNodeRevoked.
func (f *Fleet) AdmitNode(name string, issued time.Time) error {
	switch n, known := f.node(name); {
	case !known:
		return nil
	case n.Revoked:
		return fmt.Errorf("%w: %s", ErrNodeRevoked, name)
	case issued.Before(n.Since):
		return fmt.Errorf("%w: %s was, and its certificate is from before: start it again", ErrNodeRevoked, name)
	}
	return nil
}
