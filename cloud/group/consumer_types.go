package group

import "time"

// Type is the protocol by which partitions are assigned to a group's members.
type Type string

// The types of groups, named as in the Kafka protocol; there is also Share.
const (
	Classic  Type = "classic"  // members assign the partitions themselves; also groups that never had members
	Consumer Type = "consumer" // the coordinator assigns them (KIP-848)
)

// Epochs that a member of a consumer group sends in place of its own.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // the member will be back before the session ends
)

// ConsumerHeartbeatRequest is a heartbeat of a member of a consumer group. Fields
// that are null in the protocol are nil here, and mean: no change.
type ConsumerHeartbeatRequest struct {
	Group      string
	Identity                 // the client makes Member, but see MakeID
	Epoch      int32         // the member's; 0: it joins, and has nothing; -1: it leaves; -2: a static member leaves for a while
	Rack       string        // shown to administrators, not used otherwise
	Rebalance  time.Duration // how long the member may take to give up partitions; negative: no change
	Topics     []string      // names it subscribes to; copied
	Pattern    *string       // regular expression (RE2) for whole names it subscribes to; "" ends that
	Assignor   *string       // the one that the member prefers
	Owned      []Partition   // what the member has
	ClientID   string
	ClientHost string

	MakeID bool // a new member without an id gets one (ConsumerGroupHeartbeat v0)

	// May reports whether the member may know of a topic that its Pattern matches; nil:
	// it may know of all. It is also called after the request. It must be quick and must
	// not call the coordinator.
	May func(topic string) bool
}

// ConsumerHeartbeatResponse is the answer to a heartbeat.
type ConsumerHeartbeatResponse struct {
	Member   string
	Epoch    int32
	Interval time.Duration // until the next heartbeat
	Assigned []Partition   // all that the member may read, in order; nil: no change
}

// ConsumerDescription describes a consumer group, without its offsets.
type ConsumerDescription struct {
	Listing
	Epoch       int32 // of the group
	TargetEpoch int32 // of the assignment that the members are moving to
	Assignor    string
	Details     []ConsumerMember // in order of arrival
}

// ConsumerMember is one member of a ConsumerDescription.
type ConsumerMember struct {
	Identity
	Rack       string
	Epoch      int32
	ClientID   string
	ClientHost string
	Topics     []string // names it subscribes to
	Pattern    string
	Reads      []string    // topics that Topics and Pattern select and that exist
	Assigned   []Partition // what it may read
	Target     []Partition // what it is to read
}
