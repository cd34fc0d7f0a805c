package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/sync/join"
)

// A node with Options.NoKeys does not read the CA's key. It gets its first certificates with a
// token from a node that has the key, keeps them in its data directory, and has them renewed
// by the owner of the catalogue.

// identityFile is where it keeps them.
const identityFile = "node-identity"

const (
	// joinAgain is how soon a node that nobody lets in asks again.
	joinAgain = time.Second
	// renewLooks is how often it looks whether its certificates are to be renewed.
	renewLooks = time.Minute
	// saltsLabel is what the key of salts is derived from, on nodes with the CA's key.
	saltsLabel = "salts of nonexistent users"
	// resetLabel is what the key of stateless resets is derived from.
	resetLabel = "quic stateless reset"
)

// ErrNoToken: a node without the CA's key has no valid certificate, and no token to get one.
var ErrNoToken = errors.New("this node has neither --secret-file nor a certificate of its own that is valid: make a token with weirctl nodes token, and set --join-file")

// openKeys reads the CA's key, or what this node has instead.
func (n *Node) openKeys(ctx context.Context) (err error) {
	if n.o.NoKeys {
		if n.door, err = n.openDoorKeys(ctx); err == nil {
			n.decoy = n.door.Salts()
		}
		return err
	}
	if n.ca, err = fleet.Authority(ctx, n.bucket, n.o.Secret, time.Now()); err != nil {
		return err
	}
	if n.decoy, err = n.ca.Derive(saltsLabel, 32); err != nil {
		return fmt.Errorf("derive the key of salts: %w", err)
	}
	return nil
}

// root is the certificate of the CA.
func (n *Node) root() *x509.Certificate {
	if n.door != nil {
		return n.door.CA()
	}
	return n.ca.Certificate()
}

// nodeIdentity is what this node shows at the peer port.
func (n *Node) nodeIdentity() (*join.NodeIdentity, error) {
	if n.door != nil {
		return join.NewDoorIdentity(n.door, nil), nil
	}
	return join.NewNodeIdentity(n.ca, n.o.Node, nil)
}

// syncTLS is the configuration of the sync port, and its key of stateless resets.
func (n *Node) syncTLS() (_ *tls.Config, reset []byte, err error) {
	if n.door != nil {
		reset, err = n.door.Derive(resetLabel, 32)
		return n.door.ServerTLS(time.Now), reset, err
	}
	certificate, err := n.ca.SignServer(time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("sign this node's certificate: %w", err)
	}
	if reset, err = n.ca.Derive(resetLabel, 32); err != nil {
		return nil, nil, fmt.Errorf("derive the reset key: %w", err)
	}
	return join.ServerTLS(n.ca.Certificate(), certificate, time.Now, nil), reset, nil
}

// ErrNotJoined: a node without the CA's key cannot join as it is started. A person has to
// change that.
var ErrNotJoined = errors.New("this node cannot join the cluster")

// openDoorKeys reads what this node has got when it joined, or joins: for the first time, or
// because it has a new token.
func (n *Node) openDoorKeys(ctx context.Context) (*join.Door, error) {
	path := filepath.Join(n.o.Data, identityFile)
	door, err := join.LoadDoor(path, n.o.Node)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not wrapped: nothing in the bucket is corrupt
		return nil, fmt.Errorf("%w: %v: remove the file, and join with a new token", ErrNotJoined, err)
	}
	valid := err == nil && time.Now().Before(door.Expires())
	switch {
	case n.o.JoinToken != "":
	case valid:
		return door, nil
	case err == nil:
		return nil, fmt.Errorf("%w (the one in %s has ended %s)", ErrNoToken, path, door.Expires().Format(time.DateOnly))
	default:
		return nil, ErrNoToken
	}
	token, err := join.ParseToken(n.o.JoinToken)
	if err != nil {
		return nil, fmt.Errorf("%w: --join-file: %w", ErrNotJoined, err)
	}
	if valid && door.JoinedWith(token) {
		return door, nil
	}
	key, err := join.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := join.NewNodeCSR(key, n.o.Node)
	if err != nil {
		return nil, err
	}
	a, err := n.askToJoin(ctx, token, peer.NodeQuestion{Secret: token.Secret, Name: n.o.Node, CSR: csr})
	if err != nil {
		return nil, err
	}
	return join.NewDoor(path, n.o.Node, token, key, a)
}

