package txn

import (
	"context"

	"github.com/weirmq/weir/storage/weir"
)

// Shards is what the coordinator and the participant of a shard need of the others.
// Calls may be repeated, may arrive late, and may take effect although they return an
// error.
type Shards interface {
	// ShardOf returns the shard that has a slice.
	ShardOf(s weir.Slice) uint32

	// Verify is Coordinator.Verify of the transactional id's shard.
	Verify(ctx context.Context, p Part) (number uint64, err error)

	// End is Participant.End of a shard.
	End(ctx context.Context, shard uint32, d Decision) error
}

// elsewhere reports whether another shard than this one has a slice.
func (o *Options) elsewhere(s weir.Slice) bool {
	return o.Shards != nil && o.Shards.ShardOf(s) != o.Shard
}
