package commitlog

import (
	"context"
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// idBlockSize is how many producer ids one entry reserves. Ids that are left when the
// ownership ends are never used.
const idBlockSize = 1000

// shardShift leaves the ids of each shard 48 bits, so that shards never give out
// the same one.
const shardShift = 48

// idBlock is the ids that are durably reserved and not given out.
type idBlock struct {
	mu        sync.Mutex // held while a block is reserved: one at a time
	next, end uint64     // guarded by mu
}

// NewProducerID returns an id that no producer of this cluster has had, and
// none will get. It is durably reserved on return.
func (l *Log) NewProducerID(ctx context.Context) (int64, error) {
	l.ids.mu.Lock()
	defer l.ids.mu.Unlock()
	if err := l.Err(); err != nil {
		return -1, err
	}
	if l.ids.next == l.ids.end {
		first, err := ask(ctx, l, 0, func(b *builder) (uint64, error) {
			first := b.spec.producerIDs()
			b.spec.ids.set(b.spec.slot, struct{}{}, first+idBlockSize)
			b.put(state.KindProducerIDs, state.EncodeProducerIDs(first+idBlockSize))
			return first, nil
		})
		if err != nil {
			return -1, err
		}
		l.ids.next, l.ids.end = first, first+idBlockSize
	}
	id := l.ids.next
	l.ids.next++
	return int64(uint64(l.shard)<<shardShift | id), nil
}
