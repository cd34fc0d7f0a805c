package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// NodesLevel is the format level from which on a node can be revoked.
const NodesLevel = 2

// Node is a node of the cluster that was revoked, now or at some time. It is the body of
// kindNode, too.
type Node struct {
	Name    string `json:"name"`
	Revoked bool   `json:"revoked"`

	// Since is when it was last revoked, in whole seconds. Certificates of this name that
	// were issued before are refused, also after a reset.
	Since time.Time `json:"since"`
}

// applyNode is called with mu held.
func (f *Fleet) applyNode(body []byte) error {
	var n Node
	if err := json.Unmarshal(body, &n); err != nil || n.Name == "" {
		return fmt.Errorf("decode an entry of a node: %w", errors.Join(err, machine.ErrShape))
	}
	f.nodes[n.Name] = &n
	return nil
}

// RevokeNode bars a node from the others until ResetNode. Certificates of that name that
// were issued before now are refused for good. Durable on return. Errors: machine.ErrLevel.
func (f *Fleet) RevokeNode(ctx context.Context, name string) error {
	return f.changeNode(ctx, Node{Name: name, Revoked: true, Since: f.o.Now().UTC().Truncate(time.Second)})
}

// ResetNode admits a revoked node again, with a certificate that it has made since. Durable
// on return. Errors: ErrUnknownNode if it is not revoked, machine.ErrLevel.
func (f *Fleet) ResetNode(ctx context.Context, name string) error {
	n, known := f.node(name)
	if !known || !n.Revoked {
		return fmt.Errorf("%w: %s", ErrUnknownNode, name)
	}
	return f.changeNode(ctx, Node{Name: name, Since: n.Since})
}

func (f *Fleet) changeNode(ctx context.Context, n Node) error {
	if f.log.Level() < NodesLevel {
		return machine.ErrLevel
	}
	return machine.Propose(ctx, f.log, kindNode, "a node", n)
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
