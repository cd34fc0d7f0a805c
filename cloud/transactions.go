package cloud

import (
	"context"
	"errors"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/txn"
)

// errTransactionsThere means that a transaction spans nodes that cannot speak about it.
var errTransactionsThere = errors.New("the node has no --peer, or its version knows no transactions over several nodes")

// verifyThere is broker.VerifyTransaction of another node.
func (n *Node) verifyThere(ctx context.Context, node broker.Node, p txn.Part) (number uint64, err error) {
	return askTransaction(ctx, node, txn.EncodePart(p), n.peers.client.VerifyTransaction)
}

// endThere is broker.EndTransaction of another node.
func (n *Node) endThere(ctx context.Context, node broker.Node, shard uint32, d txn.Decision) error {
	_, err := askTransaction(ctx, node, txn.EncodeDecision(shard, d), n.peers.client.EndTransaction)
	return err
}

func askTransaction(ctx context.Context, node broker.Node, question []byte, ask func(ctx context.Context, node, address string, question []byte) ([]byte, error)) (uint64, error) {
	address := node.Address(cluster.Peer)
	if address == "" {
		return 0, errTransactionsThere
	}
	answer, err := ask(ctx, node.Name, address, question)
	if errors.Is(err, peer.ErrUnknownVerb) {
		return 0, errTransactionsThere
	}
	if err != nil {
		return 0, err
	}
	return txn.DecodeAnswer(answer)
}

// verifyFor answers another node's verifyThere.
func (n *Node) verifyFor(ctx context.Context, question []byte) ([]byte, error) {
	p, err := txn.DecodePart(question)
	if err != nil {
		return nil, err
	}
	return txn.EncodeAnswer(n.broker.VerifyTransaction(ctx, p)), nil
}

// endFor answers another node's endThere.
func (n *Node) endFor(ctx context.Context, question []byte) ([]byte, error) {
	shard, d, err := txn.DecodeDecision(question)
	if err != nil {
		return nil, err
	}
	return txn.EncodeAnswer(0, n.broker.EndTransaction(ctx, shard, d)), nil
}
