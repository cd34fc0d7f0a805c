package txn

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog"
)

// End ends a transaction in this shard. When it returns nil, its offsets and its markers
// in this shard are durable and can be read, or this was so before: an end may be
// repeated. Nothing becomes part of the transaction here afterwards.
//
// Errors: ErrClosed, ErrTooLarge, ErrUnavailable, and ctx's.
func (p *Participant) End(ctx context.Context, d Decision) error {
	x, err := p.startEnd(ctx, &d)
	if x == nil {
		return err
	}
	staged := p.drain(x, &d)
	now := p.opts.Now().UnixMilli()
	var entries []commitlog.Command
	if d.Commit {
		entries = commitsOf(staged, now, p.log)
	}
	entries = append(entries, encodeEnded(d.Producer.ID, d.Number, now))
	var end *commitlog.TransactionEnd
	if len(d.Places) > 0 {
		end = &commitlog.TransactionEnd{Producer: d.Producer.ID, Epoch: d.Producer.Epoch, Commit: d.Commit, Partitions: d.Places}
	}
	// The caller's ctx does not bound it: the next end must know what became of this one.
	err = p.log.ProposeAll(context.WithoutCancel(ctx), entries, end)

	p.mu.Lock()
	defer p.mu.Unlock()
	close(x.ending)
	x.ending = nil
	p.drop(x)
	return unavailable("end transaction in a shard", err)
}

// startEnd makes the producer's transactions here end one at a time. Without an error and
// a participation, the transaction has ended before.
func (p *Participant) startEnd(ctx context.Context, d *Decision) (*participation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if !p.serving {
			return nil, ErrClosed
		}
		if p.moved(d) {
			return nil, fmt.Errorf("%w: a part of the transaction is in another shard", ErrUnavailable)
		}
		x := p.of(d.Producer.ID)
		switch {
		case (d.Number <= x.ended || x.open > d.Number) && !noNumber(p.opts.Mutations):
			p.drop(x)
			return nil, nil
		case x.ending == nil:
			x.ending = make(chan struct{})
			return x, nil
		}
		over := x.ending
		p.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// drain waits until nothing of the producer's is in flight, and returns the offsets of the
// transaction.
func (p *Participant) drain(x *participation, d *Decision) map[string]offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	for x.inFlight > 0 {
		if x.idle == nil {
			x.idle = make(chan struct{})
		}
		idle := x.idle
		p.mu.Unlock()
		<-idle
		p.mu.Lock()
	}
	if x.number != d.Number && !noNumber(p.opts.Mutations) {
		return nil
	}
	return x.clone()
}
