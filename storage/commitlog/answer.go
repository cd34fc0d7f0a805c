package commitlog

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/journal"
)

// Answer checks whether another node has asked if this owner is alive (journal.Ask). If
// so, it answers with a slot, which has no entries if nothing waits to be written. It
// returns the node that asked last. The answer is durable on return; nothing else
// depends on it. If no node has asked, Answer makes one request to the bucket. It must
// not be called by two goroutines at once.
func (l *Log) Answer(ctx context.Context) (who string, asked bool, err error) {
	if err := l.Err(); err != nil {
		return "", false, err
	}
	who, asked, err = l.journal.Asked(ctx)
	if !asked {
		return "", false, err
	}
	// Asked tries again to clean up what it could not; the answer must not wait for
	// that.
	_, err = enqueue(ctx, l, request{urgent: true}, func(b *builder) (struct{}, error) {
		b.slot.alone = true
		return struct{}{}, nil
	})
	if err != nil {
		return who, true, fmt.Errorf("answer node %q with a slot: %w", who, err)
	}
	return who, true, nil
}

// Acked is the position of this owner's first slot that is not acknowledged yet.
func (l *Log) Acked() journal.Position {
	return journal.Position{Epoch: uint64(l.epoch), Slot: l.acked.Load() + 1}
}
