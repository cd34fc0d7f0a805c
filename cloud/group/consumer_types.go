package group

import "time"

// Type says by which protocol a group's members agree.
type Type string

// The types of groups, with the names of the Kafka protocol.
const (
	Classic  Type = "classic"  // members assign the partitions themselves; also groups that never had members
	Consumer Type = "consumer" // the coordinator assigns them (KIP-848)
)

// Epochs that a member of a consumer group sends in place of its own.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // and will be back before the session ends
)

// ConsumerHeartbeatRequest is what a member of a consumer group says. What is
// null in the protocol is nil here, and means: as before.
type ConsumerHeartbeatRequest struct {
	Group      string
	Identity                 // Member is made by the client, but see MakeID
	Epoch      int32         // the member's; 0: it joins, and has nothing; -1: it leaves; -2: a static member leaves for a while
	Rack       string        // told to administrators, nothing else
	Rebalance  time.Duration // how long the member may take to give up partitions; negative: as before
	Topics     []string      // subscribed by name; copied
	Pattern    *string       // subscribed by a regular expression (RE2) for whole names; "" ends that
	Assignor   *string       // that the member prefers
	Owned      []Partition   // what the member has
	ClientID   string
	ClientHost string

	MakeID bool // a new member without an id gets one (ConsumerGroupHeartbeat v0)

	// May tells whether the member may know of a topic that its Pattern matches.
	// It is asked later, too; it must be quick and not call the coordinator.
	// Nil: it may know of all.
	May func(topic string) bool
}

// ConsumerHeartbeatResponse is what the coordinator says to a member.
type ConsumerHeartbeatResponse struct {
	Member   string
	Epoch    int32
	Interval time.Duration // until the next heartbeat
	Assigned []Partition   // all that the member may read, in order; nil: as before
}

// ConsumerDescription is everything about one consumer group but its offsets.
type ConsumerDescription struct {
	Listing
	Epoch       int32 // of the group
	TargetEpoch int32 // of the assignment that the members are on their way to
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
	Topics     []string // subscribed by name
	Pattern    string
	Reads      []string    // the topics that Topics and Pattern come to; those that exist
	Assigned   []Partition // what it may read
	Target     []Partition // what it is to read
}
