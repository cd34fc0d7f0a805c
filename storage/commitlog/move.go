package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// Slices move from the log of one shard to that of another one, of the same owner. At the
// first one: Separate, Stop, Export; at the second: Import; at the first: MoveOut, which
// decides; at the second: ConfirmMove; at the first: Settle. Who gives up before MoveOut calls
// Void at the first, and if that says that the slices did not move out, Cancel at the
// second. So does the owner of the second one that finds an import (Moves) of an earlier
// owner: it asks the owner of the first for Void, and then confirms or cancels.
// state/moves.go says why this order is safe.

// Errors about slices that move.
var (
	// ErrMoving: slices are on their way to another shard, or not yet in this one. Nothing
	// was stored: try again.
	ErrMoving = errors.New("slices are being moved")

	// ErrMoved: the slices are in another shard. Nothing was stored.
	ErrMoved = errors.New("slices are in another shard")

	// ErrMoveEnded: the move was given up, or there is none of that id.
	ErrMoveEnded = errors.New("no such move of slices")
)

// Export is what a log has of slices.
type Export struct{ body []byte }

// maxExport bounds what moves at once: a checkpoint has all of it until it is confirmed.
const maxExport = 64 << 20

// outgoing is the move of slices away from this log that is under way.
type outgoing struct {
	mu    sync.Mutex
	id    weir.MoveID   // guarded by mu; zero: none
	ended chan struct{} // guarded by mu; closed when it has ended
}

// begin notes that a move is under way. It fails if another one is.
func (o *outgoing) begin(id weir.MoveID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.id {
	case id:
	case weir.MoveID{}:
		o.id, o.ended = id, make(chan struct{})
	default:
		return fmt.Errorf("%w: move %v is under way", ErrMoving, o.id)
	}
	return nil
}

// idle returns an error if a move is under way.
func (o *outgoing) idle() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.id != (weir.MoveID{}) {
		return fmt.Errorf("%w: move %v is under way", ErrMoving, o.id)
	}
	return nil
}

// end notes that a move has ended, and reports whether it was the one under way.
func (o *outgoing) end(id weir.MoveID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.id != id || id == (weir.MoveID{}) {
		return false
	}
	o.id = weir.MoveID{}
	close(o.ended)
	return true
}

