package amqp091

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// Connection is a connection whose client has opened its vhost, at one moment.
type Connection struct {
	From, To   netip.AddrPort // the client, and this node
	User       string
	Vhost      string
	TLS        bool
	Opened     time.Time
	Heartbeat  time.Duration // 0: none
	FrameMax   int           // bytes
	ClientName string        // connection_name of its properties
	Channels   []Channel     // by number

	conn *conn
}

// Channel is a channel of a Connection.
type Channel struct {
	Number    int
	Confirms  bool // publishes are confirmed
	Unsettled int  // deliveries
	Consumers []Consumer
}

// Consumer is a consumer of a Channel. That of direct replies is left out.
type Consumer struct {
	Tag, Queue string
	NoAck      bool
	Exclusive  bool
	Prefetch   int // of its own; 0: no limit
}

// Name is RabbitMQ's name of the connection: its two ends.
func (c *Connection) Name() string { return c.From.String() + " -> " + c.To.String() }

// Close tells the client to go, and why. It does not wait.
func (c *Connection) Close(reason string) {
	c.conn.fail(&wire.Error{Code: wire.ConnectionForced, Text: reason})
}

// Connections lists the connections by when they were opened.
func (s *Server) Connections() []Connection {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	var all []Connection
	for _, c := range conns {
		if one, open := c.describe(); open {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b Connection) int {
		return cmp.Or(a.Opened.Compare(b.Opened), a.From.Compare(b.From))
	})
	return all
}

// describe describes the connection, false if its client has not opened a vhost.
func (c *conn) describe() (Connection, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened.IsZero() || c.remote != nil { // the node that has the vhost lists it
		return Connection{}, false
	}
	one := Connection{User: c.user, Vhost: c.vhost, TLS: c.listener.TLS != nil || c.tunnel != nil && c.tunnel.TLS, Opened: c.opened,
		Heartbeat: time.Duration(c.heartbeat.Load()), FrameMax: int(c.frameMax), ClientName: c.client.name, conn: c}
	one.From, _ = netip.ParseAddrPort(c.peer) // no address if it is not one of TCP
	one.To, _ = netip.ParseAddrPort(c.nc.LocalAddr().String())
	for _, ch := range c.channels {
		one.Channels = append(one.Channels, ch.describe())
	}
	slices.SortFunc(one.Channels, func(a, b Channel) int { return cmp.Compare(a.Number, b.Number) })
	return one, true
}

// describe describes the channel. The caller holds conn.mu.
func (ch *channel) describe() Channel {
	one := Channel{Number: int(ch.id), Confirms: ch.confirms != nil, Unsettled: ch.unsettled.len()}
	for _, k := range ch.consumers {
		if o := k.from.Options(); !k.ended {
			one.Consumers = append(one.Consumers, Consumer{Tag: k.tag, Queue: o.Queue, NoAck: k.noAck, Exclusive: o.Exclusive, Prefetch: k.prefetch})
		}
	}
	slices.SortFunc(one.Consumers, func(a, b Consumer) int { return cmp.Compare(a.Tag, b.Tag) })
	return one
}

// setChannel makes a channel known, or forgets that of a number. Only read calls it.
func (c *conn) setChannel(number uint16, ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch == nil {
		delete(c.channels, number)
		return
	}
	c.channels[number] = ch
}