// askToJoin asks the nodes that have member objects in the bucket, until one has decided, or
// ctx ends. Errors: ErrNotJoined.
func (n *Node) askToJoin(ctx context.Context, token join.Token, q peer.NodeQuestion) (a join.Admission, err error) {
	for last := ""; ; {
		members, err := cluster.Members(ctx, n.bucket)
		if err == nil && len(members) == 0 {
			err = errors.New("no other node is there: start one that has --secret-file")
		}
		for _, m := range members {
			if m.Name == n.o.Node || m.Address(cluster.Peer) == "" {
				continue
			}
			if a, err = peer.JoinNode(ctx, m.Address(cluster.Peer), token, q); err == nil {
				return a, nil
			} else if decided(err) {
				return a, fmt.Errorf("%w: %w", ErrNotJoined, err)
			}
		}
		if err == nil {
			err = errors.New("no other node has --peer")
		}
		if err.Error() != last && ctx.Err() == nil {
			n.o.Log.Warn("this node has not joined the cluster yet: trying again", "err", err)
		}
		last = err.Error()
		if pause.For(ctx, joinAgain) != nil {
			return a, fmt.Errorf("join the cluster: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// decided reports whether asking again would not help a node that wants to join.
func decided(err error) bool {
	for _, final := range []error{join.ErrTokenUnknown, join.ErrTokenSpent, join.ErrTokenExpired, join.ErrTokenBound, join.ErrRequest, join.ErrRevoked, join.ErrForeign} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// renewDoor has the certificates of a node without the CA's key renewed, until ctx ends.
func (n *Node) renewDoor(ctx context.Context) {
	if n.door == nil {
		return
	}
	late := budget.NewEpisode(budget.EpisodeOptions{
		Begin: "this node's certificates are not renewed: when they have ended, no other node talks to it",
		End:   "this node's certificates are renewed", Quiet: time.Hour, Log: n.o.Log})
	defer late.End()
	for pause.For(ctx, renewLooks) == nil {
		if time.Now().Before(n.door.Due()) {
			continue
		}
		if err := n.renewDoorNow(ctx); err != nil {
			late.Note("until", n.door.Expires(), "err", err)
			continue
		}
		late.End()
	}
}

func (n *Node) renewDoorNow(ctx context.Context) error {
	owner, known := n.broker.Controller()
	if !known {
		return broker.ErrNoLeader
	}
	csr, err := n.door.CSR()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	a, err := n.peers.client.RenewNode(ctx, owner.Name, owner.Address(cluster.Peer), csr)
	if err != nil {
		return err
	}
	return n.door.Renew(a)
}

// joinNode admits a node without the CA's key that has come to this one.
func (n *Node) joinNode(ctx context.Context, q peer.NodeQuestion) (join.Admission, error) {
	a, err := n.joinNodeHere(ctx, q)
	if errors.Is(err, errStandby) {
		if owner, known := n.broker.Controller(); known && owner.Name != n.o.Node {
			a, err = n.peers.client.PassNodeJoin(ctx, owner.Name, owner.Address(cluster.Peer), q)
		}
	}
	return a, err
}

// joinNodeHere is joinNode for the owner of the catalogue. Errors: errStandby.
func (n *Node) joinNodeHere(ctx context.Context, q peer.NodeQuestion) (join.Admission, error) {
	members := n.fleet()
	if members == nil {
		return join.Admission{}, errStandby
	}
	if err := members.CheckNodeToken(q.Secret, q.Name); err != nil { // a stranger does not learn which names there are
		return join.Admission{}, err
	}
	if n.nodeIsThere(q.Name) {
		return join.Admission{}, fmt.Errorf("%w: a node with the name %q is there: stop it, or choose another name", join.ErrUnavailable, q.Name)
	}
	return n.withSalts(members.JoinNode(ctx, q.Secret, q.Name, q.CSR))
}

// nodeIsThere reports whether this node or another one that is alive has a name. The others
// would refuse its certificate if a second one joined with that name.
func (n *Node) nodeIsThere(name string) bool {
	return name == n.o.Node || slices.ContainsFunc(n.manager.Known(), func(k cluster.Known) bool { return k.Name == name && k.Alive })
}

// renewNode gives a node new certificates. Errors: errStandby.
func (n *Node) renewNode(_ context.Context, node string, csr []byte) (join.Admission, error) {
	members := n.fleet()
	if members == nil {
		return join.Admission{}, errStandby
	}
	return n.withSalts(members.RenewNode(node, csr))
}

func (n *Node) withSalts(a join.Admission, err error) (join.Admission, error) {
	a.Salts = n.decoy
	if err != nil {
		a = join.Admission{}
	}
	return a, err
}

// nodeToken is for console.Options. Errors: broker.ErrNotOwner, machine.ErrLevel.
func (n *Node) nodeToken(ctx context.Context, name string, life time.Duration) (string, error) {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return "", broker.ErrNotOwner
	}
	return members.NewNodeToken(ctx, name, life)
}
