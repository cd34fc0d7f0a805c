package commitlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Append hands a batch to a partition. done is called exactly once: with nil when the
// batch is durable and readable, with base the offset of its first record. base is -1
// for a gateway's batch that had been appended before; a producer's gets its first
// offset again. Neither is answered before the batch that it repeats is durable. done
// is called from a goroutine of the log, or before Append returns for a batch that is
// invalid whatever the state of the log. It must neither block nor append.
//
// Calls from one goroutine keep their order. Append checks the batch in the caller's
// goroutine, and blocks while two slots' worth of batches are in line (back-pressure).
//
// Errors: *RefusedError for a batch with a Source; ErrUnknownTopic, ErrCorrupt,
// ErrTooLarge, ErrUnsupported; ErrOutOfOrderSequence, ErrProducerFenced,
// ErrUnknownProducer, ErrTransactionOpen for one with a producer id; ErrMoving, ErrMoved;
// ErrClosed: the batch never becomes durable; ErrFenced: it may become durable.
//
// A transactional batch becomes durable and readable like any other; whether it is
// committed is known when its transaction has ended (Submit). The first one in a
// partition opens the transaction there. The log does not check that the partition
// belongs to the transaction: that is up to the coordinator.
func (l *Log) Append(a Append, done func(base int64, err error)) {
	if err := l.checkAppend(a); err != nil {
		done(-1, err)
		return
	}
	err := l.line.push(context.Background(), request{
		size:   a.size(),
		admit:  func(b *builder) { b.append(a, done) },
		refuse: func(err error) { done(-1, err) },
	})
	if err != nil {
		done(-1, err)
	}
}

// size is the most bytes that an append adds to a slot.
func (a *Append) size() int {
	size := state.RunFixed + len(a.Batch)
	if a.Source != nil {
		size += state.MaxSource + len(a.Source.Stream.Gateway)
	}
	return size
}

