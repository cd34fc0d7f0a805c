package cloud

import (
	"context"
	"errors"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
)

// errRecordsThere means that a node cannot be asked about records that it leads.
var errRecordsThere = errors.New("the node has no --peer, or its version does not know such questions")

// openRecords makes the records of all partitions, wherever they are led.
func (n *Node) openRecords() {
	n.records = broker.NewRecords(n.broker, broker.RecordsOptions{Ask: n.askRecords, Follow: n.followRecords})
	n.closers = append(n.closers, n.records.Close)
}

// askRecords is for broker.RecordsOptions.
func (n *Node) askRecords(ctx context.Context, node broker.Node, what string, question []byte) ([]byte, error) {
	address := node.Address(cluster.Peer)
	if address == "" {
		return nil, errRecordsThere
	}
	answer, err := n.peers.client.Records(ctx, node.Name, address, what, question)
	if errors.Is(err, peer.ErrUnknownVerb) {
		return nil, errRecordsThere
	}
	return answer, err
}

// followRecords is for broker.RecordsOptions.
func (n *Node) followRecords(ctx context.Context, node broker.Node, shard uint32, tell func([]byte) error) error {
	address := node.Address(cluster.Peer)
	if address == "" {
		return errRecordsThere
	}
	return n.peers.client.FollowRecords(ctx, node.Name, address, shard, tell)
}

// recordsFor answers another node's askRecords.
func (n *Node) recordsFor(ctx context.Context, what string, question []byte) ([]byte, error) {
	return n.records.Answer(ctx, what, question)
}

// followFor answers another node's followRecords.
func (n *Node) followFor(ctx context.Context, shard uint32, tell func([]byte) error) error {
	return n.records.Tell(ctx, shard, tell)
}
