package group

import "time"

// Protocol is a method of assignment that a member supports, with the member's
// metadata for it. The coordinator does not interpret Metadata.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinRequest asks for membership in the next generation of a group.
type JoinRequest struct {
	Group        string
	Member       string // empty: a new member
	Instance     string // group.instance.id of a static member (KIP-345); empty: dynamic
	ClientID     string
	ClientHost   string
	Session      time.Duration // the member is removed after this long without a sign of life
	Rebalance    time.Duration // how long a rebalance waits for this member to join again
	ProtocolType string
	Protocols    []Protocol // in the member's order of preference; copied
	RequireID    bool       // a new dynamic member must come back with an id (KIP-394; JoinGroup v4 and later)
	SkipLeader   bool       // the member knows SkipAssignment (KIP-814; JoinGroup v9 and later)
}

// JoinResponse describes the generation that a member has joined. With
// ErrMemberIDRequired only Member is set.
type JoinResponse struct {
	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	Member         string
	SkipAssignment bool           // the leader must not assign anew (a static leader that came back)
	Members        []JoinedMember // for the leader only, in order of arrival
}

// JoinedMember describes one member to the leader.
type JoinedMember struct {
	ID       string
	Instance string
	Metadata []byte
}

// SyncRequest asks for the member's assignment; the leader's carries all assignments.
type SyncRequest struct {
	Group        string
	Generation   int32
	Member       string
	Instance     string
	ProtocolType string            // empty: not checked (before SyncGroup v5)
	Protocol     string            // empty: not checked
	Assignments  map[string][]byte // by member id, from the leader; copied
}

// SyncResponse is one member's assignment.
type SyncResponse struct {
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// Identity names a member in a request.
type Identity struct {
	Member   string
	Instance string
}

// Partition names a partition of a topic by the topic's id: the offsets of a
// deleted topic do not apply to a later one of the same name.
type Partition struct {
	Topic [16]byte
	Index int32
}

// Offset is a committed position: the next offset to be read.
type Offset struct {
	Partition
	Offset      int64
	LeaderEpoch int32  // -1: none given
	Metadata    string // opaque, returned unchanged
	CommittedAt int64  // ms since 1970, set by Commit

	at int64 // its own offset in the offsets topic, if that exists; see history
}

// CommitRequest stores offsets. A Generation of -1 with an empty Member is a simple
// commit, by a client that does not use group membership.
type CommitRequest struct {
	Group      string
	Generation int32 // or the member epoch
	Identity
	Offsets []Offset
	Epochs  bool // the client knows of member epochs (OffsetCommit v9 and later)
}

// State is the state of a group, named as in the Kafka protocol.
type State string

// The states of a group.
const (
	Empty               State = "Empty"
	PreparingRebalance  State = "PreparingRebalance"
	CompletingRebalance State = "CompletingRebalance"
	Stable              State = "Stable"
	Reconciling         State = "Reconciling" // of consumer groups
	Dead                State = "Dead"        // of groups that do not exist
)

// Listing is one line of the list of groups.
type Listing struct {
	Group        string
	Type         Type
	ProtocolType string
	State        State
	Members      int
}

// Description describes a group, without its offsets.
type Description struct {
	Listing
	Protocol   string
	Generation int32
	Leader     string
	Details    []MemberDescription // in order of arrival
}

// MemberDescription is one member of a Description.
type MemberDescription struct {
	Identity
	ClientID   string
	ClientHost string
	Metadata   []byte
	Assignment []byte
}
