package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// walker reads the log forward from the newest checkpoint, or from its beginning, and
// applies it. Recovery and Replay are walkers that differ in what they do at a hole.
type walker struct {
	store  store
	state  State
	window int
	mine   Claim // of a recovery; zero in a Replay

	way               // to pos; start is the checkpoint that this walk began at, or a newer one that it has passed
	passed Position   // checkpoints up to here are not loaded; of a candidate where it stood when it claimed, else the same as start
	loaded Position   // the checkpoint that this walk began at
	pos    Position   // the next slot to apply: all before it are applied
	nonce  [16]byte   // of the owner of the epoch under way
	listed []Position // the checkpoints of the last List, oldest first

	begunEpochs []uint64    // the epochs whose headers were read
	lost        func(error) // Options.Lost
}

func newWalker(st store, s State, window int) *walker {
	return &walker{store: st, state: s, window: window, way: way{oldest: beginning}, pos: beginning}
}

// holeFunc handles the first slot of an epoch that was not there. It returns the object
// that is there now, or nil if the hole is the end.
type holeFunc func(ctx context.Context, pos Position) ([]byte, error)

// epoch applies the epoch under way up to its SEAL and moves to the beginning of the
// next one. It returns false if it stopped at a hole instead.
func (w *walker) epoch(ctx context.Context, hole holeFunc) (sealed bool, err error) {
	a := w.ahead(ctx)
	defer func() { a.stop() }()
	for {
		raw, err := a.read()
		if errors.Is(err, fs.ErrNotExist) {
			// What was read ahead is older than the result of hole, so a slot missing
			// in it proves nothing.
			a.stop()
			if raw, err = hole(ctx, w.pos); err == nil && raw == nil {
				return false, nil
			}
		}
		if err != nil {
			return false, err
		}
		if sealed, err := w.apply(raw); err != nil || sealed {
			return sealed, err
		}
		if a.stopped() {
			a = w.ahead(ctx)
		}
	}
}

// apply applies the object at w.pos and moves on. It reports whether that was
// the SEAL of the epoch.
func (w *walker) apply(raw []byte) (sealed bool, err error) {
	key := SlotKey(w.store.shard, w.pos)
	o, err := decode(raw)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	if o.shard != w.store.shard || o.pos != w.pos {
		return false, fmt.Errorf("%w: %s holds slot %v of shard %d", ErrCorrupt, key, o.pos, o.shard)
	}
	switch {
	case o.yields() && o.nonce != w.nonce:
		return false, fmt.Errorf("%w: %s, a SEAL of the epoch's owner, and the header have different nonces", ErrCorrupt, key)
	case o.typ == typeSeal:
		return true, w.applySeal(o, key)
	case o.typ == typeHeader:
		return false, w.applyHeader(o, key)
	case o.typ != typeData:
		return false, fmt.Errorf("%w: %s holds a %v", ErrCorrupt, key, o.typ)
	case o.nonce != w.nonce:
		return false, fmt.Errorf("%w: %s and the header of its epoch have different nonces", ErrCorrupt, key)
	}
	if err := w.state.Apply(w.pos, o.entries); err != nil {
		return false, fmt.Errorf("apply slot %v: %w", w.pos, err)
	}
	w.entries += uint64(len(o.entries))
	w.pos.Slot++
	return false, nil
}

func (w *walker) applySeal(o object, key string) error {
	if w.mine.Epoch != 0 && o.author > w.mine.Epoch {
		// This is not needed for safety: the claimant that sealed this slot seals our
		// epoch as well.
		return fmt.Errorf("%w: epoch %d sealed %s", ErrFenced, o.author, key)
	}
	if w.mine.Epoch != 0 && o.author == w.mine.Epoch && o.nonce != w.mine.Nonce {
		// Or the bucket is a copy that lacks the newest claims, and their numbers are
		// used again.
		lost := Missing(claimKey(w.store.shard, o.author), fmt.Sprintf("%s is a SEAL of that epoch, by another claim than this node's", key))
		return fmt.Errorf("%w: %w", ErrForeign, lost)
	}
	w.seals = append(w.seals, o.pos.Slot)
	w.pos = Position{Epoch: w.pos.Epoch + 1}
	return nil
}

// applyHeader compares the way of the epoch's owner with our own. They may have started
// from different checkpoints, so only what both know is compared.
func (w *walker) applyHeader(o object, key string) error {
	y, err := decodeWay(o.entries, w.pos)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if !w.agrees(y) {
		return maybeStale{fmt.Errorf("%w: %s continues a log of %d entries with SEALs at %v since epoch %d, read were %d entries with SEALs at %v since epoch %d",
			ErrCorrupt, key, y.entries, y.seals, y.oldest.Epoch, w.entries, w.seals, w.oldest.Epoch)}
	}
	w.nonce = o.nonce
	w.begunEpochs = append(w.begunEpochs, w.pos.Epoch)
	w.pos.Slot++
	return nil
}

// recheckHole looks at a hole again. It returns nil if the log may end there, because
// no later epoch up to newest has begun. An epoch begins only when those before it are
// sealed. So if one has begun, either pos was taken meanwhile and recheckHole returns
// the object there, or the object was lost. In that case nothing may be put in its
// place.
func (w *walker) recheckHole(ctx context.Context, pos Position, newest uint64) ([]byte, error) {
	for e := pos.Epoch + 1; e <= newest; e++ {
		begun, err := w.begun(ctx, e)
		if err != nil {
			return nil, err
		}
		if !begun {
			continue
		}
		key := SlotKey(w.store.shard, pos)
		raw, err := w.store.get(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, maybeStale{absent{key, fmt.Sprintf("epoch %d has begun, so that the slots before it were there", e)}}
		}
		return raw, err
	}
	return nil, w.mayEnd(ctx, pos)
}

// begun reports whether the header of epoch e is durable.
func (w *walker) begun(ctx context.Context, e uint64) (bool, error) {
	key := SlotKey(w.store.shard, Position{Epoch: e})
	raw, err := w.store.get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o, err := decode(raw)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	return o.typ == typeHeader, nil
}

// ahead reads the slots of one epoch in order, with several Gets under way.
type ahead struct {
	store  store
	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	wg     sync.WaitGroup

	next  Position // the next slot to ask for
	limit int      // most Gets under way; doubles up to window
	most  int
	queue []chan fetched // answers in slot order
}

type fetched struct {
	raw []byte
	err error
}

// ahead begins to read at w.pos. It starts with few Gets: most epochs of a quiet shard
// are short, and what is read behind a SEAL is wasted.
func (w *walker) ahead(ctx context.Context) *ahead {
	a := &ahead{store: w.store, next: w.pos, limit: min(2, w.window), most: w.window}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// read returns the next slot's object, or fs.ErrNotExist.
func (a *ahead) read() ([]byte, error) {
	for len(a.queue) < a.limit {
		answer := make(chan fetched, 1)
		ctx, key := a.ctx, SlotKey(a.store.shard, a.next)
		a.wg.Go(func() {
			raw, err := a.store.get(ctx, key)
			answer <- fetched{raw, err}
		})
		a.queue = append(a.queue, answer)
		a.next.Slot++
	}
	f := <-a.queue[0]
	a.queue = a.queue[1:]
	a.limit = min(2*a.limit, a.most)
	return f.raw, f.err
}

func (a *ahead) stopped() bool { return a.ctx.Err() != nil }

// stop drops what was read ahead and waits for the Gets to end.
func (a *ahead) stop() {
	a.cancel()
	a.wg.Wait()
}
