package commitlog

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// DeleteRecords moves the first offset of a partition up to offset; -1: to its
// end. It stops at the last stable offset: the records of an open transaction stay
// until that has ended. It returns what the first offset is now. Durable on return;
// the space is given back later.
//
// Errors: ErrUnknownTopic, ErrOffsetOutOfRange for one beyond the end.
func (l *Log) DeleteRecords(ctx context.Context, id weir.TopicID, partition int32, offset int64) (start int64, err error) {
	key := state.Place{Topic: id, Partition: partition}
	return ask(ctx, l, 0, func(b *builder) (int64, error) {
		if err := b.spec.barred(key); err != nil {
			return -1, err
		}
		if _, err := b.spec.place(key); err != nil {
			return -1, err
		}
		// The durable end: records in flight cannot be deleted yet.
		var start, end, stable int64
		if p := b.spec.durable.Partition(key); p != nil {
			start, end, stable = p.Start, p.End, p.Stable(p.End)
		}
		switch {
		case offset == -1:
			offset = end
		case offset < 0 || offset > end:
			return start, fmt.Errorf("%w: %d is not in 0..%d", ErrOffsetOutOfRange, offset, end)
		}
		offset = min(offset, stable)
		if offset > start {
			b.put(state.KindTrimmed, state.EncodeTrimmed(key, offset))
		}
		return max(start, offset), nil
	})
}
