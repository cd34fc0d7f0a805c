package cloud

import (
	"context"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/kafka"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// owner lets the Kafka door of a standby ask the owner.
type owner struct{ n *Node }

// calls returns the calls that the door makes.
func (o owner) calls() *kafka.Owner {
	return &kafka.Owner{CreateTopic: o.CreateTopic, NewProducerID: o.NewProducerID, Perform: o.Perform, Refresh: o.n.copies.Refresh}
}

// CreateTopic is for kafka.Owner.
func (o owner) CreateTopic(ctx context.Context, who auth.Who, name string) (t broker.Topic, code int16, err error) {
	err = o.at(ctx, func(node, address string) error {
		t, code, err = o.n.peers.client.CreateTopic(ctx, node, address, peer.Behalf(who), name)
		return err
	})
	return t, code, err
}

// NewProducerID is for kafka.Owner.
func (o owner) NewProducerID(ctx context.Context, who auth.Who) (id int64, code int16, err error) {
	err = o.at(ctx, func(node, address string) error {
		id, code, err = o.n.peers.client.NewProducerID(ctx, node, address, peer.Behalf(who))
		return err
	})
	return id, code, err
}

// Perform is for kafka.Owner.
func (o owner) Perform(ctx context.Context, who auth.Who, key, version int16, client string, body []byte) (answer []byte, err error) {
	err = o.at(ctx, func(node, address string) error {
		answer, err = o.n.peers.client.Kafka(ctx, node, address, peer.KafkaRequest{Behalf: peer.Behalf(who), Key: key, Version: version, Client: client, Body: body})
		return err
	})
	return answer, err
}

// at asks the owner, after waiting for its turn.
func (o owner) at(ctx context.Context, ask func(node, address string) error) error {
	select {
	case o.n.copies.forwards <- struct{}{}:
		defer func() { <-o.n.copies.forwards }()
	case <-ctx.Done():
		return ctx.Err()
	}
	node, known := o.n.broker.Controller()
	if !known || node.Address(cluster.Peer) == "" || node.Name == o.n.o.Node {
		return broker.ErrNotOwner
	}
	return ask(node.Name, node.Address(cluster.Peer))
}

// createFor creates a topic for a client of a standby.
func (n *Node) createFor(ctx context.Context, b peer.Behalf, name string) (state.Topic, int16) {
	return n.kafka.CreateTopic(ctx, auth.Who(b), name)
}

// performFor performs a request for a client of another node.
func (n *Node) performFor(ctx context.Context, q peer.KafkaRequest) ([]byte, error) {
	return n.kafka.Perform(ctx, auth.Who(q.Behalf), q.Key, q.Version, q.Client, q.Body)
}

// producerFor allocates a producer id for a client of a standby.
func (n *Node) producerFor(ctx context.Context, b peer.Behalf) (int64, int16) {
	return n.kafka.NewProducerID(ctx, auth.Who(b))
}
