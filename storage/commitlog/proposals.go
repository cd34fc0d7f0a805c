package commitlog

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// Transactions (KIP-98). A transactional batch is a batch in a run, and so is the
// marker that ends a transaction in a partition. The runs alone determine what is open,
// what was aborted, and the last stable offset. The coordinator shares the journal with
// all partitions: its own entry and the markers are one slot, so a transaction ends
// everywhere or nowhere, and there is no prepare phase.

// Command is an entry for a Machine.
type Command struct {
	Kind uint16
	Body []byte
}

// TransactionEnd is the end of a producer's transaction in all of its partitions. The
// coordinator knows the partitions.
type TransactionEnd struct {
	Producer   int64
	Epoch      int16 // of the markers: that of the batches, or a higher one, which fences it and lets sequences begin at 0 (KIP-890)
	Commit     bool
	Partitions []state.Place
}

// Propose makes an entry for a Machine durable. It returns when the Machine has
// applied it; when ctx ends first, it may still be applied.
//
// Errors: ErrFormat if no Machine has that kind, ErrTooLarge, ErrClosed,
// ErrFenced.
func (l *Log) Propose(ctx context.Context, kind uint16, body []byte) error {
	return l.ProposeAll(ctx, []Command{{kind, body}}, nil)
}

// ProposeAll makes entries for Machines durable, and a marker in each of end's
// partitions, if end is not nil: all in one slot, or nothing at all. It returns when
// all are applied; when ctx ends first, they may still be. A partition that is gone
// is left out, and so is one where nothing of the producer is open and a higher
// epoch of it has written.
//
// Errors: ErrFormat if no Machine has a kind, ErrTooLarge for more than fits in a
// slot, ErrProducerFenced if the epoch is below that of an open transaction, all of
// them before anything is stored; ErrCorrupt for a producer or an epoch below 0;
// ErrClosed, ErrFenced.
func (l *Log) ProposeAll(ctx context.Context, commands []Command, end *TransactionEnd) error {
	// The caller may leave before the slot lands.
	commands = slices.Clone(commands)
	for i := range commands {
		commands[i].Body = bytes.Clone(commands[i].Body)
	}
	answer := make(chan error, 1)
	l.Submit(commands, end, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Submit is ProposeAll that does not wait: done is called exactly once, like that of
// Append, and commands and end belong to the log until then. Calls of Append and
// Submit from one goroutine keep their order in the log. Like Append it waits while the
// line is full: the caller must hold no lock that a Machine's Apply takes.
func (l *Log) Submit(commands []Command, end *TransactionEnd, done func(error)) {
	size, err := l.checkProposal(commands, end)
	if err == nil {
		err = l.line.push(request{
			size:   size,
			admit:  func(b *builder) { b.propose(commands, end, done) },
			refuse: done,
		})
	}
	if err != nil {
		done(err)
	}
}

// checkProposal returns the most bytes that the proposal adds to a slot, or an error if
// it is invalid whatever the state of the log.
func (l *Log) checkProposal(commands []Command, end *TransactionEnd) (size int, err error) {
	for _, c := range commands {
		if l.machines[c.Kind] == nil {
			return 0, fmt.Errorf("%w: no machine for kind %d", state.ErrFormat, c.Kind)
		}
		size += len(c.Body) + journal.EntryOverhead
	}
	if end != nil {
		if end.Producer < 0 || end.Epoch < 0 {
			return 0, fmt.Errorf("%w: end of a transaction of producer %d with epoch %d", state.ErrCorrupt, end.Producer, end.Epoch)
		}
		size += len(end.Partitions) * markerSize
	}
	if size > l.slotBytes {
		return 0, fmt.Errorf("%w: proposal of %d bytes, the limit is %d", ErrTooLarge, size, l.slotBytes)
	}
	return size, nil
}

// markerSize is the most bytes that a marker adds to a slot: its batch, in a run of
// its own.
const markerSize = journal.EntryOverhead + state.RunFixed + record.HeaderSize + 32

// propose admits the entries and the markers together, or none of them.
func (b *builder) propose(commands []Command, end *TransactionEnd, done func(error)) {
	var ended []state.Place
	var err error
	if end != nil {
		ended, err = b.endable(end)
	}
	if err == nil {
		for _, c := range commands {
			b.put(c.Kind, c.Body)
		}
		b.endAll(end, ended)
	}
	b.slot.answers = append(b.slot.answers, func(lost error) { done(cmp.Or(lost, err)) })
}

// endable lists the partitions that get a marker.
func (b *builder) endable(end *TransactionEnd) ([]state.Place, error) {
	ended := make([]state.Place, 0, len(end.Partitions))
	for _, place := range end.Partitions {
		key := state.Place{Topic: place.Topic, Partition: place.Partition}
		if _, err := b.spec.place(key); err != nil {
			continue
		}
		p := b.spec.producer(state.ProducerKey{Place: key, ID: end.Producer})
		if p.Known && end.Epoch < p.Epoch {
			if p.Open {
				return nil, fmt.Errorf("%w: id %d has epoch %d open in %v, its end %d", state.ErrProducerFenced, end.Producer, p.Epoch, key, end.Epoch)
			}
			// The coordinator did not do this: a client used the id of another one. It
			// must not delay the others.
			continue
		}
		ended = append(ended, key)
	}
	return ended, nil
}

// endAll puts a marker into each of the partitions.
func (b *builder) endAll(end *TransactionEnd, ended []state.Place) {
	if len(ended) == 0 {
		return
	}
	now := b.log.now().UnixMilli()
	marker := record.NewMarker(end.Producer, end.Epoch, record.Marker{Commit: end.Commit, CoordinatorEpoch: b.log.epoch}, now)
	for _, key := range ended {
		pk := state.ProducerKey{Place: key, ID: end.Producer}
		p := b.spec.producer(pk)
		p.End(end.Epoch, now)
		b.spec.producers.set(b.spec.slot, pk, p)
		b.add(key, marker, false) // encode copies it
	}
}
