package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/sync/join"
)

// A revoked node is one to which the others do not talk: a handshake with it fails at both
// ends, connections to it are closed, it is no member, and what it owns is taken over. Each
// node judges by its copy of the catalogue, however old that is. Without one, and with one
// that is older than severalAge, it does for other nodes only what they need to find each
// other and the catalogue.

// ErrNodeRevoked ends a revoked node that learns of it.
var ErrNodeRevoked = errors.New("this node is revoked, and the others do not talk to it: weirctl nodes reset lets it in again")

// revocations is what this node knows of revoked nodes.
type revocations struct {
	members atomic.Pointer[fleet.Fleet] // of the newest catalogue that this node has had; nil: none yet
	known   atomic.Int64                // when members was last known to be in force, in Unix nanoseconds
	kick    chan struct{}               // a token: somebody was revoked, or members is another one
}

// judgeNodesBy makes members decide who is revoked. It was in force at a time.
func (n *Node) judgeNodesBy(members *fleet.Fleet, at time.Time) {
	r := &n.revocations
	r.known.Store(at.UnixNano())
	if r.members.Swap(members) != members {
		n.nodesChanged()
	}
}

// nodesChanged makes expelRevoked look.
func (n *Node) nodesChanged() {
	select {
	case n.revocations.kick <- struct{}{}:
	default:
	}
}

// nodeRevoked reports whether a node is revoked, as far as this one knows.
func (n *Node) nodeRevoked(name string) bool {
	members := n.revocations.members.Load()
	return members != nil && members.NodeRevoked(name)
}

// admitNode is for join.NodeIdentity.
func (n *Node) admitNode(name string, cert *x509.Certificate) error {
	if members := n.revocations.members.Load(); members != nil {
		return members.AdmitNode(name, join.IssuedAt(cert))
	}
	return nil
}

// knowsRevoked is for peer.Options: it returns why this node cannot tell who is revoked. A
// cluster of one shard goes on with what its standbys know.
func (n *Node) knowsRevoked() error {
	r := &n.revocations
	switch {
	case !n.several() || n.fleet() != nil:
		return nil
	case r.members.Load() == nil:
		return errors.New("this node has not heard yet which nodes are revoked")
	case time.Since(time.Unix(0, r.known.Load())) > severalAge:
		return fmt.Errorf("this node has not heard for %v which nodes are revoked", severalAge)
	}
	return nil
}

// tellTime is how long the owner of the catalogue leaves the connections of a node that it has
// revoked open, so that the node reads in the catalogue that it is. New ones are refused
// already, and requests on these.
const tellTime = 3 * time.Second

// expelRevoked ends the connections to nodes that are not admitted any more, until ctx ends.
// If this node is revoked, it ends the node.
func (n *Node) expelRevoked(ctx context.Context) {
	var before []string
	told := time.NewTimer(tellTime)
	defer told.Stop()
	for {
		select {
		case <-n.revocations.kick:
		case <-told.C:
			n.peers.expel()
			continue
		case <-ctx.Done():
			return
		}
		members := n.revocations.members.Load()
		if members == nil {
			continue
		}
		revoked := members.RevokedNodes()
		if slices.Contains(revoked, n.o.Node) {
			n.fail(ErrNodeRevoked)
			return
		}
		n.manager.Expel()
		if n.fleet() == nil {
			n.peers.expel()
		} else {
			told.Reset(tellTime)
		}
		if added := slices.DeleteFunc(slices.Clone(revoked), func(name string) bool { return slices.Contains(before, name) }); len(added) > 0 {
			n.o.Log.Warn("nodes are revoked: this node does not talk to them, and takes their shards over", "nodes", strings.Join(added, ","))
		}
		before = revoked
	}
}

// expel ends the connections to and of nodes that are not admitted any more: because they are
// revoked, or because of their certificates, as after a reset that this node has learned of
// together with the revocation.
func (p *peers) expel() {
	if p.server != nil {
		p.server.Expel()
	}
	p.client.Expel()
}

// revokeNode is for console.Options. Errors: broker.ErrNotOwner, console.ErrNode,
// machine.ErrLevel.
func (n *Node) revokeNode(ctx context.Context, name string, unknown bool) (console.RevokedNode, error) {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return console.RevokedNode{}, broker.ErrNotOwner
	}
	if ctx.Value(forwarderKey{}) == name {
		return console.RevokedNode{}, fmt.Errorf("%w: %s has passed this on, and would not get the answer: ask another node", console.ErrNode, name)
	}
	known := members.NodeRevoked(name) || unknown
	for _, c := range n.manager.Claims() {
		known = known || c.Owner == name
	}
	if err := mayRevoke(name, n.self, n.manager.Known(), known); err != nil {
		return console.RevokedNode{}, err
	}
	if err := members.RevokeNode(ctx, name); err != nil {
		return console.RevokedNode{}, err
	}
	err := n.users().RemoveAdmin(ctx, ownName(name))
	if errors.Is(err, auth.ErrUnknownAdmin) {
		err = nil // it has never owned the catalogue
	}
	if err != nil {
		err = fmt.Errorf("node %s is revoked, and its admin token is still valid: %w", name, err)
	}
	return console.RevokedNode{Name: name, Secret: !members.NodeJoined(name)}, err
}

// mayRevoke returns why a node cannot be revoked by self, the owner of the catalogue. others
// are the nodes that it knows; known says that a node has the name, whether or not it is one
// of them.
func mayRevoke(name string, self cluster.Node, others []cluster.Known, known bool) error {
	if name == self.Name {
		return fmt.Errorf("%w: %s owns the catalogue, and answers this: stop it, so that another node gets the catalogue, and revoke it then", console.ErrNode, name)
	}
	rest, alive, names := self.Roles.Has(cluster.RoleLog), false, []string{self.Name}
	for _, k := range others {
		names = append(names, k.Name)
		switch {
		case k.Name == name:
			known, alive = true, k.Alive
		case k.Alive && k.Roles.Has(cluster.RoleLog):
			rest = true
		}
	}
	switch {
	case !known:
		slices.Sort(names)
		return fmt.Errorf("%w: none of the nodes that are there, or were in the last minutes, is called %q: these are %s. With --unknown a name is revoked that none of them has", console.ErrNode, name, strings.Join(names, ", "))
	case alive && !rest:
		return fmt.Errorf("%w: %s is the last node with the role log: start another one, which gets its shards, and revoke it then", console.ErrNode, name)
	}
	return nil
}

// resetNode is for console.Options. Errors: broker.ErrNotOwner, console.ErrNode,
// machine.ErrLevel.
func (n *Node) resetNode(ctx context.Context, name string) error {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return broker.ErrNotOwner
	}
	err := members.ResetNode(ctx, name)
	if errors.Is(err, fleet.ErrUnknownNode) {
		return fmt.Errorf("%w: %w", console.ErrNode, err)
	}
	return err
}

// addRevoked adds the revoked nodes to a list of nodes.
func (n *Node) addRevoked(all []console.ClusterNode) []console.ClusterNode {
	members := n.revocations.members.Load()
	if members == nil {
		return all
	}
	for _, name := range members.RevokedNodes() {
		if i := slices.IndexFunc(all, func(c console.ClusterNode) bool { return c.Name == name }); i >= 0 {
			all = slices.Delete(all, i, i+1) // this node has not dropped it yet
		}
		all = append(all, console.ClusterNode{NodeStatus: console.NodeStatus{Name: name, Shards: []console.OwnedShard{}}, State: console.NodeRevoked})
	}
	return all
}
