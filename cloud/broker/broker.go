// Package broker is the one API that every door of the cloud speaks: topics,
// appends, fetches, groups. It hides whether this node owns the shard: on a
// standby every call answers ErrNotOwner, and Owner says whom to ask. Calls that
// begin with Known also answer there, from a copy of what the owner knows.
package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
)

// The words that doors use are those of the log below.
type (
	Node        = cluster.Node
	Topic       = commitlog.Topic
	Append      = commitlog.Append
	Source      = commitlog.Source
	Stream      = commitlog.Stream
	Fetched     = commitlog.Fetched
	Mark        = commitlog.Mark
	MapRow      = commitlog.MapRow
	Row         = commitlog.Row
	BufferState = commitlog.BufferState
	Refused     = commitlog.RefusedError
)

// Errors of the calls below, to be tested with errors.Is.
var (
	// ErrNotOwner: another node serves the shard, or none does yet. Nothing
	// that was handed over is durable here.
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
	ErrInvalidTopic       = commitlog.ErrInvalidTopic
	ErrInvalidPartitions  = commitlog.ErrInvalidPartitions
	ErrOffsetOutOfRange   = commitlog.ErrOffsetOutOfRange
	ErrCorrupt            = commitlog.ErrCorrupt
	ErrTooLarge           = commitlog.ErrTooLarge
	ErrOutOfOrderSequence = commitlog.ErrOutOfOrderSequence
	ErrProducerFenced     = commitlog.ErrProducerFenced
	ErrUnknownProducer    = commitlog.ErrUnknownProducer
	ErrTransactionOpen    = commitlog.ErrTransactionOpen
	ErrUnsupported        = commitlog.ErrUnsupported
)

// What can be known of a gateway's buffer.
const (
	BufferNew     = commitlog.New
	BufferKnown   = commitlog.Known
	BufferRetired = commitlog.Retired
	BufferAside   = commitlog.Aside
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

	// Settings are those that clients have changed, nil while this node does not own
	// the shard. Without the function, none can be changed.
	Settings func() *settings.Settings
}

// Broker is safe for use by many goroutines.
type Broker struct {
	o      Options
	state  atomic.Pointer[state]
	copied atomic.Pointer[Copy]            // see SetCopy
	acks   *metrics.PrometheusHistogram    // seconds from Append to its durable answer
	ended  map[txn.Ending]*metrics.Counter // transactions; the map is not changed

	altering chan struct{} // holds a token while a topic's settings are changed
}

// state is replaced as a whole whenever the role of this node changes.
type state struct {
	owner     Node         // zero: nobody known
	shard     *shard.Shard // nil: another node's
	clusterID string
	doubt     bool
}

// New returns a broker that owns nothing yet.
func New(o Options) *Broker {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	b := &Broker{o: o, acks: o.Metrics.NewPrometheusHistogramExt("weir_shard_ack_seconds", exposition.Seconds()), altering: make(chan struct{}, 1)}
	b.state.Store(&state{})
	b.ended = make(map[txn.Ending]*metrics.Counter)
	for _, how := range []txn.Ending{txn.Committed, txn.Aborted, txn.TimedOut} {
		b.ended[how] = o.Metrics.NewCounter(fmt.Sprintf("weir_transactions_total{end=%q}", how))
	}
	o.Metrics.RegisterMetricsWriter(b.writeMetrics)
	return b
}

// Lead makes this node the owner: calls go to the shard from now on.
func (b *Broker) Lead(s *shard.Shard) {
	b.state.Store(&state{owner: b.o.Self, shard: s, clusterID: s.Log.ClusterID()})
}

// Follow makes this node a standby of owner.
func (b *Broker) Follow(owner Node, clusterID string) {
	b.state.Store(&state{owner: owner, clusterID: clusterID})
}

// Doubt suspends reads and writes while the owner cannot confirm itself, and
// resumes them.
func (b *Broker) Doubt(doubt bool) {
	if s := b.state.Load(); s.shard != nil {
		next := *s
		next.doubt = doubt
		b.state.CompareAndSwap(s, &next)
	}
}

// Self is this node.
func (b *Broker) Self() Node { return b.o.Self }

// Owner is the node that serves the shard, as far as is known here.
func (b *Broker) Owner() (Node, bool) {
	owner := b.state.Load().owner
	return owner, owner.Name != ""
}

// IsOwner reports whether this node serves the shard.
func (b *Broker) IsOwner() bool { return b.state.Load().shard != nil }

// ClusterID names the bucket; "" until it is known.
func (b *Broker) ClusterID() string { return b.state.Load().clusterID }

// Epoch is the leader epoch of this owner, -1 on a standby.
func (b *Broker) Epoch() int32 {
	if s := b.state.Load().shard; s != nil {
		return s.Log.Epoch()
	}
	return -1
}

// Serving returns nil if this node serves the shard, and is sure of it. Errors:
// ErrNotOwner, ErrUnavailable.
func (b *Broker) Serving() error {
	_, err := b.owned()
	return err
}

// owned returns the log if this node may serve from it.
func (b *Broker) owned() (*commitlog.Log, error) {
	s, err := b.serving()
	if err != nil {
		return nil, err
	}
	return s.Log, nil
}

// serving returns the shard if this node may serve from it.
func (b *Broker) serving() (*shard.Shard, error) {
	switch s := b.state.Load(); {
	case s.shard == nil:
		return nil, ErrNotOwner
	case s.doubt:
		return nil, ErrUnavailable
	default:
		return s.shard, nil
	}
}

// translate turns the log's word for "not mine any more" into the broker's.
func translate(err error) error {
	if errors.Is(err, commitlog.ErrFenced) || errors.Is(err, commitlog.ErrClosed) {
		return errors.Join(ErrNotOwner, err)
	}
	return err
}

// Groups returns the coordinator of the consumer groups.
func (b *Broker) Groups() (*group.Coordinator, error) {
	s, err := b.serving()
	if err != nil {
		return nil, err
	}
	return s.Groups, nil
}

// NewProducerID returns an id that no other producer of the cluster has or
// will have. It is durable on return.
func (b *Broker) NewProducerID(ctx context.Context) (int64, error) {
	log, err := b.owned()
	if err != nil {
		return 0, err
	}
	defer quota.Waiting(ctx)()
	id, err := log.NewProducerID(ctx)
	return id, translate(err)
}
