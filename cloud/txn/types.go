package txn

import (
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// State of a transactional id, with the names of the Kafka protocol.
type State string

// The states of a transactional id.
const (
	Empty          State = "Empty" // no transaction since the producer began
	Ongoing        State = "Ongoing"
	CompleteCommit State = "CompleteCommit"
	CompleteAbort  State = "CompleteAbort"
)

// Kafka's names of states that are never durable here, nor seen from outside.
// To ask for them is no mistake.
const (
	PrepareCommit     State = "PrepareCommit"
	PrepareAbort      State = "PrepareAbort"
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
	Expected *Producer     // who the caller was until now (KIP-360); nil: it begins anew
}

// Ending is how a transaction has ended.
type Ending string

// The endings of transactions.
const (
	Committed Ending = "commit"
	Aborted   Ending = "abort" // by its producer, or because another has begun under its transactional id
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

// EndRequest ends a transaction.
type EndRequest struct {
	ID       string
	Producer Producer
	Commit   bool
	Bump     bool // the producer goes on with a new epoch (KIP-890)
}

// Listing is one line of the list of transactional ids.
type Listing struct {
	ID       string
	Producer Producer
	State    State
	Started  time.Time // of the newest transaction; zero if there was none since the producer began
}

// Description is everything about one transactional id.
type Description struct {
	Listing
	Timeout time.Duration
	Places  []state.Place // of the ongoing transaction, by topic and partition; those of deleted topics included
	Groups  []string      // whose offsets are part of it, by name
}
