package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
)

// tellLost passes what is missing or damaged to Options.Lost and returns nil, so that
// it is skipped. It returns any other error.
func tellLost(lost func(error), err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, storage.ErrDamaged) {
		lost(err)
		return nil
	}
	return err
}

// replaceClaim creates a claim in the place of one that is missing. No node holds it.
func (s store) replaceClaim(ctx context.Context, epoch uint64) error {
	c := Claim{Epoch: epoch, Node: "repaired"}
	err := s.create(ctx, claimKey(s.shard, epoch), c.encode(s.shard))
	if errors.Is(err, storage.ErrExists) {
		return nil
	}
	return err
}

// salvage is walkToEnd for a journal of which something is missing or damaged. It starts
// at the newest checkpoint that can be read, and applies what is there.
func (w *walker) salvage(ctx context.Context) error {
	newest, err := w.newest(ctx, Position{})
	if err != nil {
		return err
	}
	if _, err := w.checkTombstones(ctx, newest); err != nil {
		if err := tellLost(w.lost, err); err != nil {
			return err
		}
		if err := w.list(ctx); err != nil { // the last list was for a newer one
			return err
		}
	}
	for i := len(w.listed) - 1; i >= 0 && w.start.IsZero(); i-- {
		if err := tellLost(w.lost, w.load(ctx, w.listed[i])); err != nil {
			return err
		}
	}
	for w.pos.Epoch < w.mine.Epoch {
		if err := w.salvageEpoch(ctx); err != nil {
			return fmt.Errorf("salvage epoch %d: %w", w.pos.Epoch, err)
		}
	}
	return nil
}

// salvageEpoch applies what is left of the epoch under way, and makes sure that it has
// a SEAL.
func (w *walker) salvageEpoch(ctx context.Context) error {
	const page = 1000
	after := ""
	if w.pos.Slot > 0 {
		after = SlotKey(w.store.shard, Position{w.pos.Epoch, w.pos.Slot - 1})
	}
	for {
		keys, err := w.store.list(ctx, epochPrefix(w.store.shard, w.pos.Epoch), after, page)
		if err != nil {
			return fmt.Errorf("list slots: %w", err)
		}
		for _, key := range keys {
			after = key
			at, err := parseSlot(w.store.shard, key)
			if err != nil {
				return err
			}
			if at.Slot > w.pos.Slot {
				// What lies behind a hole that may be the end was never acknowledged.
				_, err := w.recheckHole(ctx, w.pos, w.mine.Epoch-1)
				if err == nil {
					return w.sealEnd(ctx)
				}
				if err := tellLost(w.lost, err); err != nil {
					return err
				}
				w.pos = at
			}
			if sealed, err := w.applyRemaining(ctx, key); err != nil || sealed {
				return err
			}
		}
		if len(keys) < page {
			break
		}
	}
	if _, err := w.recheckHole(ctx, w.pos, w.mine.Epoch-1); err != nil {
		if err := tellLost(w.lost, err); err != nil {
			return err
		}
	}
	return w.sealEnd(ctx)
}

// sealEnd puts a SEAL where the epoch under way ends.
func (w *walker) sealEnd(ctx context.Context) error {
	o := sealObject(w.store.shard, w.mine, w.pos)
	if err := w.store.create(ctx, SlotKey(w.store.shard, w.pos), o.encode()); err != nil {
		return fmt.Errorf("seal slot %v: %w", w.pos, err)
	}
	return w.applySeal(o, SlotKey(w.store.shard, w.pos))
}

// applyRemaining is apply for an object of a damaged journal: what cannot be read is
// skipped, and nothing is compared.
func (w *walker) applyRemaining(ctx context.Context, key string) (sealed bool, err error) {
	raw, err := w.store.get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		err = absent{key, "it was listed"}
	}
	var o object
	if err == nil {
		if o, err = decode(raw); err != nil {
			err = fmt.Errorf("read %s: %w", key, err)
		} else if o.shard != w.store.shard || o.pos != w.pos {
			err = fmt.Errorf("%w: %s holds slot %v of shard %d", ErrCorrupt, key, o.pos, o.shard)
		}
	}
	if err != nil {
		w.pos.Slot++
		return false, tellLost(w.lost, err)
	}
	switch o.typ {
	case typeSeal:
		return true, w.applySeal(o, key)
	case typeHeader:
		if y, err := decodeWay(o.entries, w.pos); err == nil {
			w.entries = y.entries
		}
		w.begunEpochs = append(w.begunEpochs, w.pos.Epoch)
	case typeData:
		if err := w.state.Apply(w.pos, o.entries); err != nil {
			return false, fmt.Errorf("apply slot %v: %w", w.pos, err)
		}
		w.entries += uint64(len(o.entries))
	}
	w.pos.Slot++
	return false, nil
}
