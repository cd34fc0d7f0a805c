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

// maxTellers is how many partitions of a lane wait for their marks at once.
const maxTellers = 256

// outbox collects the results of a lane's frames and tells the gateway. Its size is
// bounded: each outcome keeps its frame's reservation until it is written, so there are
// never more than the budgets allow.
//
// A refusal waits for the mark of its partition, which no shard can tell while it has no
// owner. So refusals of other partitions, and acks, do not wait behind it.
type outbox struct {
	s    *session
	st   wire.Channel
	lane weir.Lane
	wake chan struct{} // capacity 1

	writing sync.Mutex // held while st is written

	mu      sync.Mutex           // guards what follows
	acks    map[target]outcome   // the last one of each partition, with the reservations of all before it
	order   []target             // of acks, oldest first
	refused map[target][]outcome // of partitions that are in turns, or that a teller has
	turns   []target             // to be told by the next teller, oldest first
	tellers int                  // goroutines that run tell
	closed  bool                 // run has ended
}

func newOutbox(s *session, st wire.Channel, ln weir.Lane) *outbox {
	return &outbox{s: s, st: st, lane: ln, wake: make(chan struct{}, 1), acks: map[target]outcome{}, refused: map[target][]outcome{}}
}

// put notes an outcome. It is the log's callback: it does not block.
func (b *outbox) put(o outcome, err error) {
	o.reserved.releaseMemory()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		o.reserved.release()
		return
	}
	if err != nil {
		o.err = err
		b.putRefused(o)
		b.mu.Unlock()
		return
	}
	b.s.r.count.gaps.AddInt64(int64(o.missing))
	if before, ok := b.acks[o.target]; ok {
		o.last = max(o.last, before.last)
		o.reserved.own += before.reserved.own
	} else {
		b.order = append(b.order, o.target)
	}
	b.acks[o.target] = o
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// putRefused is put for a refusal. Its bytes are gone, so it leaves room for frames of
// other partitions. Called with mu held.
func (b *outbox) putRefused(o outcome) {
	if !keepWhole(b.s.r.o.Mutations) {
		o.reserved.shrink()
	}
	waiting, has := b.refused[o.target]
	b.refused[o.target] = append(waiting, o)
	if has {
		return
	}
	b.turns = append(b.turns, o.target)
	if b.tellers == maxTellers || b.tellers > 0 && inTurn(b.s.r.o.Mutations) {
		return
	}
	b.tellers++
	b.s.wg.Go(b.tell) // run, which is in wg too, has not ended
}

// run writes acks until the session ends.
func (b *outbox) run() {
	defer b.close()
	for {
		select {
		case <-b.s.ctx.Done():
			return
		case <-b.wake:
		}
		if err := b.writeAcks(b.takeAcks()); err != nil {
			b.s.end(err)
			return
		}
	}
}

func (b *outbox) takeAcks() (acks []outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.order {
		acks = append(acks, b.acks[t])
	}
	clear(b.acks)
	b.order = b.order[:0]
	return acks
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
	if err := b.write(buf); err != nil {
		return fmt.Errorf("write acks: %w", err)
	}
	return nil
}

func (b *outbox) write(frames []byte) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	return b.s.prompt(func() error { _, err := b.st.Write(frames); return err })
}

// tell tells the gateway of refusals, partition by partition, until none is left.
func (b *outbox) tell() {
	for {
		t, refused := b.takeRefused()
		if refused == nil {
			return
		}
		err := b.refuse(t, refused)
		releaseAll(refused)
		if err != nil {
			b.s.end(err)
		}
		b.mu.Lock()
		if len(b.refused[t]) > 0 {
			b.turns = append(b.turns, t)
		} else {
			delete(b.refused, t)
		}
		b.mu.Unlock()
	}
}

// takeRefused returns all refusals of the partition whose turn it is. If there is none, the
// caller is not a teller any more.
func (b *outbox) takeRefused() (target, []outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.turns) == 0 {
		b.tellers--
		return target{}, nil
	}
	t := b.turns[0]
	b.turns = b.turns[1:]
	refused := b.refused[t]
	b.refused[t] = nil
	return t, refused
}

// refuse tells the gateway where to go on with a partition. The mark is read after the
// refusals, when everything in flight is durable or has failed. So nothing that this
// gateway sent before can still move it.
func (b *outbox) refuse(t target, refused []outcome) error {
	for _, o := range refused {
		if owner, ok := errors.AsType[*uplink.NotOwnerError](o.err); ok {
			b.s.r.Handover(owner.Addr)
			return owner
		}
		if errors.Is(o.err, uplink.ErrRetired) {
			return o.err
		}
	}
	var mark uint64
	if !markAtOnce(b.s.r.o.Mutations) {
		var err error
		stream := weir.Stream{Gateway: b.s.gateway, Buffer: t.buffer, Lane: b.lane}
		if mark, err = b.s.link.Mark(b.s.ctx, stream, t.topic, t.partition); err != nil {
			return fmt.Errorf("look up mark: %w", err)
		}
	}
	var buf []byte
	for _, o := range refused {
		reason := reasonOf(o.err)
		b.report(o, reason)
		buf = wire.AppendFrame(buf, &wire.Refused{
			Buffer: o.buffer, Lane: b.lane, Topic: o.topic, Partition: o.partition,
			Round: o.round, First: o.first, Last: o.last,
			Mark: mark, Reason: reason, Text: o.err.Error(),
		})
	}
	if err := b.write(buf); err != nil {
		return fmt.Errorf("write refusals: %w", err)
	}
	return nil
}

// report counts and logs a refusal.
func (b *outbox) report(o outcome, reason wire.Reason) {
	b.s.r.countRefused(reason)
	if reason == wire.ReasonHole {
		return
	}
	level := slog.LevelWarn
	if reason == wire.ReasonMoved {
		level = slog.LevelDebug // each move of a shard refuses many, of all gateways
	}
	b.s.log.Log(b.s.ctx, level, "batch of a gateway refused", "lane", b.lane, "topic", o.topic, "partition", o.partition,
		"first", o.first, "last", o.last, "reason", reason, "err", o.err)
	b.s.refusal(Refusal{Topic: o.topic, Reason: reason, Text: o.err.Error(), Records: o.last - o.first + 1})
}

// close gives back the reservations of outcomes that were never written.
func (b *outbox) close() {
	b.mu.Lock()
	b.closed = true
	var refused []outcome
	for t, all := range b.refused {
		refused = append(refused, all...)
		b.refused[t] = nil
	}
	b.turns = nil
	b.mu.Unlock()
	releaseAll(b.takeAcks())
	releaseAll(refused)
}

func releaseAll(all []outcome) {
	for _, o := range all {
		o.reserved.release()
	}
}
