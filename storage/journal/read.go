package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
)

// SlotPrefix is what the keys of all slots begin with.
func SlotPrefix(shard uint32) string { return logPrefix(shard) }

// Strays lists the DATA before a position, of epochs from first on, for which known
// returns false. If known knows the slots that Truncate has kept, these are slots that
// arrived in the bucket after they had been deleted.
//
// Errors: those of the bucket.
func Strays(ctx context.Context, b storage.Bucket, shard uint32, first uint64, before Position, known func(Position) bool) (strays []Position, err error) {
	const page = 10_000
	end := SlotKey(shard, before)
	for after := SlotKey(shard, Position{Epoch: first}); ; {
		var keys []string
		err := storage.Until(ctx, func() (err error) {
			keys, err = b.List(ctx, logPrefix(shard), after, page)
			return err
		}, nil)
		if err != nil {
			return nil, fmt.Errorf("list slots: %w", err)
		}
		for _, key := range keys {
			if after = key; key >= end {
				return strays, nil
			}
			pos, err := parseSlot(shard, key)
			if err != nil || pos.Slot == 0 || known(pos) {
				continue
			}
			if data, err := hasData(ctx, b, key); err != nil {
				return nil, err
			} else if data {
				strays = append(strays, pos)
			}
		}
		if len(keys) < page {
			return strays, nil
		}
	}
}

// hasData reports whether there is DATA under the key of a slot, and not a SEAL or
// nothing.
func hasData(ctx context.Context, b storage.Bucket, key string) (bool, error) {
	var raw []byte
	err := storage.Until(ctx, func() (err error) {
		raw, err = b.Get(ctx, key, 0, fixedSize+1)
		return err
	}, fs.ErrNotExist)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read slot %s: %w", key, err)
	}
	return len(raw) > fixedSize, nil
}
