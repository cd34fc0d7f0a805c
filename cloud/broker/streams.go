package broker

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/weir"
)

// The streams of a gateway go to partitions in all shards. Each shard has the marks of its
// own partitions.

// RouteOf returns the shard that has a slice.
func (b *Broker) RouteOf(s weir.Slice) uint32 { return b.table.Load().routes[s] }

// Routed lists the shards that have slices, by number.
func (b *Broker) Routed() []uint32 {
	all := make(map[uint32]bool)
	for _, id := range b.table.Load().routes {
		all[id] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// OwnerOf returns the node that serves a shard, false if it is not known.
func (b *Broker) OwnerOf(id uint32) (Leader, bool) { return b.leaderOf(b.table.Load().shards[id]) }

// Serves returns nil if this node serves a shard and is not in doubt. Errors:
// *NotOwnerError, ErrUnavailable.
func (b *Broker) Serves(id uint32) error {
	_, err := b.logOf(id)
	return err
}

// Marks lists how far each stream of a gateway is durable in the partitions of a shard,
// and the latest mapping of its records to partitions, by topic, of which that shard knows.
func (b *Broker) Marks(id uint32, gateway string) ([]weir.Mark, []weir.MapRow, error) {
	log, err := b.logOf(id)
	if err != nil {
		return nil, nil, err
	}
	marks, rows := log.Marks(gateway)
	return marks, rows, nil
}

// Mark returns the durable mark of one stream in one partition. It first waits for
// what the partition has in flight to land or fail.
func (b *Broker) Mark(ctx context.Context, stream weir.Stream, id weir.TopicID, partition int32) (uint64, error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return 0, err
	}
	mark, err := s.Log.Mark(ctx, stream, id, partition)
	if b.unopened(s, id, partition, err) {
		return 0, nil
	}
	return mark, translate(err)
}

// MarksHere is Marks of all shards that this node serves. Errors: *NotOwnerError if it serves
// none, ErrUnavailable.
func (b *Broker) MarksHere(gateway string) ([]weir.Mark, error) {
	var all []weir.Mark
	served := false
	var elsewhere error
	for _, id := range b.Routed() {
		marks, _, err := b.Marks(id, gateway)
		switch {
		case err == nil:
			served = true
			all = append(all, marks...)
		case errors.Is(err, ErrNotOwner):
			elsewhere = err
		default:
			return nil, err
		}
	}
	if !served {
		return nil, elsewhere
	}
	return all, nil
}

// BufferState returns what a shard knows of a gateway's buffer.
func (b *Broker) BufferState(id uint32, gateway string, buffer weir.BufferID) (weir.BufferState, error) {
	log, err := b.logOf(id)
	if err != nil {
		var none weir.BufferState
		return none, err
	}
	return log.BufferState(gateway, buffer), nil
}

// Reached returns the highest sequence of a stream that ever became durable in a shard.
func (b *Broker) Reached(id uint32, s weir.Stream) (uint64, error) {
	log, err := b.logOf(id)
	if err != nil {
		return 0, err
	}
	return log.Reached(s), nil
}

// Adopt tells a shard that a gateway has a buffer open now: it cannot be one that was
// retired and forgotten, however old it looks.
func (b *Broker) Adopt(id uint32, gateway string, buffer weir.BufferID) error {
	log, err := b.logOf(id)
	if err != nil {
		return err
	}
	log.Adopt(gateway, buffer)
	return nil
}

// Retire ends a buffer that is fully acknowledged: a tombstone replaces its marks in a
// shard. Durable on return.
func (b *Broker) Retire(ctx context.Context, id uint32, gateway string, buffer weir.BufferID) error {
	log, err := b.logOf(id)
	if err != nil {
		return err
	}
	return translate(log.Retire(ctx, gateway, buffer))
}

// logOf returns the log of a shard if this node may serve from it. Errors: *NotOwnerError,
// ErrUnavailable.
func (b *Broker) logOf(id uint32) (machine.WaitingLog, error) {
	s, err := b.table.Load().shards[id].serving()
	if err != nil {
		return machine.WaitingLog{}, err
	}
	return s.Log, nil
}
