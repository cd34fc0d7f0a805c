package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/configs"
)

// NodeStatus is what a node says of itself, also to other nodes.
type NodeStatus struct {
	Name        string            `json:"name"`
	Boot        string            `json:"boot,omitempty"` // drawn when the process started
	Version     string            `json:"version,omitempty"`
	Host        string            `json:"host,omitempty"`
	Role        string            `json:"role,omitempty"` // owner of something, recovering or standby
	Roles       []string          `json:"roles,omitempty"`
	Started     time.Time         `json:"started,omitzero"`
	Clock       time.Time         `json:"clock,omitzero"` // when it said this, by its own clock
	Draining    bool              `json:"draining,omitempty"`
	Peer        string            `json:"peer,omitempty"` // address of its peer port; "": it has none
	Addresses   []Address         `json:"addresses,omitempty"`
	Certificate time.Time         `json:"certificate_expires,omitzero"` // of the one for the peer port; a node renews it
	Catalogue   float64           `json:"catalogue_age_seconds"`        // 0 for the node that owns the catalogue
	Shards      []OwnedShard      `json:"shards"`
	Auto        string            `json:"auto_shards,omitempty"` // what --shards auto does now, in words; of the owner of the catalogue
	Moves       map[string]uint64 `json:"moves,omitempty"`       // how many shards it got since it started, by reason
	Records     int64             `json:"records"`               // between start and end, of the partitions that it leads
	Bytes       int64             `json:"bytes"`                 // at rest, likewise
	Groups      int               `json:"groups"`                // that it coordinates
	Lagging     []Group           `json:"lagging,omitempty"`
	Sessions    int               `json:"sessions"`    // gateways that are connected to it
	Connections int               `json:"connections"` // of its listeners, all doors together
	Waiting     int64             `json:"unsegmented_bytes"`
	Upkeep      time.Duration     `json:"upkeep_age_ns"` // time since the last complete pass of the upkeep, of the shard that waits longest
	Disk        Disk              `json:"disk"`

	Gateways *GatewayCount `json:"gateways,omitempty"` // of the cluster; only the owner of the catalogue knows them
	Problems []string      `json:"problems,omitempty"` // of which the node knows
}

// OwnedShard is a shard that a node owns, is about to own, or could not lead.
type OwnedShard struct {
	Shard    uint32        `json:"shard"`
	Epoch    uint64        `json:"epoch,omitempty"`
	State    string        `json:"state"` // see cluster.State
	Since    time.Time     `json:"since,omitzero"`
	Recovery time.Duration `json:"recovery_ns,omitempty"` // that it took
	Reason   string        `json:"reason,omitempty"`      // why it came to this node: see cluster.Reason
	From     string        `json:"from,omitempty"`        // the node that had it before
	Rate     float64       `json:"records_per_second"`
	ByteRate float64       `json:"bytes_per_second"`
	Damaged  int           `json:"damaged_pieces,omitempty"`
}

// Came says why the shard came to its owner, "" if that is not known.
func (s OwnedShard) Came() string {
	from := cmp.Or(s.From, "another node")
	switch cluster.Reason(s.Reason) {
	case cluster.First:
		return "new"
	case cluster.HandedOver:
		return "handed over by " + from
	case cluster.Silent:
		return from + " was silent"
	case cluster.Ended:
		return from + " had ended"
	case cluster.Revoked:
		return from + " was revoked"
	case cluster.Restarted:
		return "had it before its restart"
	case cluster.Kept:
		return "no other node took it"
	}
	return s.Reason
}

// The states of a node, as another one sees it.
const (
	NodeUp     = "up"
	NodeSilent = "silent" // it does not answer

	NodeRevoked = "revoked" // the others do not talk to it
)

// ClusterNode is one node of GET /v1/nodes. Of a node that does not answer, or is of an
// earlier version, only the name and what is in its claim are known.
type ClusterNode struct {
	NodeStatus
	State string        `json:"state"`
	Heard time.Time     `json:"heard,omitzero"` // when it was last heard of; not set for the node that answers
	Ahead time.Duration `json:"clock_ahead_ns"` // how far its clock is ahead of that of the node that answers
	Error string        `json:"error,omitempty"`
}

// Nodes is the answer to GET /v1/nodes.
type Nodes struct {
	Node  string        `json:"node"` // that answered
	Nodes []ClusterNode `json:"nodes"`

	Shards   []ShardStatus `json:"shards"`
	Problems []string      `json:"problems,omitempty"` // in words
}

// ShardStatus is one shard of GET /v1/shards.
type ShardStatus struct {
	OwnedShard
	Owner      string `json:"owner,omitempty"` // "": nobody is known to have it
	Slices     int    `json:"slices"`
	Partitions int    `json:"partitions"`
}

// ShardNone is the State of a shard that no node says it has.
const ShardNone = "none"

// Shards is the answer to GET /v1/shards.
type Shards struct {
	Node   string        `json:"node"` // that answered
	Shards []ShardStatus `json:"shards"`

	// Auto is what the owner of the catalogue does so that there are as many shards with
	// data as nodes for them, in words; "" if it has not --shards auto.
	Auto string `json:"auto,omitempty"`
}

// nodes and shards are answered by any node, also while there is no owner of the catalogue.
func (c *console) nodes(w http.ResponseWriter, r *http.Request) {
	nodes := c.Nodes(r.Context())
	shards := c.Shards(nodes)
	admin.Reply(w, http.StatusOK, Nodes{c.Broker.Self().Name, nodes, shards, problems(nodes, shards)})
}

