package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/weir"
)

// A node whose process was stopped for a while (SIGSTOP, a paused machine, no CPU) may not
// own its shards any more, and does not know that in the first moments. Nothing that it
// appends becomes durable, so no acknowledgement is wrong. An answer from its memory may be:
// "unknown topic", for one that the new owner has acknowledged. So
//
//   - before a request is performed, AwaitSure waits until the bucket has confirmed each
//     shard a short while ago;
//   - a refusal of a change, such as "unknown topic", counts only after ConfirmCatalogue or
//     ConfirmSlice, which ask the bucket: a node that other nodes cannot reach may be
//     replaced between two of its own regular questions.

// confirmTime bounds a question to the bucket.
const confirmTime = 5 * time.Second

// lease is when the bucket has confirmed last that this node owns a shard.
type lease struct{ last atomic.Pointer[confirmed] }

type confirmed struct {
	at   time.Time     // when the bucket was asked
	over chan struct{} // closed when there is a later one
}

func newLease(at time.Time) *lease {
	l := new(lease)
	l.last.Store(&confirmed{at, make(chan struct{})})
	return l
}

// Sure records that the bucket has confirmed that this node owns a shard, which it was
// asked at that time. An answer to an earlier question than the last one changes nothing.
func (b *Broker) Sure(id uint32, at time.Time) {
	l := b.table.Load().shards[id].lease
	if l == nil {
		return
	}
	next := &confirmed{at, make(chan struct{})}
	for last := l.last.Load(); at.After(last.at); last = l.last.Load() {
		if l.last.CompareAndSwap(last, next) {
			close(last.over)
			return
		}
	}
}

// unsure returns the confirmation of a shard of this node if it is too old, nil if none is.
// While the node is in doubt about a shard, calls say so.
func (b *Broker) unsure() *confirmed {
	for _, l := range b.table.Load().leases {
		if last := l.last.Load(); time.Since(last.at) > cluster.SureTime(b.o.Takeover) {
			return last
		}
	}
	return nil
}

// AwaitSure returns when the bucket has confirmed a short while ago what this node owns. It
// waits no longer than the node needs to find out that it is in doubt. In a node that runs
// and whose bucket answers, it returns at once.
func (b *Broker) AwaitSure(ctx context.Context) {
	if b.o.Takeover == 0 || b.unsure() == nil || neverSure(b.o.Mutations) {
		return
	}
	timer := time.NewTimer(b.o.Takeover)
	defer timer.Stop()
	for {
		turned := b.turned()
		last := b.unsure()
		if last == nil {
			return
		}
		select {
		case <-last.over:
		case <-turned:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// ConfirmCatalogue returns nil if the bucket says, after the call, that this node owns the
// catalogue. Then what the node does not know does not exist. Errors: ErrNotOwner,
// ErrUnavailable.
func (b *Broker) ConfirmCatalogue(ctx context.Context) error {
	return b.confirm(ctx, b.table.Load().shards[catalogueShard])
}

// ConfirmSlice is ConfirmCatalogue for the shard of a slice.
func (b *Broker) ConfirmSlice(ctx context.Context, slice weir.Slice) error {
	t := b.table.Load()
	return b.confirm(ctx, t.shards[t.routes[slice]])
}

func (b *Broker) confirm(ctx context.Context, s served) error {
	own, err := s.serving()
	if err != nil || refusesUnasked(b.o.Mutations) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	err = translate(own.Log.Confirm(ctx))
	if err == nil || errors.Is(err, ErrNotOwner) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
