package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/settings"
)

// Beside a node of an earlier version, which knows no mirrors, a standby gets a copy of
// what the owner knows, and the owner gives one.

// copyFrom brings this node's copy up to the time of the question.
func (n *Node) copyFrom(ctx context.Context, owner broker.Node) error {
	if owner.Address(cluster.Peer) == "" {
		return errors.New("the owner has no --peer")
	}
	last, after := n.broker.LastCopy(), ""
	if last != nil && last.Owner == owner.Name {
		after = last.Tag
	}
	asked := time.Now()
	got, err := n.peers.client.Copy(ctx, owner.Name, owner.Address(cluster.Peer), after)
	if err != nil {
		return err
	}
	if got == nil && after == "" {
		return errors.New("the owner sent no copy, although this node has none")
	}
	next := new(broker.Copy)
	if after != "" {
		*next = *last
	}
	next.Asked = asked
	if got != nil {
		if err := n.take(next, got, after == ""); err != nil {
			return err
		}
		next.Owner = owner.Name
	}
	n.broker.SetCopy(next)
	if last != nil && last.Users != next.Users {
		last.Users.Supersede(next.Users)
	}
	return nil
}

// take adds changes to a copy. whole says that the copy is empty so far.
func (n *Node) take(next *broker.Copy, got *peer.Copy, whole bool) error {
	if whole && (got.Topics == nil || got.Users == nil || got.Quotas == nil || got.Settings == nil) {
		return errors.New("the owner sent an incomplete copy")
	}
	next.Tag, next.Epoch, next.Cluster, next.Offsets = got.Tag, got.Epoch, got.Cluster, got.Offsets
	if got.Users != nil {
		users, err := auth.Copied(got.Users, n.usersOptions())
		if err != nil {
			return err
		}
		next.Users = users
	}
	if got.Settings != nil {
		changed, err := settings.Copied(got.Settings)
		if err != nil {
			return err
		}
		next.Settings = changed
	}
	if got.Topics != nil {
		next.SetTopics(got.Topics)
	}
	if next.Quotas = n.copies.quotas; got.Quotas != nil {
		return n.copies.quotas.Follow(got.Quotas)
	}
	return nil
}

// copyFor answers a standby. The tag counts the changes of topics, of users and ACLs,
// of quotas, and of settings, since this node became the owner.
func (n *Node) copyFor(after string) (*peer.Copy, error) {
	own := n.shards.get(catalogueShard)
	if err := n.broker.Serving(); err != nil || own == nil {
		return nil, errors.Join(peer.ErrNoCopy, err)
	}
	// The counts are taken first: a later change is sent again with the next answer.
	life := fmt.Sprintf("%s-%d-", n.self.Boot, own.Log.Epoch())
	counts := []string{fmt.Sprint(own.Log.Changes()), fmt.Sprint(own.Users.Changes()), fmt.Sprint(own.Quotas.Changes()), fmt.Sprint(own.Settings.Changes())}
	c := &peer.Copy{Tag: life + strings.Join(counts, "."), Epoch: own.Log.Epoch(), Cluster: own.Log.ClusterID()}
	_, c.Offsets = n.broker.InternalTopic()
	seen := make([]string, len(counts))
	if rest, ok := strings.CutPrefix(after, life); ok {
		copy(seen, strings.Split(rest, "."))
	}
	if seen[0] != counts[0] {
		all, err := n.broker.Topics()
		if err != nil {
			return nil, errors.Join(peer.ErrNoCopy, err)
		}
		if c.Topics = all; len(c.Topics) > peer.MaxTopics {
			return nil, fmt.Errorf("%w: there are %d topics, at most %d are copied", peer.ErrTooLarge, len(c.Topics), peer.MaxTopics)
		}
	}
	if seen[1] != counts[1] {
		c.Users = own.Users.Copy()
	}
	if seen[2] != counts[2] {
		c.Quotas = own.Quotas.Copy()
	}
	if seen[3] != counts[3] {
		c.Settings = own.Settings.Copy()
	}
	return c, nil
}
