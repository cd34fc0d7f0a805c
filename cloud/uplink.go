package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// ingest is the way of gateways' records to the shards: the door for sessions of this
// node, and the owners of the shards that this node owns.
type ingest struct {
	broker   *broker.Broker
	peers    *peer.Client                         // nil: the cluster has one shard
	mayWrite func(gateway, topic string) error    // of topics that are not the cloud's own: uplink.ErrNotAllowed, uplink.ErrBusy
	lost     func(gateway string, records uint64) // called for records that are reported as lost; may be nil
	limits   Limits
	log      *slog.Logger

	creating sync.Mutex // one creation at a time

	door *uplink.Door

	owning    sync.Mutex               // guards what follows
	created   map[string]int           // topics created by each gateway since this node owns the catalogue
	owners    map[uint32]*uplink.Owner // of the shards that this node owns
	following map[uint32]string        // the owners of others, by name and start
	unheard   map[place]time.Time      // partitions of which a gateway knows and this node does not, and since when

	saying sync.Mutex         // guards said
	said   map[[2]string]bool // gateway and topic of refusals that were logged; without a topic: it has too many
}

func newIngest(b *broker.Broker, peers *peer.Client, mayWrite func(gateway, topic string) error, limits Limits, log *slog.Logger) *ingest {
	u := &ingest{broker: b, peers: peers, mayWrite: mayWrite, limits: limits, log: log, created: make(map[string]int), said: make(map[[2]string]bool),
		owners: make(map[uint32]*uplink.Owner), following: make(map[uint32]string), unheard: make(map[place]time.Time)}
	u.door = uplink.NewDoor(uplink.Options{Shards: b.Routed, ShardOf: b.RouteOf, Number: u.number, Attach: u.attach})
	return u
}

// maxSaid bounds said; beyond it the node forgets what it has logged.
const maxSaid = 10_000

// allow refuses a topic that a gateway may not write to, and logs the first refusal.
func (u *ingest) allow(gateway, topic string) error {
	err := u.mayWrite(gateway, topic)
	if !errors.Is(err, uplink.ErrNotAllowed) {
		return err
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
	case errors.Is(err, broker.ErrBehind):
		return errors.Join(uplink.ErrBusy, err)
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

// shardAnswer is answer for a call to a shard. If the owner is in doubt, a session that has
// several shards goes on without this one, and attaches to it anew.
func (u *ingest) shardAnswer(err error) error {
	if u.several() && errors.Is(err, broker.ErrUnavailable) {
		return errors.Join(uplink.ErrDetached, err)
	}
	return u.answer(err)
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
	if u.broker.Moving(u.id) {
		return known, fmt.Errorf("%w: slices of shard %d are being moved", uplink.ErrBusy, u.id)
	}
	offered := make(map[weir.BufferID]bool, len(buffers))
	for _, b := range buffers {
		if b.Current {
			if err := u.broker.Adopt(u.id, gateway, b.ID); err != nil {
				return known, u.shardAnswer(err)
			}
		}
		state, err := u.broker.BufferState(u.id, gateway, b.ID)
		if err != nil {
			return known, u.shardAnswer(err)
		}
		offered[b.ID] = true
		o := wire.OfferedBuffer{ID: b.ID, State: state}
		for lane := range o.Reached {
			o.Reached[lane], err = u.broker.Reached(u.id, weir.Stream{Gateway: gateway, Buffer: b.ID, Lane: weir.Lane(lane)})
			if err != nil {
				return known, u.shardAnswer(err)
			}
		}
		known.Buffers = append(known.Buffers, o)
	}
	marks, rows, err := u.broker.Marks(u.id, gateway)
	if err != nil {
		return known, u.shardAnswer(err)
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

// Resolve is for receiver.Options. A topic that does not exist is created, by the owner of
// the catalogue.
func (u *ingest) Resolve(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error) {
	if !u.several() || u.broker.IsController() {
		return u.resolveHere(ctx, gateway, topic)
	}
	switch err := u.mayResolve(gateway, topic); {
	case err == nil:
		if t, err := u.broker.Topic(topic); err == nil {
			return t.ID, t.Partitions, nil
		}
	case !errors.Is(err, uplink.ErrBusy): // else the owner of the catalogue can tell
		return weir.TopicID{}, 0, err
	}
	owner, ok := u.elsewhere(catalogueShard)
	if !ok {
		return weir.TopicID{}, 0, fmt.Errorf("%w: it is not known which node has the catalogue", uplink.ErrBusy)
	}
	return u.peers.Resolve(ctx, owner.Name, owner.Address(cluster.Peer), gateway, topic)
}

// resolveHere is Resolve for the owner of the catalogue.
func (u *ingest) resolveHere(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error) {
	if err := u.mayResolve(gateway, topic); err != nil {
		return weir.TopicID{}, 0, err
	}
	t, err := u.broker.Topic(topic)
	if errors.Is(err, broker.ErrUnknownTopic) {
		t, err = u.create(ctx, gateway, topic)
	}
	switch {
	case err == nil:
		return t.ID, t.Partitions, nil
	case u.several() && errors.Is(err, broker.ErrNotOwner):
		return weir.TopicID{}, 0, fmt.Errorf("%w: this node does not have the catalogue any more", uplink.ErrBusy)
	}
	return weir.TopicID{}, 0, u.answer(err)
}

// mayResolve refuses a topic that a gateway may not write to.
func (u *ingest) mayResolve(gateway, topic string) error {
	switch {
	case topic == weir.GapTopic:
		return nil
	case reserved(topic):
		return uplink.ErrNotAllowed
	}
	return u.allow(gateway, topic)
}

func (u *ingest) create(ctx context.Context, gateway, topic string) (broker.Topic, error) {
	u.creating.Lock()
	defer u.creating.Unlock()
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
		u.owning.Lock()
		u.created[gateway]++
		u.owning.Unlock()
	}
	return t, err
}

// mayCreate refuses a topic that would exceed a limit. The gateway then uses
// weir.UnroutedTopic, which the limits do not affect. It is called with creating held.
func (u *ingest) mayCreate(gateway, topic string, all int) error {
	u.owning.Lock()
	created := u.created[gateway]
	u.owning.Unlock()
	var err error
	switch {
	case !u.broker.AutoCreate():
		return fmt.Errorf("%w: topic %s does not exist, and --auto-create is off", uplink.ErrNotAllowed, topic)
	case topic == weir.UnroutedTopic:
	case all >= u.limits.Topics:
		err = fmt.Errorf("%w: %s: the cluster has %d (--max-topics %d)", uplink.ErrNotAllowed, wire.TooManyTopics, all, u.limits.Topics)
	case created >= u.limits.GatewayTopics:
		err = fmt.Errorf("%w: %s: %d were created for this gateway (--gateway-topics %d)",
			uplink.ErrNotAllowed, wire.TooManyTopics, created, u.limits.GatewayTopics)
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
	if waits := u.unknown(t, a, err); waits != nil {
		done(waits)
		return
	}
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
			done(u.shardAnswer(err))
		})
}

// Mark is for uplink.Calls.
func (u *ingest) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	mark, err := u.broker.Mark(ctx, s, topic, partition)
	if errors.Is(err, broker.ErrUnknownTopic) {
		return 0, nil
	}
	return mark, u.shardAnswer(err)
}

// Retire is for uplink.Calls.
func (u shardLog) Retire(ctx context.Context, gateway string, buffer weir.BufferID) error {
	return u.shardAnswer(u.broker.Retire(ctx, u.id, gateway, buffer))
}
