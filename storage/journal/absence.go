package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/weirmq/weir/storage"
)

// absent is the error for an object that is missing. That an object is not there proves
// nothing by itself, so each object of a journal has another one that shows that it was
// there.
type absent struct{ key, shown string }

// Missing is the error for an object of a bucket that is not there and must be: shown
// says by what. It is an ErrCorrupt and a storage.ErrMissing.
func Missing(key, shown string) error { return absent{key, shown} }

func (a absent) Error() string { return fmt.Sprintf("object %s is missing: %s", a.key, a.shown) }

// Is makes it an ErrCorrupt too: the log is not what it was.
func (a absent) Is(target error) bool { return target == ErrCorrupt || target == storage.ErrMissing }

// Recovered says what a recovery has read, for Options.Verify.
type Recovered struct {
	Checkpoint Position // that it started from; zero: none, it has read the log from its beginning
	End        Position // the first position of the epoch that is about to begin

	begun []uint64
}

// Knows reports whether the recovered state holds all that the owner of an epoch
// did: the checkpoint is of that epoch or a later one, or its header was read and
// the log was followed to the epoch's end. Of another epoch it knows only that its
// claimant never became the owner.
func (r Recovered) Knows(epoch uint64) bool {
	return epoch <= r.Checkpoint.Epoch || slices.Contains(r.begun, epoch)
}

func (w *walker) recovered() Recovered {
	return Recovered{Checkpoint: w.start, End: w.pos, begun: w.begunEpochs}
}

// checkTombstones returns the newest checkpoint, given what a List has just shown as that,
// after having asked for tombstones. A tombstone says that there was a checkpoint
// beyond it, which was durable before it. The claim of a recovery keeps that one, or
// a newer one, in place: if a List after the tombstones shows none, it is missing.
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
			return newest, fmt.Errorf("%w: there is a tombstone %s, which needs another version", ErrFormat, after)
		} else if after == "" || pos.Before(newest) || lossUnread(w.store.mutations) {
			return newest, nil
		} else {
			return w.newest(ctx, Position{pos.Epoch, pos.Slot + 1})
		}
	}
}

// mayEnd returns nil if the log may end at the hole at pos. It may not if something
// shows that the slot was there and is missing: a closing of its epoch, a SEAL behind
// it, or DATA behind it that was written when the slot was acknowledged.
func (w *walker) mayEnd(ctx context.Context, pos Position) error {
	if lossUnread(w.store.mutations) {
		return nil
	}
	shown, err := w.evidence(ctx, pos)
	if err != nil || shown == "" {
		return err
	}
	// That was made when the slot was there, which may be after it was
	// looked for.
	key := SlotKey(w.store.shard, pos)
	there, err := w.store.has(ctx, key)
	if err == nil && !there {
		err = maybeStale{absent{key, "it was there before " + shown}}
	}
	return err
}

// evidence returns what shows that slot pos was acknowledged, or passed by a claimant: the
// key of an object, or that the bucket knows of a deletion there or behind it, for which
// there was a newer checkpoint. It returns "" if nothing shows it.
func (w *walker) evidence(ctx context.Context, pos Position) (string, error) {
	keys, err := w.store.list(ctx, closingPrefix(w.store.shard), closingKey(w.store.shard, pos), 1)
	if err != nil {
		return "", fmt.Errorf("list closings: %w", err)
	}
	for _, key := range keys {
		if end, ok := parsePlace(key, closingPrefix(w.store.shard)); !ok {
			return "", fmt.Errorf("%w: there is a closing %s, which needs another version", ErrFormat, key)
		} else if end.Epoch == pos.Epoch {
			return key, nil
		}
	}
	if key, err := w.store.deleted(ctx, epochPrefix(w.store.shard, pos.Epoch), SlotKey(w.store.shard, pos)); err != nil {
		return "", err
	} else if key != "" {
		return key + ", which the bucket knows was deleted, so there was a newer checkpoint", nil
	}
	keys, err = w.store.list(ctx, epochPrefix(w.store.shard, pos.Epoch), SlotKey(w.store.shard, pos), 2*MaxDepth)
	if err != nil {
		return "", fmt.Errorf("list slots: %w", err)
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
			continue // deleted since: this walk started at a checkpoint that is not the newest any more
		}
		if err != nil {
			return "", err
		}
		o, err := decode(raw)
		if err != nil { // it may be what shows it
			return "", maybeStale{fmt.Errorf("read %s: %w", key, err)}
		}
		if o.shows(pos) {
			return key, nil
		}
	}
	return "", nil
}

// shows reports whether an object behind pos in its epoch can only be there because
// pos was taken before.
func (o *object) shows(pos Position) bool {
	switch o.typ {
	case typeSeal:
		return true
	case typeData:
		return o.open > 0 && o.pos.Slot-uint64(o.open-1) > pos.Slot
	}
	return false
}
