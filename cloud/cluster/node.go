package cluster

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"net"
)

// The doors of a node whose addresses others must know.
const (
	Kafka      = "kafka"      // for Kafka clients; its listeners have names
	AMQP       = "amqp"       // for clients of AMQP 0-9-1; its listeners have names
	Sync       = "sync"       // for gateways
	Management = "management" // RabbitMQ's management HTTP API; its listeners have names
	HTTP       = "http"       // the admin port, where nodes without a peer port say whether they are alive
	Peer       = "peer"       // for other nodes
)

// Node is one weir-cloud process as other nodes see it. It is stored in the claim on
// a shard: see Info.
type Node struct {
	ID   int32  // of the node in the Kafka protocol, from Name
	Name string // --node-id
	Boot string // drawn when the process started; "": a version that does not answer through the bucket
	Host string // name of the machine; a loopback address reaches this node only from there

	Roles     Roles
	Member    uint64 // number of its member object; 0: a version that has none
	Handed    bool   // in a claim: the owner before has handed the shard over
	Addresses Addresses
	Takeovers []Takeover // of the shard, in the ten minutes before the claim

	Move Move // passed to ManagerOptions.Lead: how the shard came to this node. It is not stored
}

// Addresses holds the addresses (host:port) for clients of a node's doors, by the
// name of the door and of the listener. A door's first listener is also there under
// the name "". A door that is off has no addresses.
type Addresses map[string]map[string]string

// Add adds the address of a listener.
func (a Addresses) Add(door, listener, address string) {
	if a[door] == nil {
		a[door] = map[string]string{"": address}
	}
	a[door][listener] = address
}

// Address returns the address of the door's first listener, "" if the node has no
// such door.
func (n Node) Address(door string) string { return n.Addresses[door][""] }

// ListenerAddress returns the address of the door's listener of that name, "" if
// there is none. A door whose listeners have no names returns its one address for any
// name.
func (n Node) ListenerAddress(door, listener string) string {
	if named := n.Addresses[door]; len(named) > 1 {
		return named[listener]
	}
	return n.Address(door)
}

// NodeID derives a node's number in the Kafka protocol from its name.
func NodeID(name string) int32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int32(h.Sum32() & 0x7fffffff)
}

// canAsk reports whether n can ask owner if it is alive.
func (n Node) canAsk(owner Node) bool {
	host, _, err := net.SplitHostPort(cmp.Or(owner.Address(Peer), owner.Address(HTTP)))
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback() || owner.Host == n.Host
}

// AddressesLevel is the format level from which on a claim has all addresses in one
// member. Below it, addresses that earlier versions know are in members of their own.
const AddressesLevel = 2

// claimed is a node in a claim, in the order of its members. FORMAT.md describes it.
type claimed struct {
	ID    int32  `json:"id"`
	Name  string `json:"name"`
	Kafka string `json:"kafka,omitempty"`
	Sync  string `json:"sync,omitempty"`
	HTTP  string `json:"http,omitempty"`
	Peer  string `json:"peer,omitempty"`
	Boot  string `json:"boot,omitempty"`
	Host  string `json:"host,omitempty"`

	Listeners map[string]string `json:"kafka_listeners,omitempty"`
	Takeovers []Takeover        `json:"takeovers,omitempty"`
	Addresses Addresses         `json:"addresses,omitempty"`
	Member    uint64            `json:"member,omitempty"`
	Handed    bool              `json:"handed,omitempty"`
	Roles     Roles             `json:"roles,omitempty"`
}

// Info encodes a node for its claim in a bucket of a format level. Below
// AddressesLevel, nodes of earlier versions can read it.
func (n Node) Info(level int) ([]byte, error) {
	c := n.claimed()
	if level >= AddressesLevel {
		return json.Marshal(c)
	}
	c.Addresses = nil
	for door, listeners := range n.Addresses {
		switch door {
		case Kafka:
			c.Kafka = listeners[""]
			for name, address := range listeners {
				if name == "" && len(listeners) > 1 {
					continue
				}
				if c.Listeners == nil {
					c.Listeners = make(map[string]string)
				}
				c.Listeners[name] = address
			}
		case Sync:
			c.Sync = listeners[""]
		case HTTP:
			c.HTTP = listeners[""]
		case Peer:
			c.Peer = listeners[""]
		default:
			if c.Addresses == nil {
				c.Addresses = make(Addresses)
			}
			c.Addresses[door] = listeners
		}
	}
	return json.Marshal(c)
}

// ReadInfo decodes the node of a claim of any format level. With an error it returns
// what it could read.
func ReadInfo(info []byte) (Node, error) {
	var c claimed
	err := json.Unmarshal(info, &c)
	return c.node(), err
}

// claimed returns what AddressesLevel has of a node.
func (n Node) claimed() claimed {
	c := claimed{ID: n.ID, Name: n.Name, Boot: n.Boot, Host: n.Host, Member: n.Member, Handed: n.Handed, Takeovers: n.Takeovers, Addresses: n.Addresses, Roles: n.Roles}
	if n.Roles.Has(allRoles) {
		c.Roles = 0 // as versions without roles write it
	}
	return c
}

// node is the node of a claim of any format level.
func (c claimed) node() Node {
	n := Node{ID: c.ID, Name: c.Name, Boot: c.Boot, Host: c.Host, Member: c.Member, Handed: c.Handed, Takeovers: c.Takeovers, Addresses: c.Addresses, Roles: c.Roles}
	if n.Addresses == nil {
		n.Addresses = make(Addresses)
	}
	for door, address := range map[string]string{Kafka: c.Kafka, Sync: c.Sync, HTTP: c.HTTP, Peer: c.Peer} {
		if address != "" && n.Addresses[door] == nil {
			n.Addresses.Add(door, "", address)
		}
	}
	if n.Addresses[Kafka] != nil {
		for name, address := range c.Listeners {
			n.Addresses.Add(Kafka, name, address)
		}
	}
	return n
}
