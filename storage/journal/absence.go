package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage"
)

// absent is the error for an object that is missing. Absence proves nothing by itself,
// so for each object of a journal there is another that shows that it existed.
type absent struct{ key, shown string }

// Missing returns the error for an object that is not in a bucket and must be: shown
// says what proves that. The error is an ErrCorrupt and a storage.ErrMissing.
func Missing(key, shown string) error { return absent{key, shown} }

func (a absent) Error() string { return fmt.Sprintf("object %s is missing: %s", a.key, a.shown) }

// Is makes absent an ErrCorrupt too: the log is incomplete.
func (a absent) Is(target error) bool { return target == ErrCorrupt || target == storage.ErrMissing }

// Recovered describes what a recovery has read, for Options.Verify.
type Recovered struct {
	Checkpoint Position // where it started; zero: no checkpoint, it has read the log from its beginning
	End        Position // the first position of the epoch that is about to begin

	begun []uint64
}

// Knows reports whether the recovered state holds everything that the owner of an epoch
// did: the checkpoint is of that epoch or a later one, or its header was read and the
// log was followed to the epoch's end. For any other epoch the recovery knows only that
// its claimant never became the owner.
func (r Recovered) Knows(epoch uint64) bool {
	return epoch <= r.Checkpoint.Epoch || slices.Contains(r.begun, epoch)
}

func (w *walker) recovered() Recovered {
	return Recovered{Checkpoint: w.loaded, End: w.pos, begun: w.begunEpochs}
}

// checkTombstones looks for tombstones and returns the newest checkpoint; newest is the
// one that a List has just shown. A tombstone proves that a checkpoint beyond it was
// durable before it. The claim of a recovery keeps that checkpoint, or a newer one, in
// place. So if a List after the tombstones shows none, the checkpoint is missing.
func (w *walker) checkTombstones(ctx context.Context, newest Position) (Position, error) {
	const page = 1000
	after := ""
	if !newest.IsZero() {
		after = tombstoneKey(w.store.shard, Position{newest.Epoch, newest.Slot - 1})
	}
	for {
		keys, err := w.store.list(ctx, tombstonePrefix(w.store.shard), after, page)
		if err != nil {
			return newest, fmt.Errorf("list tombstones: %w", err)
		}
		if len(keys) > 0 {
			after = keys[len(keys)-1]
		}
		if len(keys) == page {
			continue
		}
		if pos, ok := parsePlace(after, tombstonePrefix(w.store.shard)); !ok && after != "" {
			return newest, fmt.Errorf("%w: there is a tombstone %s, which needs a later version", ErrFormat, after)
		} else if after == "" || pos.Before(newest) || lossUnread(w.store.mutations) {
			return newest, nil
		} else {
			return w.newest(ctx, Position{pos.Epoch, pos.Slot + 1})
		}
	}
}

// mayEnd returns nil if the log may end at the hole at pos. It may not if something
// shows that the slot existed: a closing of its epoch, a SEAL behind it, or DATA behind
// it that was written when the slot was acknowledged.
func (w *walker) mayEnd(ctx context.Context, pos Position) error {
	if lossUnread(w.store.mutations) {
		return nil
	}
	shown, err := w.evidence(ctx, pos)
	if err != nil || shown == "" {
		return err
	}
	// That was made when the slot existed, perhaps after the slot was looked for.
	key := SlotKey(w.store.shard, pos)
	there, err := w.store.has(ctx, key)
	if err == nil && !there {
		err = maybeStale{absent{key, "it was there before " + shown}}
	}
	return err
}

// evidence returns what shows that slot pos was acknowledged, or that a claimant has
// passed it: the key of an object, or that the bucket knows of a deletion there or
// behind it, for which there was a newer checkpoint. It returns "" if nothing shows it.
func (w *walker) evidence(ctx context.Context, pos Position) (string, error) {
	prefix, slot := epochPrefix(w.store.shard, pos.Epoch), SlotKey(w.store.shard, pos)
	var closings, keys []string
	var deleted string
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() {
		closings, errs[0] = w.store.list(ctx, closingPrefix(w.store.shard), closingKey(w.store.shard, pos), 1)
	})
	wg.Go(func() { deleted, errs[1] = w.store.deleted(ctx, prefix, slot) })
	wg.Go(func() { keys, errs[2] = w.store.list(ctx, prefix, slot, 2*MaxDepth) })
	wg.Wait()
	if err := cmp.Or(errs[:]...); err != nil {
		return "", fmt.Errorf("look behind slot %v: %w", pos, err)
	}
	for _, key := range closings {
		if end, ok := parsePlace(key, closingPrefix(w.store.shard)); !ok {
			return "", fmt.Errorf("%w: there is a closing object %s, which needs a later version", ErrFormat, key)
		} else if end.Epoch == pos.Epoch {
			return key, nil
		}
	}
	if deleted != "" {
		return deleted + ", which the bucket knows was deleted, so there was a newer checkpoint", nil
	}
	for _, key := range slices.Backward(keys) {
		later, err := parseSlot(w.store.shard, key)
		if err != nil {
			return "", err
		}
		if pos.Slot == 0 || later.Slot-pos.Slot > MaxDepth {
			return key, nil
		}
		raw, err := w.store.get(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since: this walk started at a checkpoint that is no longer the newest
		}
		if err != nil {
			return "", err
		}
		o, err := decode(raw)
		if err != nil { // this object may be the evidence
			return "", maybeStale{fmt.Errorf("read %s: %w", key, err)}
		}
		if o.shows(pos) {
			return key, nil
		}
	}
	return "", nil
}

// shows reports whether an object behind pos in its epoch can only be there because
// pos was taken before. A claimant puts its SEAL into the first free slot. DATA, and the
// SEAL of the epoch's owner, may be durable before slots that were in flight with it.
func (o *object) shows(pos Position) bool {
	switch {
	case o.typ == typeData, o.yields():
		return o.open > 0 && o.pos.Slot-uint64(o.open-1) > pos.Slot
	}
	return o.typ == typeSeal
}
