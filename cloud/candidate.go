package cloud

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/commitlog"
)

// candidate is a shard that another node owns and hands over to this one: its machines apply
// the log as it grows.
type candidate struct {
	*commitlog.Candidate
	own *owned
}

// prepare is for cluster.Manager.
func (n *Node) prepare(ctx context.Context, id uint32, self cluster.Node) (cluster.Candidate, error) {
	info, err := self.Info(n.level(ctx))
	if err != nil {
		return nil, err
	}
	own := n.newOwned(id, self)
	c, err := own.Prepare(ctx, n.logOptions(own, info, 0))
	if err != nil {
		return nil, fmt.Errorf("read the log of shard %d along: %w", id, err)
	}
	return candidate{c, own}, nil
}

// handOver is for cluster.Manager.
func (n *Node) handOver(ctx context.Context, id uint32, nonce [16]byte, ready func(context.Context) error) error {
	own := n.shards.get(id)
	if own == nil {
		return broker.ErrNotOwner
	}
	_, err := own.Log.HandOver(ctx, nonce, ready)
	return err
}

// succeed is for cluster.Manager: it sends a step of a hand-over to another node.
func (n *Node) succeed(ctx context.Context, to cluster.Node, q cluster.Succession) (done bool, err error) {
	body, err := q.Encode()
	if err != nil {
		return false, err
	}
	answer, err := n.peers.client.Succession(ctx, to.Name, to.Address(cluster.Peer), body)
	switch {
	case errors.Is(err, peer.ErrUnknownVerb):
		return false, fmt.Errorf("%w: %w", cluster.ErrUnsupported, err)
	case peer.Refused(err):
		return false, fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	case err != nil:
		return false, err
	}
	return cluster.ReadSucceeded(answer)
}

// recoverShard makes this node the owner of a shard: with c, if it has read the log along and has
// claimed, with what it has itself handed over and nobody has taken, or by reading the log.
func (n *Node) recoverShard(ctx context.Context, id uint32, self cluster.Node, epoch uint64, c cluster.Candidate) (*owned, error) {
	former := n.shards.takeBack(id)
	if c, ready := c.(candidate); ready {
		return c.own, c.own.Take(ctx, c.Candidate)
	}
	info, err := self.Info(n.level(ctx))
	if err != nil {
		return nil, err
	}
	own := n.newOwned(id, self)
	if former == nil {
		return own, own.Open(ctx, n.logOptions(own, info, epoch))
	}
	resumed, err := own.Resume(ctx, former.Shard, n.logOptions(own, info, epoch))
	if err != nil {
		return nil, err
	}
	if err := resumed.Claim(ctx, epoch, [16]byte{}); err != nil {
		resumed.Close()
		return nil, err
	}
	return own, own.Take(ctx, resumed)
}
