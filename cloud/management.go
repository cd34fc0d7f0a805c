package cloud

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/management"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/configs"
)

// openManagement opens the door of RabbitMQ's management HTTP API.
func (n *Node) openManagement(l listeners) {
	m := management.New(management.Options{
		Queues: n.broker.Queues, AllQueues: n.broker.AllQueues, Access: n.access, Sessions: n.logins,
		Listeners: func() []management.Listener { return ports(l) },
		Node:      n.o.Node, Cluster: n.broker.ClusterID, Version: configs.Version(), Log: n.o.Log,
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
	var limited []*admin.Listener
	for _, one := range l.management {
		port := admin.Limit(one.Listener, "management", n.conns)
		limited = append(limited, port)
		server := admin.Server(m.Handler(&one, port.Traffic()), n.o.Log)
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
