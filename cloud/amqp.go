package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/cloud/amqp091"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/streamqueue"
	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage/weir"
)

// openAMQP makes the door for AMQP 0-9-1.
func (n *Node) openAMQP(listeners []listener.Listener) error {
	server, err := n.newAMQP(listeners)
	if err != nil {
		return err
	}
	n.amqp.Store(server)
	n.doors = append(n.doors, door{"amqp", server.Serve})
	n.closers = append(n.closers, server.Close)
	return nil
}

func (n *Node) newAMQP(listeners []listener.Listener) (*amqp091.Server, error) {
	return amqp091.New(amqp091.Options{Listeners: listeners, Queues: n.broker.Queues, Sure: n.broker.AwaitSure, Confirm: n.confirmVhost, Remote: n.tunnelTo, TopicOf: n.topicOf(), Access: n.access, Sessions: n.logins, Metrics: n.metrics, Log: n.o.Log,
		Version: configs.Version(), Conns: n.conns, MaxConns: n.o.Limits.PerListener, PerAddress: n.o.Limits.PerAddress})
}

// tunnelDoor returns what serves connections whose clients are at other nodes. A node without
// --amqp makes it when the first one comes: the cluster may have got several shards since it
// started.
func (n *Node) tunnelDoor() (*amqp091.Server, error) {
	n.tunnelling.Lock()
	defer n.tunnelling.Unlock()
	if server := n.amqp.Load(); server != nil {
		return server, nil
	}
	server, err := n.newAMQP(nil)
	if err != nil {
		return nil, err
	}
	begun := n.races.begin(func() {
		stop := context.AfterFunc(n.races.ctx, func() { _ = server.Close() }) // it has no listener that could fail
		defer stop()
		if err := server.Serve(); err != nil {
			n.fail(fmt.Errorf("serve connections of other nodes' AMQP clients: %w", err))
		}
		<-n.races.ctx.Done()
		_ = server.Close() // returns when all of it has ended
	})
	if !begun {
		return nil, errors.New("this node ends")
	}
	n.amqp.Store(server)
	return server, nil
}

// confirmVhost returns nil if the bucket says, after the call, that this node has a vhost.
func (n *Node) confirmVhost(ctx context.Context, vhost string) error {
	return n.broker.ConfirmSlice(ctx, weir.SliceOfVhost(vhost))
}

// topicOf returns what finds the topic for a message that is published to amq.topic, nil
// if none gets it.
func (n *Node) topicOf() func(context.Context, string, streamqueue.May) (string, error) {
	switch n.o.AMQPTopics {
	case TopicsExisting:
		return n.topics.Existing
	case TopicsCreate:
		return n.topics.Ensured
	}
	return nil
}

// tunnelTo opens a tunnel to the node that has a vhost.
func (n *Node) tunnelTo(ctx context.Context, t amqp091.Tunnel) (io.ReadWriteCloser, error) {
	_, err := n.broker.Queues(t.Vhost)
	elsewhere, ok := errors.AsType[*broker.NotOwnerError](err)
	if !ok || elsewhere.Owner.Name == n.o.Node || elsewhere.Owner.Address(cluster.Peer) == "" {
		return nil, errors.Join(broker.ErrNotOwner, err)
	}
	return n.peers.client.OpenAMQP(ctx, elsewhere.Owner.Name, elsewhere.Owner.Address(cluster.Peer), t)
}

// tunnelled serves a connection whose client is at another node.
func (n *Node) tunnelled(description []byte, stream io.ReadWriteCloser) error {
	server, err := n.tunnelDoor()
	if err != nil {
		return err
	}
	var t amqp091.Tunnel
	if err := json.Unmarshal(description, &t); err != nil {
		return fmt.Errorf("read the description of a tunnel: %w", err)
	}
	err = server.ServeTunnel(t, stream)
	if errors.Is(err, amqp091.ErrNoVhost) {
		return errors.Join(peer.ErrElsewhere, err)
	}
	return err
}
