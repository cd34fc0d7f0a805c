package upkeep

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// scanBytes bounds a Get of scan, but for one larger block.
const scanBytes = 4 << 20

// Scan hands out the batches of a piece in their order, a part of it after the other.
// It bypasses the cache: what the upkeep reads once must not evict what readers want.
// It does not retry for long, because slots wait meanwhile to be rewritten.
func (m *Maintainer) Scan(ctx context.Context, key state.Place, x *state.Piece, fn func(record.Batch) error) error {
	l := m.log
	object, ref := x.Segment.Key(l.Shard), x.Ref(key)
	get := func(at, n uint32) (raw []byte, err error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err = storage.Until(ctx, func() error {
			raw, err = l.Bucket.Get(ctx, object, int64(at), int64(n))
			return err
		}, fs.ErrNotExist)
		if err == nil && len(raw) != int(n) {
			err = fmt.Errorf("%w: it ends early", state.ErrCorrupt)
		}
		return raw, err
	}
	if x.Segment.Slot {
		raw, err := get(x.At, x.Size)
		if err == nil {
			err = m.scanRun(key, x, raw, fn)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", object, state.Translate(err))
		}
		return nil
	}
	at, n := x.At+x.Size-x.Index, x.Index
	whole := x.Size <= scanBytes
	if whole {
		at, n = x.At, x.Size
	}
	raw, err := get(at, n)
	if err != nil {
		return fmt.Errorf("read %s: %w", object, err)
	}
	blocks, err := ref.Blocks(raw[n-x.Index:])
	for err == nil && len(blocks) > 0 {
		k := 1
		for k < len(blocks) && (whole || blocks[k].At+blocks[k].Size-blocks[0].At <= scanBytes) {
			k++
		}
		if !whole {
			at = blocks[0].At
			if raw, err = get(at, blocks[k-1].At+blocks[k-1].Size-at); err != nil {
				break
			}
		}
		for _, blk := range blocks[:k] {
			var batches []record.Batch
			if batches, err = blk.Batches(raw[blk.At-at:][:blk.Size]); err == nil {
				err = handOut(batches, fn)
			}
			if err != nil {
				break
			}
		}
		blocks = blocks[k:]
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", object, state.Translate(err))
	}
	return nil
}

// scanRun hands out the batches of a piece in a slot.
func (m *Maintainer) scanRun(key state.Place, x *state.Piece, raw []byte, fn func(record.Batch) error) error {
	leader := int32(x.Segment.Epoch)
	m.log.View(func(s *state.State) {
		if p := s.Partition(key); p != nil {
			leader = p.LeaderEpoch(leader)
		}
	})
	blocks, err := x.Ref(key).Run(raw, leader)
	if err != nil {
		return err
	}
	for _, blk := range blocks {
		batches, err := blk.Cut(raw[blk.At-x.At:][:blk.Size])
		if err != nil {
			return err
		}
		if err := handOut(batches, fn); err != nil {
			return err
		}
	}
	return nil
}

func handOut(batches []record.Batch, fn func(record.Batch) error) error {
	for _, b := range batches {
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}
