package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// ingest is the way of gateways' records to the shards: the door for sessions of this
// node, and the owners of the shards that this node owns.
type ingest struct {
	broker   *broker.Broker
	mayWrite func(gateway, topic string) bool     // of topics that are not the cloud's own
	lost     func(gateway string, records uint64) // called for records that are reported as lost; may be nil
	limits   Limits
	log      *slog.Logger

	mu      sync.Mutex     // one creation at a time; guards created
	created map[string]int // topics created by each gateway since this node leads

	door *uplink.Door

	owning sync.Mutex               // guards owners
	owners map[uint32]*uplink.Owner // of the shards that this node owns

	saying sync.Mutex         // guards said
	said   map[[2]string]bool // gateway and topic of refusals that were logged; without a topic: it has too many
}

func newIngest(b *broker.Broker, mayWrite func(gateway, topic string) bool, limits Limits, log *slog.Logger) *ingest {
	u := &ingest{broker: b, mayWrite: mayWrite, limits: limits, log: log, created: make(map[string]int), said: make(map[[2]string]bool), owners: make(map[uint32]*uplink.Owner)}
	u.door = uplink.NewDoor(uplink.Options{Shards: b.Routed, ShardOf: b.RouteOf, Number: u.number, Attach: u.attach})
	return u
}

// lead begins the ownership of a shard: sessions can attach to it here.
func (u *ingest) lead(id uint32, epoch int32) {
	at := shardLog{u, id}
	u.owning.Lock()
	defer u.owning.Unlock()
	u.owners[id] = uplink.NewOwner(uint64(epoch), uplink.Calls{Offer: at.Offer, Append: u.Append, Mark: u.Mark, Retire: at.Retire}, uplink.Mutations{})
}

// lose ends the ownership of a shard.
func (u *ingest) lose(id uint32) {
	u.owning.Lock()
	o := u.owners[id]
	delete(u.owners, id)
	u.owning.Unlock()
	if o != nil {
		o.End()
	}
}

// owner returns the owner of a shard if it is this node. Errors: *uplink.NotOwnerError,
// uplink.ErrBusy.
func (u *ingest) owner(id uint32) (*uplink.Owner, error) {
	if err := u.broker.Serves(id); err != nil {
		return nil, u.answer(err)
	}
	u.owning.Lock()
	defer u.owning.Unlock()
	if o := u.owners[id]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: this node is about to serve shard %d", uplink.ErrBusy, id)
}

// number is for uplink.Options.
func (u *ingest) number(_ context.Context, gateway string) (uplink.Number, error) {
	o, err := u.owner(u.broker.RouteOf(weir.SliceOfGateway(gateway)))
	if err != nil {
		return uplink.Number{}, err
	}
	return o.Number(), nil
}

// attach is for uplink.Options.
func (u *ingest) attach(ctx context.Context, id uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	o, err := u.owner(id)
	if err != nil {
		return nil, uplink.Offered{}, err
	}
	return o.Attach(ctx, gateway, n, buffers, end)
}

// maxSaid bounds said; beyond it the node forgets what it has logged.
const maxSaid = 10_000

// allow refuses a topic that a gateway may not write to, and logs the first refusal.
func (u *ingest) allow(gateway, topic string) error {
	if u.mayWrite(gateway, topic) {
		return nil
	}
	if u.first(gateway, topic) {
		u.log.Warn("gateway may not write to this topic: it keeps the records as dead letters (weirctl gateways allow)", "gateway", gateway, "topic", topic)
	}
	return fmt.Errorf("%w: topic %s", uplink.ErrNotAllowed, topic)
}

// first reports whether a refusal was not logged yet, and records that it is now.
func (u *ingest) first(gateway, topic string) bool {
	u.saying.Lock()
	defer u.saying.Unlock()
	at := [2]string{gateway, topic}
	if u.said[at] {
		return false
	}
	if len(u.said) >= maxSaid {
		clear(u.said)
	}
	u.said[at] = true
	return true
}

// answer translates a broker's error into one of an uplink.Attachment.
func (u *ingest) answer(err error) error {
	var refused *broker.Refused
	switch {
	case err == nil, errors.Is(err, uplink.ErrNotAllowed):
		return err
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.Is(err, broker.ErrNotOwner):
		var addr string // empty: this node has just lost the shard, and does not know the new owner yet
		elsewhere, ok := errors.AsType[*broker.NotOwnerError](err)
		if ok && elsewhere.Owner.Name != u.broker.Self().Name {
			addr = elsewhere.Owner.Address(cluster.Sync)
		}
		return &uplink.NotOwnerError{Addr: addr}
	case errors.Is(err, broker.ErrUnknownTopic):
		return errors.Join(uplink.ErrGone, err)
	case errors.Is(err, broker.ErrTooLarge):
		return errors.Join(uplink.ErrTooLarge, err)
	case errors.Is(err, broker.ErrCorrupt), errors.Is(err, broker.ErrUnsupported):
		return errors.Join(uplink.ErrCorrupt, err)
	default:
		return errors.Join(uplink.ErrBusy, err)
	}
}

func refusal(r *broker.Refused) error {
	switch r.Reason {
	case broker.ReasonSequence:
		return uplink.ErrHole
	case broker.ReasonTopic:
		return uplink.ErrGone
	default:
		return uplink.ErrRetired
	}
}

// shardLog is a shard that this node owns, as gateways see it.
type shardLog struct {
	*ingest
	id uint32
}

