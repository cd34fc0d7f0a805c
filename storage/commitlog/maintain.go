package commitlog

import (
	"cmp"
	"context"
	"errors"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// host is the log as its upkeep sees it.
func (l *Log) host() host {
	return host{
		bucket: l.bucket, shard: l.shard, fillBytes: l.fillBytes, log: l.log, now: l.now, defaults: l.defaults,
		view: func(look func(*state.State)) {
			l.mu.RLock()
			defer l.mu.RUnlock()
			look(l.state)
		},
		run:      func(key state.Place, base int64) []byte { return l.tail.get(cacheKey{key, base}) },
		snapshot: l.snapshot,
		propose:  l.propose,
		checkpoint: func(ctx context.Context, pos journal.Position, body []byte) error {
			return l.journal.Checkpoint(ctx, pos, body)
		},
		truncate: func(ctx context.Context, before journal.Position) error {
			return l.journal.Truncate(ctx, journal.Position{}, before, nil)
		},
		unreadable: l.unreadableRun,
		settled:    l.line.nudge,
		fail: func(err error) error {
			l.fail(err)
			return l.Err()
		},
	}
}

// Maintain makes a pass now: on nil everything that was durable when it was
// called lies in segments, below a durable checkpoint, and is compacted. The log
// does the same by itself when it is due; this is the door for tests and
// benchmarks, which do not wait for that.
//
// Errors: ErrClosed, ErrFenced, ctx's, and what the pass met.
func (l *Log) Maintain(ctx context.Context) error {
	err := l.upkeep.maintain(ctx)
	if errors.Is(err, errEnded) {
		return cmp.Or(l.Err(), ErrClosed)
	}
	return err
}

// propose makes an entry of the upkeep durable.
func (l *Log) propose(ctx context.Context, kind uint16, body []byte) error {
	_, err := pose(ctx, l, request{size: len(body), urgent: true}, func(b *builder) (struct{}, error) {
		b.put(kind, body)
		return struct{}{}, nil
	})
	return err
}