// checkAppend returns an error for an append that is invalid whatever the state of the
// log. Its bytes are not checked again.
func (l *Log) checkAppend(a Append) error {
	b := a.Batch
	if size := a.size(); size > l.slotBytes {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, l.slotBytes)
	}
	if !a.Verified || checkVerified {
		if err := b.Verify(); err != nil {
			if a.Verified {
				panic(fmt.Sprintf("commitlog: a batch that counts as verified is damaged: %v", err))
			}
			return fmt.Errorf("verify batch: %w: %w", state.ErrCorrupt, err)
		}
	}
	switch {
	case b.Control():
		return fmt.Errorf("%w: control batch", ErrUnsupported)
	case b.Transactional() && b.ProducerID() < 0:
		return fmt.Errorf("%w: transactional batch without a producer id", state.ErrCorrupt)
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return fmt.Errorf("%w: producer %d with epoch %d and sequence %d", state.ErrCorrupt, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	if s := a.Source; s != nil {
		if err := checkGateway(s.Stream.Gateway); err != nil {
			return err
		}
		switch {
		case s.First == 0 || s.Last < s.First:
			return fmt.Errorf("%w: sequences %d to %d", state.ErrCorrupt, s.First, s.Last)
		case s.Row.Partitions > state.MaxPartitions || !s.Maps(a.Partition):
			return fmt.Errorf("%w: sequences %d to %d in partition %d by a row of %d partitions from %d on",
				state.ErrCorrupt, s.First, s.Last, a.Partition, s.Row.Partitions, s.Row.From)
		case b.ProducerID() >= 0:
			return fmt.Errorf("%w: gateway's batch with producer id %d", ErrUnsupported, b.ProducerID())
		}
	}
	if err := b.Admit(state.MaxInflated); errors.Is(err, record.ErrTooLarge) {
		return fmt.Errorf("verify records: %w: %w", ErrTooLarge, err)
	} else if err != nil {
		return fmt.Errorf("verify records: %w: %w", state.ErrCorrupt, err)
	}
	return nil
}

// append adds a batch to the slot being built, or decides its answer. The committer
// calls it in the order of the appends.
func (b *builder) append(a Append, done func(int64, error)) {
	key := state.Place{Topic: a.Topic, Partition: a.Partition}
	err := b.spec.barred(key)
	if err != nil {
		b.answer(done, -1, err)
		return
	}
	_, err = b.spec.place(key)
	switch {
	case err != nil && a.Source != nil:
		b.refuse(a, ReasonTopic, done)
	case err != nil:
		b.answer(done, -1, err)
	case a.Source != nil:
		b.appendSource(key, a, done)
	case a.Batch.ProducerID() >= 0:
		b.appendProducer(key, a, done)
	default:
		b.take(key, a, done)
	}
}

// appendSource holds the rules of the marks. Each of them is there because
// without it a schedule exists that loses, doubles or reorders a reading.
func (b *builder) appendSource(key state.Place, a Append, done func(int64, error)) {
	src := a.Source
	mk := state.MarkKey{Stream: src.Stream, Place: key}
	buffer := state.BufferKey{Gateway: src.Stream.Gateway, Buffer: src.Stream.Buffer}
	switch b.spec.bufferState(buffer) {
	case weir.BufferRetired:
		// The marks of the buffer are gone, so every batch would look new.
		b.refuse(a, ReasonRetired, done)
		return
	case weir.BufferAside:
		b.refuse(a, ReasonAside, done)
		return
	}
	// The mark includes what is in flight: a batch that is sent again while
	// its first copy flies must not be appended twice.
	mark := b.spec.mark(mk)
	mutations := b.log.mutations
	if durableMarks(mutations) {
		mark = b.spec.durable.Mark(mk)
	}
	if noPrev(mutations) && mark < src.First {
		src.Prev = mark
	}
	switch {
	case src.Last <= mark && ackDuplicate(mutations):
		done(-1, nil)
	case src.Last <= mark:
		// The answer waits for the slot that set the mark: if that slot is lost, so is
		// the only copy of the batch.
		b.answer(done, -1, nil)
	case src.Prev == mark && mark < src.First:
		b.spec.marks.set(b.spec.slot, mk, src.Last)
		b.spec.buffers.set(b.spec.slot, buffer, weir.BufferKnown)
		if promiseMarks(mutations) {
			b.log.promised.set(mk, src.Last)
		}
		if ackFlying(mutations) {
			done(-1, nil)
			done = func(int64, error) {}
		}
		b.take(key, a, done)
	default:
		b.refuse(a, ReasonSequence, done)
	}
}

func (b *builder) appendProducer(key state.Place, a Append, done func(int64, error)) {
	pk := state.ProducerKey{Place: key, ID: a.Batch.ProducerID()}
	p := b.spec.producer(pk)
	base, duplicate, err := p.Judge(a.Batch, b.spec.forgot(key) || b.log.succeeded())
	if err != nil || duplicate {
		b.answer(done, base, err)
		return
	}
	p.Take(a.Batch, b.spec.end(key))
	b.spec.producers.set(b.spec.slot, pk, p)
	b.take(key, a, done)
}

// answer calls done when everything admitted so far is durable.
func (b *builder) answer(done func(int64, error), base int64, err error) {
	b.slot.answers = append(b.slot.answers, func(lost error) {
		if lost != nil {
			done(-1, lost)
			return
		}
		done(base, err)
	})
}

// refuse answers with the durable mark, read when everything admitted so far has
// landed. With an earlier mark the sender would rewind too far, with a speculative one
// perhaps not far enough.
func (b *builder) refuse(a Append, reason Reason, done func(int64, error)) {
	key := state.MarkKey{Stream: a.Source.Stream, Place: state.Place{Topic: a.Topic, Partition: a.Partition}}
	b.slot.answers = append(b.slot.answers, func(lost error) {
		if lost != nil {
			done(-1, lost)
			return
		}
		done(-1, &RefusedError{Mark: b.log.durableMark(key), Reason: reason})
	})
}

// overtaking is how long after a change of owner a batch to the previous owner, or its
// answer, may still be on its way: clients give up after two minutes
// (delivery.timeout.ms).
const overtaking = 2 * time.Minute

// succeeded reports whether the previous owner may still hold a batch that precedes the
// first one that a producer sends here. Such a producer gets ErrUnknownProducer, and
// sends everything again. Without this rule nothing is lost or duplicated, but a
// producer's first batches could change their order.
//
// Slices that came from another shard had another owner, too.
func (l *Log) succeeded() bool {
	now := l.now()
	return l.epoch > 1 && now.Sub(l.opened) < overtaking || l.arrived.Load() > 0 && now.UnixMilli()-l.arrived.Load() < overtaking.Milliseconds()
}