// Offer is for uplink.Calls.
func (u shardLog) Offer(_ context.Context, gateway string, buffers []weir.Buffer) (uplink.Offered, error) {
	var known uplink.Offered
	offered := make(map[weir.BufferID]bool, len(buffers))
	for _, b := range buffers {
		if b.Current {
			if err := u.broker.Adopt(u.id, gateway, b.ID); err != nil {
				return known, u.answer(err)
			}
		}
		state, err := u.broker.BufferState(u.id, gateway, b.ID)
		if err != nil {
			return known, u.answer(err)
		}
		offered[b.ID] = true
		o := wire.OfferedBuffer{ID: b.ID, State: state}
		for lane := range o.Reached {
			o.Reached[lane], err = u.broker.Reached(u.id, weir.Stream{Gateway: gateway, Buffer: b.ID, Lane: weir.Lane(lane)})
			if err != nil {
				return known, u.answer(err)
			}
		}
		known.Buffers = append(known.Buffers, o)
	}
	marks, rows, err := u.broker.Marks(u.id, gateway)
	if err != nil {
		return known, u.answer(err)
	}
	for _, m := range marks {
		if offered[m.Buffer] {
			known.Marks = append(known.Marks, m)
		}
	}
	for _, r := range rows {
		if offered[r.Buffer] {
			known.Rows = append(known.Rows, r)
		}
	}
	return known, nil
}

// Resolve is for receiver.Options. A topic that does not exist is created.
func (u *ingest) Resolve(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error) {
	if reserved(topic) && topic != weir.GapTopic {
		return weir.TopicID{}, 0, uplink.ErrNotAllowed
	}
	if topic != weir.GapTopic {
		if err := u.allow(gateway, topic); err != nil {
			return weir.TopicID{}, 0, err
		}
	}
	t, err := u.broker.Topic(topic)
	if errors.Is(err, broker.ErrUnknownTopic) {
		t, err = u.create(ctx, gateway, topic)
	}
	if err != nil {
		return weir.TopicID{}, 0, u.answer(err)
	}
	return t.ID, t.Partitions, nil
}

func (u *ingest) create(ctx context.Context, gateway, topic string) (broker.Topic, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	all, err := u.broker.Topics()
	if err == nil && topic != weir.GapTopic {
		err = u.mayCreate(gateway, topic, len(all))
	}
	if err != nil {
		return broker.Topic{}, err
	}
	t, err := u.broker.CreateTopic(ctx, topic, -1, nil)
	switch {
	case errors.Is(err, broker.ErrTopicExists):
		return t, nil
	case errors.Is(err, broker.ErrInvalidTopic):
		return t, fmt.Errorf("%w: %s: %w", uplink.ErrNotAllowed, wire.NoSuchName, err)
	case err == nil && topic != weir.UnroutedTopic:
		u.created[gateway]++
	}
	return t, err
}

// mayCreate refuses a topic that would exceed a limit. The gateway then uses
// weir.UnroutedTopic, which the limits do not affect. It is called with mu held.
func (u *ingest) mayCreate(gateway, topic string, all int) error {
	var err error
	switch {
	case !u.broker.AutoCreate():
		return fmt.Errorf("%w: topic %s does not exist, and --auto-create is off", uplink.ErrNotAllowed, topic)
	case topic == weir.UnroutedTopic:
	case all >= u.limits.Topics:
		err = fmt.Errorf("%w: %s: the cluster has %d (--max-topics %d)", uplink.ErrNotAllowed, wire.TooManyTopics, all, u.limits.Topics)
	case u.created[gateway] >= u.limits.GatewayTopics:
		err = fmt.Errorf("%w: %s: %d were created for this gateway (--gateway-topics %d)",
			uplink.ErrNotAllowed, wire.TooManyTopics, u.created[gateway], u.limits.GatewayTopics)
	}
	if err != nil && u.first(gateway, "") {
		u.log.Warn("gateway names more topics than may be created for it: new records for the others go to topic "+weir.UnroutedTopic+
			", and the gateway keeps those that it had accepted before as dead letters", "gateway", gateway, "topic", topic, "err", err)
	}
	return err
}

// reserved reports whether a topic belongs to Weir or Kafka.
func reserved(topic string) bool {
	return strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, "weir.")
}

// Append is for uplink.Calls.
func (u *ingest) Append(a uplink.Append, done func(error)) {
	t, err := u.broker.TopicByID(a.Topic)
	if err != nil {
		// Only the log may refuse a topic that is gone: it knows the order of this
		// batch and those in flight.
		if !errors.Is(err, broker.ErrUnknownTopic) {
			done(u.answer(err))
			return
		}
	} else if reserved(t.Name) && !a.Gap {
		done(uplink.ErrNotAllowed)
		return
	} else if !reserved(t.Name) {
		if err := u.allow(a.Stream.Gateway, t.Name); err != nil {
			done(err)
			return
		}
	}
	source := broker.Source{Stream: a.Stream, Prev: a.Prev, First: a.First, Last: a.Last, Row: a.Row}
	u.broker.Append(broker.Append{Topic: a.Topic, Partition: a.Partition, Batch: a.Batch, Source: &source},
		func(base int64, err error) {
			// A duplicate has no offset, and was counted before.
			if err == nil && base >= 0 && a.Missing > 0 && u.lost != nil {
				u.lost(a.Stream.Gateway, a.Missing)
			}
			done(u.answer(err))
		})
}

// Mark is for uplink.Calls.
func (u *ingest) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	mark, err := u.broker.Mark(ctx, s, topic, partition)
	if errors.Is(err, broker.ErrUnknownTopic) {
		return 0, nil
	}
	return mark, u.answer(err)
}

// Retire is for uplink.Calls.
func (u shardLog) Retire(ctx context.Context, gateway string, buffer weir.BufferID) error {
	return u.answer(u.broker.Retire(ctx, u.id, gateway, buffer))
}
