package management

import (
	"strconv"
	"time"
)

// Connection is a connection of a client of AMQP, at one moment.
type Connection struct {
	Name        string // unique among those of this node
	User, Vhost string
	Address     string // of the client
	Port        int
	Secure      bool // it uses TLS
	Opened      time.Time
	Heartbeat   time.Duration
	FrameMax    int
	ClientName  string // connection_name of the client's properties
	Channels    []Channel
	Close       func(reason string) // closes it. It does not wait
}

// Channel is a channel of a Connection.
type Channel struct {
	Number    int
	Confirms  bool
	Unsettled int // deliveries
	Consumers []Consumer
}

// Consumer is a consumer of a Channel.
type Consumer struct {
	Tag, Queue string
	NoAck      bool
	Exclusive  bool
	Prefetch   int
}

// connections returns those in vhosts that the client may open.
func (s *Server) connections(r *request) []Connection {
	var all []Connection
	for _, c := range s.o.Connections() {
		if r.in(c.Vhost).Open() && (r.PathValue("vhost") == "" || r.PathValue("vhost") == c.Vhost) {
			all = append(all, c)
		}
	}
	return all
}

func (s *Server) connectionObject(c *Connection) object {
	properties := object{}
	if c.ClientName != "" {
		properties["connection_name"] = c.ClientName
	}
	o := object{"name": c.Name, "node": s.o.Node, "user": c.User, "vhost": c.Vhost, "peer_host": c.Address, "peer_port": c.Port,
		"protocol": "AMQP 0-9-1", "ssl": c.Secure, "state": "running", "channels": len(c.Channels), "type": "network",
		"timeout": int(c.Heartbeat / time.Second), "frame_max": c.FrameMax, "connected_at": c.Opened.UnixMilli(), "client_properties": properties}
	if c.ClientName != "" {
		o["user_provided_name"] = c.ClientName
	}
	return o
}

func listConnections(r *request) (any, error) {
	var all []object
	for _, c := range r.s.connections(r) {
		all = append(all, r.s.connectionObject(&c))
	}
	if err := r.notHere(); err != nil {
		return nil, err
	}
	return listAll(r, all)
}

// connection returns the connection that the path names.
func (r *request) connection() (*Connection, error) {
	for _, c := range r.s.connections(r) {
		if c.Name == r.PathValue("name") {
			return &c, nil
		}
	}
	return nil, errNotFound
}

// notHere returns an error if the path names a vhost that another node has: that node lists
// its connections.
func (r *request) notHere() error {
	if name := r.PathValue("vhost"); name != "" && r.s.several() {
		_, err := r.s.o.Queues(name)
		return err
	}
	return nil
}

func getConnection(r *request) (any, error) {
	c, err := r.connection()
	if err != nil {
		return r.search(err)
	}
	return r.s.connectionObject(c), nil
}

// closeConnection closes a connection. A client may close those of its own user; one that
// may do everything may close any.
func closeConnection(r *request) (any, error) {
	c, err := r.connection()
	if err != nil {
		return r.search(err)
	}
	if c.User != r.user {
		if err := r.mustAdminister(); err != nil {
			return nil, err
		}
	}
	reason := r.Header.Get("X-Reason")
	if reason == "" {
		reason = "Closed via management plugin"
	}
	c.Close(reason)
	return nil, nil
}

func connectionChannels(r *request) (any, error) {
	c, err := r.connection()
	if err != nil {
		return r.search(err)
	}
	return list(r, r.s.channelObjects([]Connection{*c}))
}

func listChannels(r *request) (any, error) {
	if err := r.notHere(); err != nil {
		return nil, err
	}
	return listAll(r, r.s.channelObjects(r.s.connections(r)))
}

func getChannel(r *request) (any, error) {
	for _, o := range r.s.channelObjects(r.s.connections(r)) {
		if o["name"] == r.PathValue("name") {
			return o, nil
		}
	}
	return r.search(errNotFound)
}

func (s *Server) channelObjects(all []Connection) []object {
	var channels []object
	for i := range all {
		c := &all[i]
		for _, ch := range c.Channels {
			channels = append(channels, object{"name": channelName(c, &ch), "number": ch.Number, "node": s.o.Node, "user": c.User, "vhost": c.Vhost,
				"state": "running", "confirm": ch.Confirms, "consumer_count": len(ch.Consumers),
				"messages_unacknowledged": ch.Unsettled, "connection_details": connectionDetails(c)})
		}
	}
	return channels
}

func listConsumers(r *request) (any, error) {
	if _, err := r.vhosts(); err != nil { // the vhost of the path
		return nil, err
	}
	return listAll(r, r.s.consumerObjects(r))
}

func (s *Server) consumerObjects(r *request) []object {
	var consumers []object
	for _, c := range s.connections(r) {
		for _, ch := range c.Channels {
			for _, one := range ch.Consumers {
				consumers = append(consumers, object{"consumer_tag": one.Tag, "ack_required": !one.NoAck, "exclusive": one.Exclusive,
					"prefetch_count": one.Prefetch, "active": true, "activity_status": "up", "arguments": object{},
					"queue": object{"name": one.Queue, "vhost": c.Vhost},
					"channel_details": object{"name": channelName(&c, &ch), "number": ch.Number, "connection_name": c.Name,
						"user": c.User, "node": s.o.Node, "peer_host": c.Address, "peer_port": c.Port}})
			}
		}
	}
	return consumers
}

func connectionDetails(c *Connection) object {
	return object{"name": c.Name, "peer_host": c.Address, "peer_port": c.Port}
}

// channelName is RabbitMQ's name of a channel.
func channelName(c *Connection, ch *Channel) string {
	return c.Name + " (" + strconv.Itoa(ch.Number) + ")"
}
