package cloud

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/management"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/configs"
)

// openManagement opens the door of RabbitMQ's management HTTP API. Without listeners it
// performs requests for clients of other nodes.
func (n *Node) openManagement(l listeners) {
	n.management = management.New(management.Options{
		Queues: n.broker.Queues, AllQueues: n.broker.AllQueues, Access: n.access, Sessions: n.logins, TopicOf: n.topicOf(),
		Connections: n.connections,
		Listeners:   func() []management.Listener { return ports(l) },
		Tell:        n.broker.Tell, Node: n.o.Node, Cluster: n.broker.ClusterID, Version: configs.Version(), Log: n.o.Log,
		Elsewhere: &management.Elsewhere{Several: n.several, Owners: n.vhostOwners, Serves: n.broker.Serves, Pass: n.passManagement,
			Catalogue: func() (broker.Node, bool) { l, known := n.broker.Controller(); return l.Node, known }},
		Sure: n.broker.AwaitSure, ConfirmVhost: n.confirmVhost, ConfirmCatalogue: n.broker.ConfirmCatalogue,
		Heard: func(r *http.Request, known bool) {
			seat := admin.Seat(r)
			switch {
			case seat == nil:
			case known:
				seat.Known()
			default:
				seat.Heard()
			}
		},
	})
	if len(l.management) == 0 {
		return
	}
	var limited []*admin.Listener
	for _, one := range l.management {
		port := admin.Limit(one.Listener, "management", n.conns)
		limited = append(limited, port)
		server := admin.Server(n.management.Handler(&one, port.Traffic()), n.o.Log)
		var open net.Listener = port
		if one.TLS != nil {
			open = tls.NewListener(port, one.TLS)
		}
		n.doors = append(n.doors, door{"management", func() error {
			if err := server.Serve(open); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}})
		n.closers = append(n.closers, server.Close)
	}
	n.metrics.Door(measure.Door{Name: "management", Counts: func() []listener.Counts {
		var all []listener.Counts
		for i, port := range limited {
			for _, c := range port.Counts() {
				c.Listener = l.management[i].Name
				all = append(all, c)
			}
		}
		return all
	}})
}

// vhostOwners lists the nodes that serve shards which vhosts can be in.
func (n *Node) vhostOwners() ([]management.Owner, error) {
	index := make(map[string]int)
	var all []management.Owner
	for _, id := range n.broker.Routed() {
		l, known := n.broker.OwnerOf(id)
		if !known {
			return nil, fmt.Errorf("%w: nobody serves shard %d for now", broker.ErrUnavailable, id)
		}
		i, seen := index[l.Name]
		if !seen {
			i = len(all)
			index[l.Name], all = i, append(all, management.Owner{Node: l.Node})
		}
		all[i].Shards = append(all[i].Shards, id)
	}
	return all, nil
}

// passManagement has another node perform a request to the management API.
func (n *Node) passManagement(ctx context.Context, to broker.Node, p management.Passed) (a management.Answered, err error) {
	address := to.Address(cluster.Peer)
	if address == "" {
		return a, errors.New("it has no --peer")
	}
	question, err := json.Marshal(p)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	answer, err := n.peers.client.Management(ctx, to.Name, address, p.Part && p.Method == http.MethodGet, question)
	if err == nil {
		err = json.Unmarshal(answer, &a)
	}
	return a, err
}

// manageFor performs a request to the management API for a client of another node.
func (n *Node) manageFor(ctx context.Context, question []byte) ([]byte, error) {
	var p management.Passed
	if err := json.Unmarshal(question, &p); err != nil {
		return nil, err
	}
	return json.Marshal(n.management.Perform(ctx, p))
}

// connections lists the connections of clients of AMQP.
func (n *Node) connections() []management.Connection {
	server := n.amqp.Load()
	if server == nil {
		return nil
	}
	var all []management.Connection
	for _, c := range server.Connections() {
		one := management.Connection{Name: c.Name(), User: c.User, Vhost: c.Vhost, Address: c.From.Addr().Unmap().String(), Port: int(c.From.Port()),
			Secure: c.TLS, Opened: c.Opened, Heartbeat: c.Heartbeat, FrameMax: c.FrameMax, ClientName: c.ClientName, Close: c.Close}
		for _, ch := range c.Channels {
			channel := management.Channel{Number: ch.Number, Confirms: ch.Confirms, Unsettled: ch.Unsettled}
			for _, k := range ch.Consumers {
				channel.Consumers = append(channel.Consumers, management.Consumer{Tag: k.Tag, Queue: k.Queue, NoAck: k.NoAck, Exclusive: k.Exclusive, Prefetch: k.Prefetch})
			}
			one.Channels = append(one.Channels, channel)
		}
		all = append(all, one)
	}
	return all
}

// ports lists the listeners of the doors that clients of RabbitMQ know.
func ports(l listeners) []management.Listener {
	var all []management.Listener
	for _, door := range []struct {
		protocol string
		open     []listener.Listener
	}{{"amqp", l.amqp}, {"http", l.management}} {
		for _, one := range door.open {
			address, ok := one.Addr().(*net.TCPAddr)
			if !ok {
				continue
			}
			protocol := door.protocol
			switch {
			case one.TLS == nil:
			case protocol == "http":
				protocol = "https"
			default:
				protocol += "/ssl"
			}
			all = append(all, management.Listener{Protocol: protocol, Address: address.IP.String(), Port: address.Port})
		}
	}
	return all
}
