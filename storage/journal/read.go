package journal

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage"
)

// ReadSlot returns the entries of the DATA at pos, which a state refers to. It asks the
// bucket once, for the whole object, and verifies it: its checksum, and that it is what
// its name says. The bodies are at Entry.At within the object of SlotKey. The checksum
// is of the whole object, so a part of it that is read from there can only be verified
// by what it says of itself.
//
// A slot that is not there is no end of the log: it was deleted by Truncate or Remove, or
// it was lost, with what the state has in it.
//
// Errors: fs.ErrNotExist, ErrCorrupt, ErrFormat, and the bucket's.
func ReadSlot(ctx context.Context, b storage.Bucket, shard uint32, pos Position) ([]Entry, error) {
	key := SlotKey(shard, pos)
	raw, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read slot %s: %w", key, err)
	}
	o, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read slot %s: %w", key, err)
	}
	if o.typ != typeData || o.shard != shard || o.pos != pos {
		return nil, fmt.Errorf("read slot %s: %w: it holds a %v, slot %v of shard %d", key, ErrCorrupt, o.typ, o.pos, o.shard)
	}
	return o.entries, nil
}
