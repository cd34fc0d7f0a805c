package txn

import (
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// State is the state of a transactional id, named as in the Kafka protocol.
type State string

// The states of a transactional id.
const (
	Empty          State = "Empty" // no transaction since the producer began
	Ongoing        State = "Ongoing"
	PrepareCommit  State = "PrepareCommit" // decided, and not yet done in every shard; only if it spans shards
	PrepareAbort   State = "PrepareAbort"
	CompleteCommit State = "CompleteCommit"
	CompleteAbort  State = "CompleteAbort"
)

// States of Kafka that never occur here. Requests may name them all the same.
const (
	PrepareEpochFence State = "PrepareEpochFence"
	Dead              State = "Dead"
)

// Producer is a producer id at an epoch.
type Producer struct {
	ID    int64
	Epoch int16
}

// NoProducer says that there is none.
var NoProducer = Producer{-1, -1}

// InitRequest asks for the producer of a transactional id.
type InitRequest struct {
	ID       string
	Timeout  time.Duration // a transaction is aborted when it lasts longer
	Expected *Producer     // the caller's current producer (KIP-360); nil: it starts anew
}

// Ending is how a transaction has ended.
type Ending string

// The endings of transactions.
const (
	Committed Ending = "commit"
	Aborted   Ending = "abort" // by its producer, or because a new producer of its transactional id began
	TimedOut  Ending = "timeout"
)

// Appended is a transactional batch on its way to the log.
type Appended struct {
	commitlog.Append
	ID       string // transactional id
	Implicit bool   // the batch adds its partition to the transaction (KIP-890)
}

// OffsetsRequest makes offsets of a group part of a transaction.
type OffsetsRequest struct {
	ID       string
	Producer Producer
	Implicit bool // the request adds the group to the transaction (KIP-890)
	Commit   group.CommitRequest
}

// Part is a partition of a transaction or, if Group is not empty, a group.
type Part struct {
	ID       string // transactional id
	Producer Producer
	Place    state.Place
	Group    string
	Implicit bool // it may be added to the transaction (KIP-890)
}

// Decision is how a transaction ends in a shard, and what is part of it there.
type Decision struct {
	Producer Producer // its id, and the epoch of the markers
	Number   uint64   // of the transaction
	Commit   bool
	Places   []state.Place
	Groups   []string
}

// EndRequest ends a transaction.
type EndRequest struct {
	ID       string
	Producer Producer
	Commit   bool
	Bump     bool // the producer gets a new epoch (KIP-890)
}

// Listing is one transactional id in a list.
type Listing struct {
	ID       string
	Producer Producer
	State    State
	Started  time.Time // of the latest transaction; zero if there was none since the producer began
}

// Description describes a transactional id.
type Description struct {
	Listing
	Timeout time.Duration
	Places  []state.Place // of the ongoing transaction, by topic and partition; those of deleted topics included
	Groups  []string      // groups whose offsets are part of it, by name
}
