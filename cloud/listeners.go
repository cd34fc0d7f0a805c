package cloud

import (
	"context"
	"fmt"
	"net"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
)

// openListeners opens the listeners of a door; their addresses are known after it. talk
// is how this node asks them whether they answer.
func (n *Node) openListeners(door string, all []listener.Settings, talk func(context.Context, net.Conn) error) ([]listener.Listener, error) {
	var open []listener.Listener
	addresses := make(map[string]string)
	for _, o := range all {
		if _, twice := addresses[o.Name]; twice {
			return nil, fmt.Errorf("two listeners of --%s are called %q", door, o.Name)
		}
		l, err := o.Open(n.o.Log, func(address string) (net.Listener, error) {
			return n.o.Sockets.Listen(listener.SocketName(door, o.Name), address)
		})
		if err != nil {
			return nil, fmt.Errorf("listen on --%s: %w", door, err)
		}
		n.closers = append(n.closers, ignoreClosed(l.Close))
		if l.Certificates != nil {
			n.certificates = append(n.certificates, l.Certificates)
		}
		ask := talk
		switch {
		case o.ClientCA != "":
			ask = greetTLS
		case o.TLSCert != "":
			ask = inTLS(talk)
		}
		n.askSelf(door+" listener "+o.Name, l.Addr(), ask)
		open = append(open, l)
		addresses[o.Name] = o.Address(l.Addr(), n.advertised(l.Addr()))
		n.self.Addresses.Add(door, o.Name, addresses[o.Name])
	}
	return open, nil
}

// listeners are the open listeners of a node's doors, nil for one that is off.
type listeners struct {
	kafka, amqp, management []listener.Listener
	http                    net.Listener
	sync                    net.PacketConn
}

// listenDoors opens the listeners of all doors.
func (n *Node) listenDoors() (l listeners, err error) {
	if l.kafka, err = n.openListeners(cluster.Kafka, n.o.Kafka, talkKafka); err != nil {
		return l, err
	}
	if l.amqp, err = n.openListeners(cluster.AMQP, n.o.AMQP, talkAMQP); err != nil {
		return l, err
	}
	if l.management, err = n.openListeners(cluster.Management, n.o.Management, talkHTTP); err != nil {
		return l, err
	}
	if n.o.HTTP.Listen != Off {
		if l.http, err = n.listenHTTP(); err != nil {
			return l, err
		}
	}
	if n.o.Sync != Off {
		if l.sync, err = n.o.Sockets.ListenPacket(cluster.Sync, n.o.Sync); err != nil {
			return l, fmt.Errorf("listen on --sync: %w", err)
		}
		n.closers = append(n.closers, ignoreClosed(l.sync.Close))
		n.self.Addresses.Add(cluster.Sync, "", n.advertised(l.sync.LocalAddr()))
		n.askSync(l.sync.LocalAddr())
	}
	if err := n.listenPeer(); err != nil {
		return l, err
	}
	return l, n.o.Sockets.Unused()
}
