package receiver

import (
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// lane reads one lane's stream and hands it to the log, frame by frame.
func (s *session) lane(st wire.Channel, ln weir.Lane) {
	out := newOutbox(s, st, ln)
	s.wg.Go(out.run)
	for {
		if err := s.uplink(st, ln, out); err != nil {
			s.end(fmt.Errorf("read lane %s: %w", ln, err))
			return
		}
	}
}

// uplink takes the next frame of a lane. The order bounds memory: bytes that a gateway
// announces count against its own budget, bytes that have arrived count against the
// shared memory.
func (s *session) uplink(st wire.Channel, ln weir.Lane, out *outbox) error {
	h, err := wire.ReadHeader(st, wire.MaxLane)
	if errors.Is(err, io.EOF) {
		return errDone
	}
	if err != nil {
		return err
	}
	if h.Type != wire.TypeAppend && h.Type != wire.TypeGap {
		return fmt.Errorf("frame type %#02x on a lane: %w", h.Type, wire.ErrMalformed)
	}
	own, err := s.own.acquire(s.ctx, int64(max(h.Len, minCost)))
	if err != nil {
		return err
	}
	held := reservation{s: s, own: own}
	var f wire.Frame
	body, memory, err := s.body(st, h)
	if err == nil {
		held.memory = memory
		f, err = wire.Decode(h.Type, body)
	}
	if err == nil && s.ctx.Err() != nil {
		err = s.ctx.Err() // superseded: nothing more may reach the log
	}
	if err == nil {
		switch f := f.(type) {
		case *wire.Append:
			err = s.append(f, ln, held, out)
		case *wire.Gap:
			err = s.gap(f, ln, held, out)
		}
	}
	if err != nil {
		held.release()
	}
	return err
}

// reservation is what one frame holds: room in its session's budget until its outcome
// is written, and shared memory until the log has answered.
type reservation struct {
	s      *session
	own    int64
	memory *budget.Claim // nil: nothing
}

// releaseMemory gives back the memory of the frame's bytes: the log has them, or they
// are dropped.
func (r reservation) releaseMemory() {
	if r.memory != nil {
		r.memory.Release()
	}
}

// shrink gives back what the frame's bytes held: they are dropped, and its outcome remains.
func (r *reservation) shrink() {
	if r.own > minCost {
		r.s.own.give(r.own - minCost)
		r.own = minCost
	}
}

func (r reservation) release() {
	r.releaseMemory()
	r.s.own.give(r.own)
}

// append hands a batch to the log.
func (s *session) append(f *wire.Append, ln weir.Lane, held reservation, out *outbox) error {
	if f.Lane != ln {
		return fmt.Errorf("append for lane %s on the stream of lane %s: %w", f.Lane, ln, wire.ErrMalformed)
	}
	o := outcome{
		target: target{f.Buffer, f.Topic, f.Partition},
		round:  f.Round, first: f.First, last: f.Last, reserved: held,
	}
	s.r.countAppend(f.Batch)
	if err := s.checkBatch(f); err != nil {
		out.put(o, err)
		return nil
	}
	s.submit(uplink.Append{
		Stream: weir.Stream{Gateway: s.gateway, Buffer: f.Buffer, Lane: ln},
		Topic:  f.Topic, Partition: f.Partition, Round: f.Round, Row: f.Row,
		Prev: f.Prev, First: f.First, Last: f.Last, Batch: f.Batch,
	}, o, out)
	return nil
}

// submit hands a to the log; its outcome goes to the outbox.
func (s *session) submit(a uplink.Append, o outcome, out *outbox) {
	early := ackEarly(s.r.o.Mutations)
	s.link.Append(a, func(err error) {
		if !early {
			out.put(o, err)
		}
	})
	if early {
		out.put(o, nil)
	}
}

// checkBatch checks what a gateway must not send to any log. The log itself verifies
// the batch.
func (s *session) checkBatch(f *wire.Append) error {
	if len(f.Batch) > s.r.o.MaxBatch {
		return fmt.Errorf("%d bytes, at most %d: %w", len(f.Batch), s.r.o.MaxBatch, uplink.ErrTooLarge)
	}
	b, rest, err := record.Next(f.Batch)
	if err != nil || len(rest) > 0 || len(b) < record.HeaderSize {
		return fmt.Errorf("not exactly one record batch: %w", uplink.ErrCorrupt)
	}
	if b.Control() || b.Transactional() || b.ProducerID() >= 0 {
		return fmt.Errorf("batch of a producer or a transaction: %w", uplink.ErrCorrupt)
	}
	if n := b.Count(); n < 1 || uint64(n) > f.Last-f.First+1 {
		return fmt.Errorf("%d records for sequences %d to %d: %w", n, f.First, f.Last, uplink.ErrCorrupt)
	}
	return s.checkGateway(b)
}
