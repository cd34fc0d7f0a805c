package console

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/recent"
	"github.com/weirmq/weir/configs"
)

// State is what a node knows of itself and of the other nodes.
type State struct {
	Nodes []Member
	Disk  Disk // of the node's data directory
}

// Member is a node of the cluster.
type Member struct {
	Name  string    `json:"name"`
	Role  string    `json:"role"`
	Since time.Time `json:"since,omitzero"` // when it got this role, or was first heard of
	Heard time.Time `json:"heard,omitzero"` // when it was last heard of; not set for the node that answers
	HTTP  string    `json:"http,omitempty"` // addresses, of the owner; Addresses has all
	Kafka string    `json:"kafka,omitempty"`
	Sync  string    `json:"sync,omitempty"`

	Shards    int       `json:"shards,omitempty"`    // that it has, in a cluster of several
	Addresses []Address `json:"addresses,omitempty"` // of the node that answers; in a cluster of several shards, of each
}

// Address is where clients reach one listener of a door.
type Address struct {
	Door     string `json:"door"`
	Listener string `json:"listener"` // its name; "" if the door has but one
	Address  string `json:"address"`
}

// AddressesOf lists addresses by door and listener.
func AddressesOf(doors cluster.Addresses) []Address {
	var all []Address
	for _, door := range slices.Sorted(maps.Keys(doors)) {
		for _, name := range slices.Sorted(maps.Keys(doors[door])) {
			if name != "" || len(doors[door]) == 1 { // "" is the first of those that have names
				all = append(all, Address{door, name, doors[door][name]})
			}
		}
	}
	return all
}

// Disk is a file system.
type Disk struct {
	Path string `json:"path"`
	Free uint64 `json:"free_bytes"` // available to users other than root
	Size uint64 `json:"size_bytes"`
}

// Status is the answer to GET /v1/status: the owner's view of the cluster.
type Status struct {
	Node       string        `json:"node"` // that answered
	Version    string        `json:"version"`
	Cluster    string        `json:"cluster"`
	Epoch      int32         `json:"epoch"`
	Nodes      []Member      `json:"nodes"`
	Topics     int           `json:"topics"`
	Partitions int           `json:"partitions"`
	Records    int64         `json:"records"`
	Bytes      int64         `json:"bytes"` // at rest
	Rate       float64       `json:"records_per_second"`
	Gateways   GatewayCount  `json:"gateways"`
	Groups     int           `json:"groups"`
	Lagging    []Group       `json:"lagging,omitempty"` // groups that are behind, without details
	Damaged    int           `json:"damaged_pieces"`    // of the log, that could not be read because their data at rest is damaged
	Waiting    int64         `json:"unsegmented_bytes"` // that are not in segments yet
	Upkeep     time.Duration `json:"upkeep_age_ns"`     // time since the last complete pass of upkeep
	Disk       Disk          `json:"disk"`

	Doors []measure.Listener `json:"doors"` // of the node that answered

	// Problems says in words what is wrong. The others are of a cluster of several shards,
	// in which Role of a node is owner if it owns any.
	Problems    []string          `json:"problems,omitempty"`
	Shards      []ShardStatus     `json:"shards,omitempty"`
	Moves       map[string]uint64 `json:"moves,omitempty"` // of shards to the nodes that run, since they started, by reason
	Oldest      float64           `json:"oldest_catalogue_seconds,omitempty"`
	ByteRate    float64           `json:"bytes_per_second,omitempty"`
	Connections int               `json:"connections,omitempty"` // of clients and gateways, to all nodes
}

// GatewayCount summarizes the gateways.
type GatewayCount struct {
	Connected int    `json:"connected"`
	Away      int    `json:"away"`
	Revoked   int    `json:"revoked"`
	Buffered  uint64 `json:"buffered_records"` // of all but the revoked ones; for those that are away, at their last contact
	Lost      uint64 `json:"lost_records"`     // that they have reported since they joined
}

