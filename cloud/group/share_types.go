package group

import "time"

// Share is the type of groups whose members share partitions (KIP-932): the coordinator
// assigns each partition to one or more members, and package share has what becomes of
// the records.
const Share Type = "share"

// ShareProtocol is the protocol type of all groups of type Share.
const ShareProtocol = "share"

// ShareAssignor is the name of the one assignor of share groups, as in Kafka.
const ShareAssignor = "simple"

// ShareHeartbeatRequest is a heartbeat of a member of a share group.
type ShareHeartbeatRequest struct {
	Group      string
	Member     string   // made by the client
	Epoch      int32    // the member's; 0: it joins; -1: it leaves
	Rack       string   // shown to administrators, not used otherwise
	Topics     []string // names it subscribes to; nil: no change; copied
	ClientID   string
	ClientHost string
}

// ShareHeartbeatResponse is the answer to it.
type ShareHeartbeatResponse struct {
	Epoch    int32
	Interval time.Duration // until the next heartbeat
	Assigned []Partition   // all that the member is to read, in order; nil: no change
}

// ShareDescription describes a share group.
type ShareDescription struct {
	Listing
	Epoch   int32
	Details []ShareMember // in order of arrival
}

// ShareMember is one member of a ShareDescription.
type ShareMember struct {
	Member     string
	Rack       string
	Epoch      int32
	ClientID   string
	ClientHost string
	Topics     []string // names it subscribes to
	Assigned   []Partition
}
