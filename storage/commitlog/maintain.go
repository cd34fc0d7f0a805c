package commitlog

import (
	"cmp"
	"context"
	"errors"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
)

// host is the log as its upkeep sees it.
func (l *Log) host() upkeep.Host {
	return upkeep.Host{
		Bucket: l.bucket, Shard: l.shard, FillBytes: l.fillBytes, Logger: l.log, Now: l.now, Defaults: l.defaults, Needed: l.needed,
		View: func(look func(*state.State)) {
			l.mu.RLock()
			defer l.mu.RUnlock()
			look(l.state)
		},
		Run:      func(key state.Place, base int64) []byte { return l.tail.get(cacheKey{key, base}, nil) },
		Snapshot: l.snapshot,
		Propose:  l.propose,
		Checkpoint: func(ctx context.Context, pos journal.Position, body []byte) error {
			return l.journal.Checkpoint(ctx, pos, body)
		},
		Truncate: func(ctx context.Context, before journal.Position, keep func(journal.Position) bool) error {
			return l.journal.Truncate(ctx, journal.Position{}, before, keep)
		},
		Remove:     func(ctx context.Context, slots []journal.Position) error { return l.journal.Remove(ctx, slots) },
		Unreadable: l.unreadableRun,
		Settled:    l.line.nudge,
		Fail: func(err error) error {
			l.fail(err)
			return l.Err()
		},
	}
}

// Maintain makes a pass now: on nil everything that was durable when it was called lies
// in segments, below a durable checkpoint, and is compacted. The log does the same by
// itself when it is due; Maintain is for tests and benchmarks, which do not wait for
// that.
//
// Errors: ErrClosed, ErrFenced, ctx's, and what the pass met.
func (l *Log) Maintain(ctx context.Context) error {
	err := l.upkeep.Maintain(ctx)
	if errors.Is(err, upkeep.ErrEnded) {
		return cmp.Or(l.Err(), ErrClosed)
	}
	return err
}

// propose makes an entry of the upkeep durable.
func (l *Log) propose(ctx context.Context, kind uint16, body []byte) error {
	_, err := enqueue(ctx, l, request{size: len(body), urgent: true}, func(b *builder) (struct{}, error) {
		b.put(kind, body)
		return struct{}{}, nil
	})
	return err
}
