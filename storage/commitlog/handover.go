package commitlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/journal"
)

// ErrHandedOver: this node has handed the shard over to another one. What was not written
// by then never will be, at least not by this node.
var ErrHandedOver = errors.New("shard is handed over")

// HandOver ends the log for a successor, a Candidate whose claim has the given nonce. The
// log goes on under that claim while ready runs, which returns when the successor has
// claimed the next epoch and has read up to the end; it makes no checkpoints and deletes
// nothing meanwhile. From then on requests in line, and new ones, get ErrHandedOver with
// ErrClosed. What is in flight becomes durable and is answered. HandOver returns the end
// of the log, at which the successor begins.
//
// If ready fails, nothing has happened, and the log goes on; but the claim, if it was made
// after all, fences it now. After any other error the log has ended, and what was in flight
// may or may not become durable. Close must be called in any case. The node can continue
// with Resume.
//
// Errors: those of ready and ctx, and ErrFenced if another node was faster.
func (l *Log) HandOver(ctx context.Context, nonce [16]byte, ready func(context.Context) error) (journal.Position, error) {
	err := l.Err()
	if err == nil {
		err = l.journal.Expect(ctx, nonce)
	}
	if err != nil {
		return journal.Position{}, fmt.Errorf("hand over shard %d: %w", l.shard, translate(err))
	}
	if err := ready(ctx); err != nil {
		err = errors.Join(err, l.journal.Expect(ctx, [16]byte{}))
		return journal.Position{}, fmt.Errorf("hand over shard %d: %w", l.shard, err)
	}
	l.upkeep.Stop()
	l.line.close(fmt.Errorf("%w: %w", ErrClosed, ErrHandedOver))
	l.stopCommitter()
	end, err := l.journal.Yield(ctx)
	if err != nil {
		l.fail(err)
		return end, fmt.Errorf("hand over shard %d: %w", l.shard, translate(err))
	}
	l.fail(ErrHandedOver)
	l.log.Info("commit log handed over", "shard", l.shard, "epoch", l.epoch, "end", end)
	return end, nil
}

// stopCommitter ends the committer, which writes no slot after it has returned.
func (l *Log) stopCommitter() {
	l.stopping.Do(func() { close(l.closing) })
	<-l.committed
}

// Resume makes a candidate of a log that has ended, with the state after everything that
// was acknowledged. Close must have returned. o is as for Prepare, with new Machines: they
// are restored from those of the log. Nothing of the log is read again.
func (l *Log) Resume(ctx context.Context, o Options) (*Candidate, error) {
	select {
	case <-l.closed:
	default:
		return nil, errors.New("resume commit log: it is not closed")
	}
	c, err := l.resumed(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("resume commit log: %w", err)
	}
	return c, nil
}

func (l *Log) resumed(ctx context.Context, o Options) (*Candidate, error) {
	next, err := prepare(o)
	if err != nil {
		return nil, err
	}
	next.cluster = l.cluster
	c := &Candidate{log: next, sums: &sums{bucket: o.Bucket}}
	if c.journal, err = l.journal.Resume(next.journalOptions(o, c.verify), applier{next}); err != nil {
		return nil, err
	}
	if err := next.restore(c.journal.Position(), l.snapshot()); err != nil {
		return nil, err
	}
	c.begin(ctx)
	return c, nil
}
