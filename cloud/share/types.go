package share

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Place is a partition as a group shares it.
type Place = state.Place

// Options of a Manager. The zero value of each field means its default.
type Options struct {
	MaxPartitions int // that groups share; 100,000

	// Settings, if set, returns the settings of a group. It is called with the manager
	// locked, and must not wait.
	Settings func(group string) Settings

	// Here, if set, reports whether a partition is in this shard: dead letters in these are
	// durable together with what becomes of their records.
	Here func(topic weir.TopicID, partition int32) bool

	// Send, if set, appends dead letters to a partition that is in another shard. It returns
	// when they are durable; after an error they may be or become that.
	Send func(ctx context.Context, topic weir.TopicID, partition int32, letters record.Batch) error

	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now, for the first record of a group that begins some time ago, and for dead letters
}

func (o Options) withDefaults() Options {
	o.MaxPartitions = cmp.Or(o.MaxPartitions, 100_000)
	if o.Settings == nil {
		o.Settings = func(string) Settings { return Settings{} }
	}
	if o.Here == nil {
		o.Here = func(weir.TopicID, int32) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Settings of a group. The zero value of each field means its default.
type Settings struct {
	Earliest   bool          // a group begins with the first record of a partition; default: with the next one
	Since      time.Duration // if not 0, it begins with the first record that is at most so old
	Lock       time.Duration // how long a member has acquired a record; 30 s
	Committed  bool          // records of transactions that are open or were aborted are not delivered
	Deliveries int           // a record is done when so many deliveries have ended without success; 5
	Locks      int           // records of a partition that may be acquired at once; 2,000

	DeadLetters string // the topic to which records are copied that are done without success; "": none
	CopyDead    bool   // with key, value and headers; else only where from and why
	BatchBytes  int    // the most in a batch of that topic if it has no max.message.bytes itself; 1 MiB and 12 bytes
}

func (s Settings) withDefaults() Settings {
	s.Lock = cmp.Or(s.Lock, 30*time.Second)
	s.Deliveries = cmp.Or(s.Deliveries, 5)
	s.Locks = cmp.Or(s.Locks, 2_000)
	s.BatchBytes = cmp.Or(s.BatchBytes, 1<<20+12)
	return s
}

// Request asks for records of a partition.
type Request struct {
	Place
	Member  string
	Bytes   int // about so many bytes, and at least one record if there is any
	Records int // at most so many; 0: no limit
}

// Acquired is what a member has got.
type Acquired struct {
	Batches [][]byte         // stored batches that hold the records, and others; shared with the log: not to be changed
	Lease   *commitlog.Lease // of their memory
	Records []Delivery       // which of the records the member has acquired, in order

	// More, if there are no records, are closed when there may be some.
	More []<-chan struct{}
}

// Delivery is a row of acquired records. Last is in it.
type Delivery struct {
	First, Last int64
	Count       int // which delivery of each it is, beginning with 1
}

// Verdict is what a member says of a record.
type Verdict int8

// The verdicts, with their numbers in the Kafka protocol.
const (
	Gap     Verdict = iota // there is no such record
	Accept                 // done
	Release                // to be delivered again
	Reject                 // done, without success
	Renew                  // the member goes on: its time begins anew
)

// Acknowledgement is a member's verdict on a row of records. Last is in it.
type Acknowledgement struct {
	First, Last int64
	Verdicts    []Verdict // one for all, or one for each
}

// Offsets is how far a group is in a partition.
type Offsets struct {
	Place
	Start int64 // all records before it are done
	Lag   int64 // records from there on that are not done
}

// Usage is how far a group is in a topic, and what it has done there since this owner began
// to serve it.
type Usage struct {
	Group                        string
	Topic                        weir.TopicID
	Lag                          int64 // records that are not done, as in Offsets
	Acquired                     int64 // of them: that members have now
	Accepted, Rejected, Archived int64 // done: with success, without, and because there were too many deliveries
	Copied, Uncopied             int64 // of a group with a dead-letter topic: records that are there, and those that are not because it could not be used
}

// Errors. Errors of the log are returned, too.
var (
	ErrClosed         = errors.New("share groups are not served")                            // NOT_LEADER_OR_FOLLOWER
	ErrInvalidState   = errors.New("member has not acquired the record")                     // INVALID_RECORD_STATE
	ErrInvalid        = errors.New("acknowledgement is not valid")                           // INVALID_REQUEST
	ErrTooMany        = errors.New("too many partitions are shared")                         // POLICY_VIOLATION
	ErrUnknown        = errors.New("group does not share the partition")                     // UNKNOWN_TOPIC_OR_PARTITION
	ErrCorrupt        = state.ErrCorrupt                                                     // an entry of the log
	ErrNoSession      = errors.New("share session is not known")                             // SHARE_SESSION_NOT_FOUND
	ErrSessionEpoch   = errors.New("share session epoch is not the next one")                // INVALID_SHARE_SESSION_EPOCH
	ErrSessionLimit   = errors.New("no room for more share sessions")                        // SHARE_SESSION_LIMIT_REACHED
	ErrSessionTooWide = errors.New("share session has too many partitions for one consumer") // INVALID_REQUEST
)
