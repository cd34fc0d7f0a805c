package receiver

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// target is a partition of one buffer of the lane that the outbox belongs to.
type target struct {
	buffer    weir.BufferID
	topic     weir.TopicID
	partition int32
}

// outcome is a frame that the log was given, and later its result.
type outcome struct {
	target
	round       uint32
	first, last uint64
	missing     uint64      // records that a gap reports
	reserved    reservation // given back when the gateway has been told
	err         error       // why it was refused
}

// outbox collects the results of a lane's frames and tells the gateway. Its size is
// bounded: each outcome keeps its frame's reservation until it is written, so there are
// never more than the budgets allow.
type outbox struct {
	s    *session
	st   wire.Channel // written by run only
	lane weir.Lane
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	acks    map[target]outcome // the last one of each partition, with the reservations of all before it; guarded by mu
	order   []target           // of acks, oldest first; guarded by mu
	refused []outcome          // guarded by mu
	closed  bool               // run has ended; guarded by mu
}

func newOutbox(s *session, st wire.Channel, ln weir.Lane) *outbox {
	return &outbox{s: s, st: st, lane: ln, wake: make(chan struct{}, 1), acks: map[target]outcome{}}
}

// put notes an outcome. It is the log's callback: it does not block.
func (b *outbox) put(o outcome, err error) {
	o.reserved.releaseMemory()
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		o.reserved.release()
		return
	case err != nil:
		o.err = err
		b.refused = append(b.refused, o)
	default:
		b.s.r.count.gaps.AddInt64(int64(o.missing))
		if before, ok := b.acks[o.target]; ok {
			o.last = max(o.last, before.last)
			o.reserved.own += before.reserved.own
		} else {
			b.order = append(b.order, o.target)
		}
		b.acks[o.target] = o
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run writes outcomes until the session ends.
func (b *outbox) run() {
	defer b.close()
	for {
		select {
		case <-b.s.ctx.Done():
			return
		case <-b.wake:
		}
		acks, refused := b.take()
		if err := b.writeAcks(acks); err != nil {
			b.s.end(err)
			releaseAll(refused)
			return
		}
		for i, o := range refused {
			if err := b.refuse(o); err != nil {
				b.s.end(err)
				releaseAll(refused[i+1:])
				return
			}
		}
	}
}

func (b *outbox) take() (acks, refused []outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.order {
		acks = append(acks, b.acks[t])
	}
	clear(b.acks)
	refused = b.refused
	b.order, b.refused = b.order[:0], nil
	return acks, refused
}

// writeAcks writes all acks in one call.
func (b *outbox) writeAcks(acks []outcome) error {
	defer releaseAll(acks)
	if len(acks) == 0 {
		return nil
	}
	var buf []byte
	for _, o := range acks {
		buf = wire.AppendFrame(buf, &wire.Ack{Buffer: o.buffer, Lane: b.lane, Topic: o.topic, Partition: o.partition, Last: o.last})
	}
	err := b.s.prompt(func() error { _, err := b.st.Write(buf); return err })
	if err != nil {
		return fmt.Errorf("write acks: %w", err)
	}
	return nil
}

// refuse tells the gateway where to go on. The mark is read after the refusal, when
// everything in flight is durable or has failed. So nothing that this gateway sent
// before can still move it.
func (b *outbox) refuse(o outcome) error {
	defer o.reserved.release()
	if owner, ok := errors.AsType[*uplink.NotOwnerError](o.err); ok {
		b.s.r.Handover(owner.Addr)
		return owner
	}
	if errors.Is(o.err, uplink.ErrRetired) {
		return o.err
	}
	var mark uint64
	if !markAtOnce(b.s.r.o.Mutations) {
		var err error
		stream := weir.Stream{Gateway: b.s.gateway, Buffer: o.buffer, Lane: b.lane}
		if mark, err = b.s.link.Mark(b.s.ctx, stream, o.topic, o.partition); err != nil {
			return fmt.Errorf("look up mark: %w", err)
		}
	}
	reason := reasonOf(o.err)
	b.s.r.countRefused(reason)
	if reason != wire.ReasonHole {
		level := slog.LevelWarn
		if reason == wire.ReasonMoved {
			level = slog.LevelDebug // each move of a shard refuses many, of all gateways
		}
		b.s.log.Log(b.s.ctx, level, "batch of a gateway refused", "lane", b.lane, "topic", o.topic, "partition", o.partition,
			"first", o.first, "last", o.last, "reason", reason, "err", o.err)
		b.s.refusal(Refusal{Topic: o.topic, Reason: reason, Text: o.err.Error(), Records: o.last - o.first + 1})
	}
	refused := &wire.Refused{
		Buffer: o.buffer, Lane: b.lane, Topic: o.topic, Partition: o.partition,
		Round: o.round, First: o.first, Last: o.last,
		Mark: mark, Reason: reason, Text: o.err.Error(),
	}
	if err := b.s.prompt(func() error { return wire.Write(b.st, refused) }); err != nil {
		return fmt.Errorf("write refusal: %w", err)
	}
	return nil
}

// close gives back the reservations of outcomes that were never written.
func (b *outbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	acks, refused := b.take()
	releaseAll(acks)
	releaseAll(refused)
}

func releaseAll(all []outcome) {
	for _, o := range all {
		o.reserved.release()
	}
}
