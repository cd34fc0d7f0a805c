package journal

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage"
)

// ReadSlot returns the entries of the DATA at pos, which a state refers to. It reads
// the whole object once and verifies its checksum and that it matches its name. The
// bodies are at Entry.At within the object of SlotKey. The checksum covers the whole
// object, so a caller that reads a part of the object can verify that part only by
// checksums of its own.
//
// A slot that is not there does not mean the end of the log: it was deleted by Truncate
// or Remove, or it was lost together with the data that the state refers to.
//
// Errors: fs.ErrNotExist, ErrCorrupt, ErrFormat, and those of the bucket.
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