func (c *console) shards(w http.ResponseWriter, r *http.Request) {
	nodes := c.Nodes(r.Context())
	all := Shards{Node: c.Broker.Self().Name, Shards: c.Shards(nodes)}
	for _, n := range nodes {
		all.Auto = cmp.Or(all.Auto, n.Auto)
	}
	admin.Reply(w, http.StatusOK, all)
}

// Assemble makes the list of shards from what the nodes say. all is every shard of the
// cluster, with the owner of the newest claim that is known.
func Assemble(all []ShardStatus, nodes []ClusterNode) []ShardStatus {
	at := make(map[uint32]int, len(all))
	for i := range all {
		all[i].State = ShardNone
		at[all[i].Shard] = i
	}
	for _, n := range nodes {
		for _, s := range n.Shards {
			i, known := at[s.Shard]
			if !known || s.State == string(cluster.Failing) || all[i].State != ShardNone && s.Epoch <= all[i].Epoch || s.Epoch != 0 && s.Epoch < all[i].Epoch {
				continue
			}
			all[i].OwnedShard, all[i].Owner = s, n.Name
		}
	}
	return all
}

// Bounds of what is not worth a word.
const (
	oldCatalogue    = 5 * time.Second // as the alert has it
	clockDifference = 10 * time.Second
	nearExpiry      = 3 * 24 * time.Hour
	longRecovery    = 30 * time.Second
)

// problems says in words what is wrong with a cluster.
func problems(nodes []ClusterNode, shards []ShardStatus) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, n := range nodes {
		at := n.Clock // that of the node itself: the same clock as in what it says
		switch {
		case n.State == NodeRevoked:
			continue
		case n.State != NodeUp:
			say("node %s does not answer%s", n.Name, because(n.Error))
			continue
		case n.Error != "":
			say("node %s says nothing of itself%s", n.Name, because(n.Error))
			continue
		}
		if age := time.Duration(n.Catalogue * float64(time.Second)); age > oldCatalogue {
			say("node %s has heard nothing of users, permissions and topics for %s: check the network between the nodes' --peer", n.Name, short(age))
		}
		if n.Ahead.Abs() > clockDifference {
			say("the clock of node %s is %s", n.Name, apart(n.Ahead))
		}
		if left := n.Certificate.Sub(at); !n.Certificate.IsZero() && left < nearExpiry {
			say("the certificate of node %s for --peer ends in %s", n.Name, short(max(0, left)))
		}
		for _, p := range n.Problems {
			say("node %s: %s", n.Name, p)
		}
		for _, s := range n.Shards {
			if s.State == string(cluster.Failing) {
				say("node %s could not lead shard %d and tries again later: its log says why", n.Name, s.Shard)
			}
		}
	}
	for _, s := range shards {
		switch s.State {
		case ShardNone:
			if s.Owner == "" {
				say("shard %d has no owner", s.Shard)
			} else {
				say("shard %d is not served: node %s had it last", s.Shard, s.Owner)
			}
		case string(cluster.Doubting):
			say("shard %d is not served: the bucket does not answer its owner, node %s", s.Shard, s.Owner)
		}
		if s.Damaged > 0 {
			say("%d pieces of shard %d cannot be read: weirctl check says which", s.Damaged, s.Shard)
		}
	}
	return append(all, namesakes(nodes)...)
}

// namesakes finds processes that use one name.
func namesakes(nodes []ClusterNode) (all []string) {
	ids := make(map[string]string)
	for _, n := range nodes {
		if other, is := ids[n.Peer]; is && n.Peer != "" && n.State == NodeUp {
			all = append(all, fmt.Sprintf("nodes %s and %s say that they have one address, %s: set --advertise", other, n.Name, n.Peer))
		}
		ids[n.Peer] = n.Name
	}
	return all
}

func because(err string) string {
	if err == "" {
		return ""
	}
	return " (" + err + ")"
}

func apart(ahead time.Duration) string {
	if ahead < 0 {
		return short(-ahead) + " slow: set it"
	}
	return short(ahead) + " fast: set it"
}

func short(d time.Duration) string { return configs.FormatDuration(d.Round(time.Second)) }

// gather makes the Status of a cluster of several shards from what its nodes say.
func gather(s Status, nodes []ClusterNode, shards []ShardStatus) Status {
	s.Nodes, s.Shards, s.Problems = nil, shards, problems(nodes, shards)
	var silent []string
	s.Moves = make(map[string]uint64)
	for _, n := range nodes {
		m := Member{Name: n.Name, Role: n.Role, Since: n.Started, Heard: n.Heard, Addresses: n.Addresses}
		for _, owned := range shards {
			if owned.Owner == n.Name && owned.State != ShardNone {
				m.Shards++
			}
		}
		if n.State == NodeRevoked {
			continue
		}
		if n.State != NodeUp || n.Error != "" {
			m.Role = cmp.Or(m.Role, n.State)
			silent = append(silent, n.Name)
		}
		s.Nodes = append(s.Nodes, m)
		s.Records += n.Records
		s.Bytes += n.Bytes
		s.Groups += n.Groups
		s.Lagging = append(s.Lagging, n.Lagging...)
		s.Waiting += n.Waiting
		s.Upkeep = max(s.Upkeep, n.Upkeep)
		s.Connections += n.Connections
		s.Oldest = max(s.Oldest, n.Catalogue)
		for reason, count := range n.Moves {
			s.Moves[reason] += count
		}
		if n.Gateways != nil {
			s.Gateways = *n.Gateways
		}
	}
	for _, one := range shards {
		s.Rate += one.Rate
		s.ByteRate += one.ByteRate
		s.Damaged += one.Damaged
	}
	if len(silent) > 0 {
		s.Problems = append(s.Problems, "figures are without those of "+strings.Join(silent, ", "))
	}
	slices.SortStableFunc(s.Lagging, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return s
}