// Lines is the answer to GET /v1/errors: the newest warnings and errors of one node,
// the newest first.
type Lines struct {
	Node  string        `json:"node"`
	Lines []recent.Line `json:"lines"`
}

// status is answered by the owner of the only shard, else by any node.
func (c *console) status(w http.ResponseWriter, r *http.Request) {
	if c.Broker.Several() {
		admin.Reply(w, http.StatusOK, c.clusterStatus(r))
		return
	}
	c.answer(c.ownerStatus)(w, r)
}

func (c *console) ownerStatus(r *http.Request) (any, error) {
	topics, err := c.topics(r)
	if err != nil {
		return nil, err
	}
	known, err := c.Metrics.Snapshot()
	if err != nil {
		return nil, err
	}
	state, shard := c.state(), measure.Total(known.Shards)
	s := Status{Node: c.Broker.Self().Name, Version: configs.Version(), Cluster: c.Broker.ClusterID(), Epoch: shard.Epoch,
		Nodes: state.Nodes, Damaged: shard.Damaged, Waiting: shard.Waiting, Upkeep: shard.Age(known.At), Disk: state.Disk, Doors: known.Listeners}
	for _, t := range topics.([]Topic) {
		s.Topics++
		s.Partitions += len(t.Partitions)
		s.Records += t.Records
		s.Bytes += t.Bytes
		s.Rate += t.Rate
	}
	s.Gateways = CountGateways(known.Gateways)
	for _, g := range ListGroups(*known.Coordination) {
		s.Groups++
		if g.Lag > 0 {
			s.Lagging = append(s.Lagging, g)
		}
	}
	return s, nil
}

// CountGateways summarizes gateways.
func CountGateways(all []measure.Gateway) (count GatewayCount) {
	for _, g := range all {
		count.Lost += g.Contact.Lost
		switch g.State() {
		case measure.StateRevoked:
			count.Revoked++
			continue
		case measure.StateConnected:
			count.Connected++
		default:
			count.Away++
		}
		count.Buffered += g.Contact.Records
	}
	return count
}

// clusterStatus answers for a cluster of several shards, at any node.
func (c *console) clusterStatus(r *http.Request) Status {
	nodes := c.Nodes(r.Context())
	s := Status{Node: c.Broker.Self().Name, Version: configs.Version(), Cluster: c.Broker.ClusterID(), Epoch: c.epoch(), Disk: c.state().Disk, Doors: c.Metrics.Listeners()}
	all, err := c.Broker.Topics()
	for _, t := range all {
		s.Topics++
		s.Partitions += int(t.Partitions)
	}
	s = gather(s, nodes, c.Shards(nodes))
	if roles := c.missing(); roles != 0 {
		s.Problems = append(s.Problems, "no live node has the role "+roles.String())
	}
	if err != nil {
		s.Problems = append(s.Problems, "node "+s.Node+" does not know the topics of the cluster now: "+err.Error())
	}
	return s
}

// missing returns the roles that no live node has, 0 for none.
func (c *console) missing() cluster.Roles {
	if c.Missing == nil {
		return 0
	}
	return c.Missing()
}

func (c *console) state() State {
	if c.State == nil {
		return State{}
	}
	return c.State()
}

// credential answers with the caller.
func (c *console) credential(r *http.Request) (any, error) {
	if !c.Broker.IsController() {
		return nil, broker.ErrNotOwner
	}
	return admin.CallerOf(r), nil
}

// lines returns the lines of this node, whether or not it owns the shard.
func (c *console) lines(w http.ResponseWriter, _ *http.Request) {
	lines := Lines{Node: c.Broker.Self().Name, Lines: []recent.Line{}}
	if c.Recent != nil {
		lines.Lines = append(lines.Lines, c.Recent.Newest()...)
	}
	admin.Reply(w, http.StatusOK, lines)
}