// after calls fn, again if it returns ErrMoving, when the move that is under way has ended.
func (o *outgoing) after(ctx context.Context, l *Log, fn func() error) error {
	for {
		o.mu.Lock()
		ended := o.ended
		o.mu.Unlock()
		err := fn()
		if !errors.Is(err, ErrMoving) || ended == nil {
			return err
		}
		select {
		case <-ended:
		case <-l.done:
			return l.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkMove returns an error for a move that does not concern this log.
func (l *Log) checkMove(m weir.Move, shard uint32) error {
	if err := l.checkLevel(); err != nil {
		return err
	}
	if err := state.CheckMove(m); err != nil || shard != l.shard || m.ID == (weir.MoveID{}) {
		return fmt.Errorf("%w: move %v from shard %d to %d in the log of %d", ErrUnsupported, m.ID, m.From, m.To, l.shard)
	}
	return nil
}

// Separate rewrites what lies in slots, and the records of these slices that share an
// object with those of others, until little of that is left. It takes long if much does.
// From then on they are kept apart, and nothing is compacted, until their move ends, or for
// some minutes if none begins; without slices, that ends now. Reads and writes go on.
//
// Errors: ErrMoving if slices are being moved away; ErrCorrupt for records that cannot be
// read; ErrClosed, ErrFenced, ctx's, and the bucket's.
func (l *Log) Separate(ctx context.Context, s weir.SliceSet) error {
	if err := l.outgoing.idle(); err != nil {
		return err
	}
	return l.kept(l.upkeep.Separate(ctx, s))
}

// kept translates an error of the upkeep.
func (l *Log) kept(err error) error {
	if errors.Is(err, upkeep.ErrEnded) {
		if err := l.Err(); err != nil {
			return err
		}
		return fmt.Errorf("%w: the upkeep is off", ErrUnsupported)
	}
	return state.Translate(err)
}

// Stop lets the log take no more appends, and no proposals, that are about the slices of a
// move: from now on these get ErrMoving. It returns when all before that is durable. Reads
// go on. This lasts until MoveOut or Void; after an error of Stop other than ErrMoving and
// ErrMoveEnded, Void must be called, too. Only one move away from a log can be under way.
//
// A proposal with an entry for a Machine that has things in slices is refused, too, unless
// the Machine is a state.Sliced and says that it is about another slice.
//
// Errors: ErrMoving, ErrMoved, ErrMoveEnded, and those of Separate.
func (l *Log) Stop(ctx context.Context, m weir.Move) error {
	if err := l.checkMove(m, m.From); err != nil {
		return err
	}
	if err := l.outgoing.begin(m.ID); err != nil {
		return err
	}
	if err := l.kept(l.upkeep.Hold(ctx, m.Slices)); err != nil {
		return fmt.Errorf("stop slices: %w", err)
	}
	err := l.settled(ctx, func(b *builder) error { return b.spec.stop(m) })
	if errors.Is(err, ErrMoved) || errors.Is(err, ErrMoving) || errors.Is(err, ErrMoveEnded) {
		if l.outgoing.end(m.ID) {
			l.upkeep.Release()
		}
	}
	return err
}

// settled is ask for something that puts no entry. It returns when all before it is durable.
func (l *Log) settled(ctx context.Context, admit func(*builder) error) error {
	wait := ctx
	if stopAtOnce(l.mutations) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		wait = ended
	}
	_, err := ask(wait, l, 0, func(b *builder) (struct{}, error) { return struct{}{}, admit(b) })
	if wait != ctx {
		return nil
	}
	return err
}

// Export returns all that the log and its Machines have of the slices of a move that were
// stopped. It first rewrites what is left of them in slots. It may be called again.
//
// Errors: ErrMoveEnded if they were not stopped; ErrTooLarge for more than can move at
// once: move fewer slices; and those of Separate.
func (l *Log) Export(ctx context.Context, m weir.Move) (*Export, error) {
	if err := l.checkMove(m, m.From); err != nil {
		return nil, err
	}
	stopped := func(exported bool) error {
		return l.settled(ctx, func(b *builder) error { return b.spec.stopped(m.ID, exported) })
	}
	if err := stopped(false); err != nil {
		return nil, err
	}
	if err := l.kept(l.upkeep.Depart(ctx, m.Slices)); err != nil {
		return nil, fmt.Errorf("export slices: %w", err)
	}
	e := &Export{}
	var err error
	l.Between(func(at journal.Position) {
		l.mu.RLock()
		var s *state.State
		if s, err = l.state.Departing(m, l.epoch, at); err == nil {
			e.body = s.Append(nil)
		}
		l.mu.RUnlock()
		if err == nil { // Machines look things up in the log
			e.body = l.machines.Export(e.body, m.Slices)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("export slices: %w", err)
	}
	if len(e.body) > maxExport {
		return nil, fmt.Errorf("%w: %d slices have %d bytes of positions and states, the limit is %d", ErrTooLarge, m.Slices.Len(), len(e.body), maxExport)
	}
	return e, stopped(true)
}

// Import makes durable what another log has exported. It is not in effect, and not served,
// before ConfirmMove. If it fails otherwise than by ErrMoveEnded, it may have been begun: Void
// at the other log, and then Cancel.
//
// Errors: ErrFormat for something that only a later version can import; ErrMoving if the
// slices are here or are being imported; ErrMoveEnded.
func (l *Log) Import(ctx context.Context, m weir.Move, e *Export) error {
	if err := l.checkMove(m, m.To); err != nil {
		return err
	}
	_, sections, err := state.DecodeExport(m, e.body)
	if err == nil {
		err = l.machines.CheckImport(sections)
	}
	if err != nil {
		return fmt.Errorf("import slices: %w", err)
	}
	size := min(state.MovePart, l.slotBytes/2)
	parts := slices.Collect(slices.Chunk(e.body, size))
	for i, part := range parts {
		_, err := ask(ctx, l, state.MaxMoveRoom+len(part), func(b *builder) (struct{}, error) {
			if err := b.spec.importPart(m, i); err != nil {
				return struct{}{}, err
			}
			b.put(state.KindImported, state.EncodeImported(m, i, len(parts), part))
			return struct{}{}, nil
		})
		if err != nil {
			return fmt.Errorf("import slices: %w", err)
		}
	}
	return nil
}

// MoveOut decides that slices are in the other shard now, whose log has imported what
// Export has returned last. It is durable on return: this log and its Machines have
// forgotten them. The result of a call that fails otherwise than by ErrMoveEnded is what
// Void says.
//
// Errors: ErrMoveEnded if the slices were not stopped and exported by this owner.
func (l *Log) MoveOut(ctx context.Context, m weir.Move) error {
	if err := l.checkMove(m, m.From); err != nil {
		return err
	}
	_, err := ask(ctx, l, state.MaxMoveRoom, func(b *builder) (struct{}, error) {
		write, err := b.spec.moveOut(m.ID)
		if write {
			b.put(state.KindMovedOut, state.EncodeMovedOut(m))
		}
		return struct{}{}, err
	})
	return err
}

// Void asks whether the slices of a move are in the other shard. If that is not decided,
// it gives the move up first: from then on they never will be by that move, and if this
// owner has stopped them, they go on here. The answer is durable.
func (l *Log) Void(ctx context.Context, m weir.Move) (moved bool, err error) {
	if err := l.checkMove(m, m.From); err != nil {
		return false, err
	}
	return ask(ctx, l, state.MaxMoveRoom, func(b *builder) (bool, error) {
		moved, write := b.spec.void(m.ID, voidUnsaid(b.log.mutations))
		if write {
			b.put(state.KindMovedOut, state.EncodeMoveVoid(m.ID))
		}
		return moved, nil
	})
}

// Settle lets the log forget a move whose slices have moved out, when the other log has
// confirmed it and the map of slices says so: Moves returns it no more. It is durable on
// return.
//
// Errors: ErrMoveEnded if it did not move out.
func (l *Log) Settle(ctx context.Context, m weir.Move) error {
	if err := l.checkMove(m, m.From); err != nil {
		return err
	}
	_, err := ask(ctx, l, state.MaxMoveRoom, func(b *builder) (struct{}, error) {
		write, err := b.spec.settle(m.ID)
		if write {
			b.put(state.KindMovedOut, state.EncodeMoveSettled(m.ID))
		}
		return struct{}{}, err
	})
	return err
}

// ConfirmMove puts an import in effect: its slices are here now, and are served. MoveOut must
// have returned nil at the other log, or Void must have said that they moved out. It is
// durable on return.
//
// Errors: ErrMoveEnded if the import was cancelled, or is not whole.
func (l *Log) ConfirmMove(ctx context.Context, m weir.Move) error {
	return l.endImport(ctx, m, state.MoveConfirmed)
}

// Cancel forgets an import. Void must have said that its slices did not move out. It is
// durable on return.
//
// Errors: ErrMoveEnded if the import was confirmed.
func (l *Log) Cancel(ctx context.Context, m weir.Move) error {
	return l.endImport(ctx, m, state.MoveCancelled)
}

func (l *Log) endImport(ctx context.Context, m weir.Move, end state.MoveEnd) error {
	if err := l.checkMove(m, m.To); err != nil {
		return err
	}
	_, err := ask(ctx, l, state.MaxMoveRoom, func(b *builder) (struct{}, error) {
		write, err := b.spec.endImport(m.ID, end)
		switch {
		case !write:
		case end == state.MoveConfirmed:
			b.put(state.KindImported, state.EncodeImportConfirmed(m.ID))
		default:
			b.put(state.KindImported, state.EncodeImportCancelled(m.ID))
		}
		return struct{}{}, err
	})
	return err
}

// Moves returns the moves away from this log that are not settled, and those to it that
// are neither confirmed nor cancelled: an owner asks the other logs about the latter.
func (l *Log) Moves() (out, in []weir.Move) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state.Moves == nil {
		return nil, nil
	}
	for _, a := range l.state.Moves.In {
		in = append(in, a.Move)
	}
	return slices.Clone(l.state.Moves.Out), in
}

// partition returns a partition that can be read. mu is held.
func (l *Log) partition(key state.Place) (*state.Partition, error) {
	p := l.state.Partition(key)
	switch {
	case p == nil:
		return nil, fmt.Errorf("%w: partition %d of topic %v", ErrUnknownTopic, key.Partition, key.Topic)
	case l.state.Moves == nil:
		return p, nil
	case l.state.Arriving(key.SliceOf()):
		return nil, fmt.Errorf("%w: partition %d of topic %v", ErrMoving, key.Partition, key.Topic)
	case l.state.IsAway(key):
		return nil, fmt.Errorf("%w: partition %d of topic %v", ErrMoved, key.Partition, key.Topic)
	}
	return p, nil
}

// LeaderEpoch is the leader epoch of what this owner appends to a partition. It is Epoch
// unless the slice of the partition came from another shard.
func (l *Log) LeaderEpoch(topic weir.TopicID, partition int32) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state.Moves == nil {
		return l.epoch
	}
	return l.epoch + l.state.Moves.Biases[weir.SliceOf(topic, partition)]
}
