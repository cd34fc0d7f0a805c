// Package broker is the one API that every door of the cloud uses: topics, appends,
// fetches, groups.
//
// Every call names its subject: a partition, a group, a transactional id, a gateway.
// Each of these belongs to a slice, a slice to a shard, and a shard has one owner
// (package weir has the slices, table.go the rest). A node that is not the owner
// returns ErrNotOwner, as a NotOwnerError that names the owner. Leader, Coordinator
// and Controller return the node to ask. The catalogue, which belongs to the cluster
// as a whole, is in shard 0. Calls that begin with Known also work on other nodes,
// from a copy of what the owner of shard 0 knows. In a cluster of several shards so do
// Topics, Topic and TopicByID: an owner of partitions must find their topics.
package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// The log's types that doors use.
type (
	Node    = cluster.Node
	Topic   = logstate.Topic
	Append  = commitlog.Append
	Source  = logstate.Source
	Fetched = commitlog.Fetched
	Lease   = commitlog.Lease
	Growth  = commitlog.Growth
	Refused = commitlog.RefusedError
)

// Errors of the calls below, to be tested with errors.Is.
var (
	// ErrNotOwner means that another node serves the shard, or none does yet. Nothing
	// that was passed to the call is durable here. See NotOwnerError.
	ErrNotOwner = errors.New("not the owner of the shard")
	// ErrUnavailable means that this node owns the shard but cannot reach the bucket to
	// confirm that.
	ErrUnavailable = errors.New("bucket does not answer")
	// ErrInvalidConfig means an unknown topic setting, or an invalid value.
	ErrInvalidConfig = errors.New("invalid topic setting")
	// ErrInvalidTimestamp means that a record's timestamp is further from now than its
	// topic allows.
	ErrInvalidTimestamp = errors.New("timestamp out of range")

	// ErrFenced and ErrClosed mean that the log ended during a call that bypassed the
	// broker; the outcome of the call is not known. The broker's own calls return
	// ErrNotOwner instead.
	ErrFenced = commitlog.ErrFenced
	ErrClosed = commitlog.ErrClosed

	// ErrBehind with ErrUnknownTopic means that a topic was not opened in its shard because
	// this node knows more of the catalogue by now. The next attempt succeeds if the topic
	// exists.
	ErrBehind = commitlog.ErrBehind

	ErrUnknownTopic       = commitlog.ErrUnknownTopic
	ErrTopicExists        = commitlog.ErrTopicExists
	ErrTopicDeleting      = commitlog.ErrTopicDeleting
	ErrInvalidTopic       = logstate.ErrInvalidTopic
	ErrInvalidPartitions  = commitlog.ErrInvalidPartitions
	ErrOffsetOutOfRange   = commitlog.ErrOffsetOutOfRange
	ErrCorrupt            = logstate.ErrCorrupt
	ErrTooLarge           = commitlog.ErrTooLarge
	ErrOutOfOrderSequence = logstate.ErrOutOfOrderSequence
	ErrProducerFenced     = logstate.ErrProducerFenced
	ErrUnknownProducer    = logstate.ErrUnknownProducer
	ErrTransactionOpen    = logstate.ErrTransactionOpen
	ErrUnsupported        = commitlog.ErrUnsupported
)

// Why a gateway's batch was refused; see Refused.
const (
	ReasonSequence = commitlog.ReasonSequence
	ReasonTopic    = commitlog.ReasonTopic
	ReasonRetired  = commitlog.ReasonRetired
	ReasonAside    = commitlog.ReasonAside
)

// Options configure a Broker.
type Options struct {
	Self       Node
	Shards     int   // of the cluster, when it was created; 1. See SetMap
	Partitions int32 // of a topic that is created without a number of partitions
	AutoCreate bool  // a topic is created when a request names it
	Metrics    *metrics.Set
	Mutations  Mutations // break rules, in tests

	// Takeover is the silence after which another node takes over what this one owns; 0: none
	// does, and AwaitSure waits for nothing.
	Takeover time.Duration

	// Members lists the other nodes of the cluster that are alive, for clients of a cluster
	// of several shards. nil: a client learns only of nodes that serve something.
	Members func() []Node

	Transacting Transacting // nil functions: transactions do not span nodes

	// Drop calls DropTopic at another node, which owns the shard. nil: only this node owns
	// any.
	Drop func(ctx context.Context, owner Node, id uint32, topic weir.TopicID, at journal.Position) error

	// Create calls CreateTopic at the controller, in a cluster of several shards. With
	// ErrTopicExists it returns the existing topic. nil: only the controller can create.
	Create func(ctx context.Context, controller Node, name string, partitions int32, configs map[string]string) (Topic, error)

	// Told, if set, returns when the other nodes know the catalogue up to a position, or
	// when they have had the time for that.
	Told func(ctx context.Context, at journal.Position)
}

// Broker is safe for use by many goroutines.
type Broker struct {
	o      Options
	table  atomic.Pointer[table]
	copied atomic.Pointer[Copy]            // see SetCopy
	acks   *metrics.PrometheusHistogram    // seconds from Append to its durable answer
	ended  map[txn.Ending]*metrics.Counter // transactions; the map is not changed

	changing sync.Mutex    // guards changes of the table
	altering chan struct{} // holds a token while a topic's settings are changed

	noticing sync.Mutex
	notice   chan struct{} // guarded by noticing; see changed
	turn     chan struct{} // guarded by noticing; see turned
}

// New returns a broker that owns nothing yet.
func New(o Options) *Broker {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	b := &Broker{o: o, acks: o.Metrics.NewPrometheusHistogramExt("weir_shard_ack_seconds", exposition.Seconds()), altering: make(chan struct{}, 1), notice: make(chan struct{}), turn: make(chan struct{})}
	b.table.Store(&table{routes: weir.FirstMap(o.Shards), count: max(1, o.Shards)})
	b.ended = make(map[txn.Ending]*metrics.Counter)
	for _, how := range []txn.Ending{txn.Committed, txn.Aborted, txn.TimedOut} {
		b.ended[how] = o.Metrics.NewCounter(fmt.Sprintf("weir_transactions_total{end=%q}", how))
	}
	return b
}

// Several reports whether the cluster has more than one shard, as far as this node knows.
func (b *Broker) Several() bool { return b.table.Load().count > 1 }

// Self is this node.
func (b *Broker) Self() Node { return b.o.Self }

// translate turns the log's errors for a lost shard, and for slices that are moved, into
// the broker's.
func translate(err error) error {
	if errors.Is(err, commitlog.ErrFenced) || errors.Is(err, commitlog.ErrClosed) || errors.Is(err, commitlog.ErrMoving) || errors.Is(err, commitlog.ErrMoved) {
		return errors.Join(ErrNotOwner, err)
	}
	return err
}

// Groups returns the coordinator of a consumer group.
func (b *Broker) Groups(id string) (*group.Coordinator, error) {
	s, err := b.at(weir.SliceOfGroup(id))
	if err != nil {
		return nil, err
	}
	return s.Groups, nil
}

// NewProducerID returns an id that no other producer of the cluster has or
// will have. It is durable on return. Every node that serves a shard can make one.
func (b *Broker) NewProducerID(ctx context.Context) (int64, error) {
	s, err := b.catalogue()
	if owned, _ := b.owned(); err != nil && len(owned) > 0 {
		s, err = owned[0], nil
	}
	if err != nil {
		return 0, err
	}
	id, err := s.Log.NewProducerID(ctx)
	return id, translate(err)
}
