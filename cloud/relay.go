package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/kafka"
)

// relayTo opens a tunnel for a Kafka client of this node to another one.
func (n *Node) relayTo(ctx context.Context, to broker.Node, t kafka.Tunnel) (io.ReadWriteCloser, error) {
	return n.peers.client.OpenKafka(ctx, to.Name, to.Address(cluster.Peer), t)
}

// relayed serves a Kafka client of another node.
func (n *Node) relayed(description []byte, stream io.ReadWriteCloser) error {
	if n.kafka == nil {
		return errors.New("this node has no door for Kafka")
	}
	var t kafka.Tunnel
	if err := json.Unmarshal(description, &t); err != nil {
		return fmt.Errorf("read the description of a tunnel: %w", err)
	}
	if _, err := stream.Write(nil); err != nil { // the other node waits for that before it sends
		return err
	}
	return n.kafka.ServeTunnel(t, stream)
}
