package console

import (
	"time"

	"github.com/weirmq/weir/cloud/admin"
)

// Node is the answer to GET /v1/node: the node that answered, and the owner of the
// shard.
type Node struct {
	Name    string `json:"name"`
	Role    string `json:"role"` // owner, recovering or standby
	Epoch   int32  `json:"epoch"`
	Cluster string `json:"cluster"`
	Kafka   string `json:"kafka"` // addresses of the owner
	Sync    string `json:"sync"`
	HTTP    string `json:"http"`
	Owner   string `json:"owner"`
}

// Topic is one line of GET /v1/topics.
type Topic struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Created    time.Time         `json:"created"`
	Records    int64             `json:"records"`            // between start and end, all partitions
	Bytes      int64             `json:"bytes"`              // at rest
	Rate       float64           `json:"records_per_second"` // over the last minute; also 0 while it is not known
	Partitions []Partition       `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
}

// Partition is the extent of one partition.
type Partition struct {
	Start int64 `json:"start"` // first offset
	End   int64 `json:"end"`   // offset of the next record
	Bytes int64 `json:"bytes"` // at rest

	Leader string `json:"leader,omitempty"` // another node, which alone knows the figures
}

// NewTopic is the body of POST /v1/topics.
type NewTopic struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"` // -1: the default
	Configs    map[string]string `json:"configs,omitempty"`
}

// TopicConfigs is the body of POST /v1/topics/{name}/configs. Settings that it does not
// name stay as they are.
type TopicConfigs struct {
	Configs map[string]string `json:"configs"` // an empty value removes the topic's own setting
}

// Group is one line of GET /v1/groups, and the answer to /v1/groups/{id}.
type Group struct {
	ID       string        `json:"id"`
	State    string        `json:"state"`
	Protocol string        `json:"protocol"`
	Members  int           `json:"members"`
	Lag      int64         `json:"lag"`               // records, of all its partitions but those of Unknown
	Unknown  int           `json:"unknown,omitempty"` // partitions whose end is not known, as the nodes that lead them do not answer
	Offsets  []GroupOffset `json:"offsets,omitempty"`
	Details  []GroupMember `json:"details,omitempty"` // of the members
}

// GroupMember is one member of a group.
type GroupMember struct {
	ID         string   `json:"id"`
	Instance   string   `json:"instance,omitempty"` // of a static member
	Client     string   `json:"client"`
	Host       string   `json:"host"`
	Partitions []string `json:"partitions,omitempty"` // that it reads, as TOPIC/NUMBER
}

// GroupOffset is a group's position in one partition.
type GroupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"`
	End       int64  `json:"end"`              // -1: the node that leads the partition does not answer
	Lag       int64  `json:"lag"`              // likewise
	Member    string `json:"member,omitempty"` // that reads the partition
}

// NewToken is the body of POST /v1/join-tokens; zero values mean the defaults.
type NewToken struct {
	Uses     int      `json:"uses"`
	Seconds  int      `json:"seconds"`
	Gateways []string `json:"gateways,omitempty"`
	Topics   []string `json:"topics,omitempty"` // patterns; gateways that join with it may write to no other topics
}

// Token is the answer. The token is not shown again.
type Token struct {
	Token string `json:"token"`
}

// Error is the body of every answer that reports an error.
type Error = admin.Error

// GatewayChange is the body of POST /v1/gateways/{change}.
type GatewayChange struct {
	Gateway string   `json:"gateway"`
	Topics  []string `json:"topics,omitempty"` // of allow and deny: patterns
}
