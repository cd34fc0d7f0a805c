// Package broker is the one API that every door of the cloud speaks: topics,
// appends, fetches, groups.
//
// Every call names what it is about: a partition, a group, a transactional id, a
// gateway. Each of these belongs to a slice, a slice to a shard, and a shard has one
// owner (slice.go, table.go). A node that is not the owner answers ErrNotOwner, with
// the owner in a NotOwnerError; Leader, Coordinator and Controller say whom to ask.
// What belongs to the cluster as a whole, the catalogue, is in shard 0. Calls that
// begin with Known also answer on other nodes, from a copy of what its owner knows.
package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// The words that doors use are those of the log below.
type (
	Node    = cluster.Node
	Topic   = logstate.Topic
	Append  = commitlog.Append
	Source  = logstate.Source
	Fetched = commitlog.Fetched
	Refused = commitlog.RefusedError
)

// Errors of the calls below, to be tested with errors.Is.
var (
	// ErrNotOwner: another node serves the shard, or none does yet. Nothing
	// that was handed over is durable here. See NotOwnerError.
	ErrNotOwner = errors.New("not the owner of the shard")
	// ErrUnavailable: this node owns the shard but cannot reach the bucket to
	// make sure that it still does.
	ErrUnavailable = errors.New("bucket does not answer")
	// ErrInvalidConfig: an unknown topic setting, or a value it cannot have.
	ErrInvalidConfig = errors.New("invalid topic setting")
	// ErrInvalidTimestamp: a record's timestamp is further from now than its
	// topic allows.
	ErrInvalidTimestamp = errors.New("timestamp out of range")

	// ErrFenced and ErrClosed: the log has ended under a call that went past
	// the broker; whether the call had an effect is not known. The broker's own
	// calls say ErrNotOwner instead.
	ErrFenced = commitlog.ErrFenced
	ErrClosed = commitlog.ErrClosed

	ErrUnknownTopic       = commitlog.ErrUnknownTopic
	ErrTopicExists        = commitlog.ErrTopicExists
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
	Partitions int32 // of a topic that is created without saying how many
	AutoCreate bool  // doors may create a topic that somebody names
	Metrics    *metrics.Set
}

// Broker is safe for use by many goroutines.
type Broker struct {
	o      Options
	table  atomic.Pointer[table]
	copied atomic.Pointer[Copy]            // see SetCopy
	acks   *metrics.PrometheusHistogram    // seconds from Append to its durable answer
	ended  map[txn.Ending]*metrics.Counter // transactions; the map is not changed

	changing sync.Mutex    // of the table
	altering chan struct{} // holds a token while a topic's settings are changed
}

// New returns a broker that owns nothing yet.
func New(o Options) *Broker {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	b := &Broker{o: o, acks: o.Metrics.NewPrometheusHistogramExt("weir_shard_ack_seconds", exposition.Seconds()), altering: make(chan struct{}, 1)}
	b.table.Store(new(table))
	b.ended = make(map[txn.Ending]*metrics.Counter)
	for _, how := range []txn.Ending{txn.Committed, txn.Aborted, txn.TimedOut} {
		b.ended[how] = o.Metrics.NewCounter(fmt.Sprintf("weir_transactions_total{end=%q}", how))
	}
	o.Metrics.RegisterMetricsWriter(b.writeMetrics)
	return b
}

// Self is this node.
func (b *Broker) Self() Node { return b.o.Self }

// translate turns the log's word for "not mine any more" into the broker's.
func translate(err error) error {
	if errors.Is(err, commitlog.ErrFenced) || errors.Is(err, commitlog.ErrClosed) {
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

// AllGroups returns the coordinators of the groups that this node serves: others may
// serve more.
func (b *Broker) AllGroups() ([]*group.Coordinator, error) {
	var all []*group.Coordinator
	shards, err := b.owned()
	for _, s := range shards {
		all = append(all, s.Groups)
	}
	return all, err
}

// NewProducerID returns an id that no other producer of the cluster has or
// will have. It is durable on return.
func (b *Broker) NewProducerID(ctx context.Context) (int64, error) {
	s, err := b.catalogue()
	if err != nil {
		return 0, err
	}
	id, err := s.Log.NewProducerID(ctx)
	return id, translate(err)
}
