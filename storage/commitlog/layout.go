package commitlog

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// SetMap says which shard has which slice, and how many shards there are: in the log of
// shard 0, and so in all Mirrors. It is durable on return.
//
// Errors: ErrUnsupported for a map that names a shard that there is not, for fewer shards
// than there are, and in the log of another shard.
func (l *Log) SetMap(ctx context.Context, m weir.Map, shards uint32) error {
	if err := l.checkLevel(); err != nil {
		return err
	}
	if l.shard != 0 {
		return fmt.Errorf("%w: map of slices in the log of shard %d", ErrUnsupported, l.shard)
	}
	if shards > weir.MaxShards {
		return fmt.Errorf("%w: %d shards, the limit is %d", ErrUnsupported, shards, weir.MaxShards)
	}
	for slice, shard := range m {
		if shard >= shards {
			return fmt.Errorf("%w: slice %d in shard %d of %d", ErrUnsupported, slice, shard, shards)
		}
	}
	_, err := ask(ctx, l, 3*len(m)+64, func(b *builder) (struct{}, error) {
		now, has := b.spec.layouts.get(struct{}{})
		if !has {
			now.Map, now.Shards = b.log.layout()
		}
		if shards < now.Shards {
			return struct{}{}, fmt.Errorf("%w: %d shards, there are %d", ErrUnsupported, shards, now.Shards)
		}
		if m == now.Map && shards == now.Shards {
			return struct{}{}, nil
		}
		b.put(state.KindShardCount, state.EncodeShardCount(shards))
		b.put(state.KindSliceMap, state.EncodeSliceMap(&m))
		b.spec.layouts.set(b.spec.slot, struct{}{}, state.Layout{Map: m, Shards: shards})
		return struct{}{}, nil
	})
	return err
}

// Map returns which shard has which slice, and how many shards there are. Only the log of
// shard 0 knows it.
func (l *Log) Map() (weir.Map, uint32) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.layout()
}

// layout is Map, with mu held.
func (l *Log) layout() (weir.Map, uint32) {
	if x := l.state.Layout; x != nil {
		return x.Map, x.Shards
	}
	return weir.FirstMap(l.cluster.Shards), uint32(l.cluster.Shards)
}
