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

// A proposal is admitted whole, into one slot.
//
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

// Size returns the most bytes that c adds to a slot.
func (c Command) Size() int { return len(c.Body) + journal.EntryOverhead }

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
	l.submit(ctx, Proposal{Commands: commands, End: end}, func(_ []int64, err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Proposal is what becomes durable in one slot, all of it or nothing.
type Proposal struct {
	// Appends are batches without a Source and without a producer id.
	Appends  []Append
	Commands []Command

	// Based, if not nil, returns further commands, which may name the offsets that the
	// batches get: bases has the base offset of each. It is called once at most, when all
	// else is admitted. It must not block, must not keep bases, and must take no lock that
	// is held while the log is called, by a Machine's Apply or anyone else.
	Based      func(bases []int64) []Command
	BasedBytes int // the most that Size of all commands of Based adds up to

	End *TransactionEnd
}

// Submit makes a proposal durable. done is called exactly once, like that of Append, and
// p belongs to the log until then. Without an error, bases has the base offset of each
// batch: all batches are readable, and the Machines have applied all commands. In the
// slot, batches stand before the commands of their proposal, so a Machine that applies a
// command finds the records that it names.
//
// Calls of Append and Submit from one goroutine keep their order in the log. Like Append
// it waits while the line is full: the caller must hold no lock that a Machine's Apply
// takes.
//
// Errors: those of ProposeAll, and those of Append for a batch without a Source, with
// ErrUnsupported for one that has a Source or a producer id; ErrTooLarge and ErrFormat
// also for what Based returns. All of them but ErrFenced: nothing is stored.
func (l *Log) Submit(p Proposal, done func(bases []int64, err error)) {
	l.submit(context.Background(), p, done)
}

// submit is Submit with a ctx that bounds the wait for room in line.
func (l *Log) submit(ctx context.Context, p Proposal, done func(bases []int64, err error)) {
	size, err := l.checkProposal(&p)
	if err == nil {
		err = l.line.push(ctx, request{
			size:   size,
			admit:  func(b *builder) { b.propose(&p, done) },
			refuse: func(err error) { done(nil, err) },
		})
	}
	if err != nil {
		done(nil, err)
	}
}

// checkProposal returns the most bytes that the proposal adds to a slot, or an error if
// it is invalid whatever the state of the log.
func (l *Log) checkProposal(p *Proposal) (size int, err error) {
	for i := range p.Appends {
		a := &p.Appends[i]
		if err := l.checkAppend(*a); err != nil {
			return 0, err
		}
		if a.Source != nil || a.Batch.ProducerID() >= 0 {
			return 0, fmt.Errorf("%w: batch of a gateway or of a producer with an id in a proposal", ErrUnsupported)
		}
		size += a.size() + journal.EntryOverhead
	}
	of, err := l.checkCommands(p.Commands)
	if err != nil {
		return 0, err
	}
	size += of + p.BasedBytes
	if end := p.End; end != nil {
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

// checkCommands returns the most bytes that commands add to a slot.
func (l *Log) checkCommands(commands []Command) (size int, err error) {
	for _, c := range commands {
		if l.machines[c.Kind] == nil {
			return 0, fmt.Errorf("%w: no machine for kind %d", state.ErrFormat, c.Kind)
		}
		size += c.Size()
	}
	return size, nil
}

// markerSize is the most bytes that a marker adds to a slot: its batch, in a run of
// its own.
const markerSize = journal.EntryOverhead + state.RunFixed + record.HeaderSize + 32

// propose admits all parts of a proposal, or none.
func (b *builder) propose(p *Proposal, done func([]int64, error)) {
	bases, based, ended, err := b.judge(p)
	if err == nil {
		for _, a := range p.Appends {
			b.add(state.Place{Topic: a.Topic, Partition: a.Partition}, a.Batch, a.AppendTime)
		}
		for _, c := range slices.Concat(p.Commands, based) {
			b.put(c.Kind, c.Body)
		}
		b.endAll(p.End, ended)
	}
	b.slot.answers = append(b.slot.answers, func(lost error) {
		if err := cmp.Or(lost, err); err != nil {
			done(nil, err)
			return
		}
		done(bases, nil)
	})
}

// judge returns the offsets that the batches of a proposal will get, the commands that
// depend on these, and the partitions that get a marker. After an error nothing of the
// proposal may be admitted.
func (b *builder) judge(p *Proposal) (bases []int64, based []Command, ended []state.Place, err error) {
	if bases, err = b.bases(p.Appends); err != nil {
		return nil, nil, nil, err
	}
	if err := b.barredCommands(p.Commands); err != nil {
		return nil, nil, nil, err
	}
	if p.End != nil {
		if ended, err = b.endable(p.End); err != nil {
			return nil, nil, nil, err
		}
	}
	if p.Based == nil {
		return bases, nil, ended, nil
	}
	based = p.Based(slices.Clone(bases))
	size, err := b.log.checkCommands(based)
	if err == nil {
		err = b.barredCommands(based)
	}
	if err == nil && size > p.BasedBytes {
		err = fmt.Errorf("%w: commands of %d bytes for the offsets of a proposal, %d were announced", ErrTooLarge, size, p.BasedBytes)
	}
	return bases, based, ended, err
}

// bases returns the offset of the first record of each batch if they are appended next.
func (b *builder) bases(appends []Append) ([]int64, error) {
	bases := make([]int64, len(appends))
	ends := make(map[state.Place]int64)
	for i, a := range appends {
		key := state.Place{Topic: a.Topic, Partition: a.Partition}
		end, again := ends[key]
		if !again {
			err := b.spec.barred(key)
			if err == nil {
				_, err = b.spec.place(key)
			}
			if err != nil {
				return nil, err
			}
			end = b.spec.end(key)
		}
		bases[i] = end
		ends[key] = end + int64(a.Batch.Count())
	}
	return bases, nil
}

// endable lists the partitions that get a marker.
func (b *builder) endable(end *TransactionEnd) ([]state.Place, error) {
	ended := make([]state.Place, 0, len(end.Partitions))
	for _, place := range end.Partitions {
		key := state.Place{Topic: place.Topic, Partition: place.Partition}
		if err := b.spec.barred(key); err != nil {
			return nil, err
		}
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
