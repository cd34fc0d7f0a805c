package segment

import (
	"fmt"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// Block is a run of batches of a piece that is read as a whole.
type Block struct {
	Base    int64  // base offset of its first batch
	Next    int64  // first offset behind its last batch
	At      uint32 // where it begins in the object
	Size    uint32 // in bytes
	MaxTime int64  // highest timestamp of its records in ms; NoTime if it has none
	CRC     uint32 // CRC32C of its bytes
}

// Batches verifies the bytes of the block and cuts them into batches, which alias raw.
// It does not check their own CRCs, which cover less.
//
// Errors: ErrCorrupt.
func (b Block) Batches(raw []byte) ([]record.Batch, error) {
	if len(raw) != int(b.Size) {
		return nil, fmt.Errorf("%w: block of %d bytes instead of %d", ErrCorrupt, len(raw), b.Size)
	}
	if sum := crc.Sum(raw); sum != b.CRC {
		return nil, fmt.Errorf("%w: CRC32C of block at offset %d is %08x, index says %08x", ErrCorrupt, b.Base, sum, b.CRC)
	}
	return b.Cut(raw)
}

// Cut is Batches for the bytes of a block of a Run, which has verified them.
func (b Block) Cut(raw []byte) ([]record.Batch, error) {
	batches, err := cut(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: block at offset %d: %w", ErrCorrupt, b.Base, err)
	}
	next := b.Base
	for i, batch := range batches {
		base := batch.BaseOffset()
		if base < next || batch.NextOffset() <= base || i == 0 && base != b.Base {
			return nil, fmt.Errorf("%w: block at offset %d: batch %d has base offset %d behind %d", ErrCorrupt, b.Base, i, base, next)
		}
		next = batch.NextOffset()
	}
	if next != b.Next || len(batches) == 0 {
		return nil, fmt.Errorf("%w: block of offsets %d to %d ends behind %d", ErrCorrupt, b.Base, b.Next-1, next-1)
	}
	return batches, nil
}

// cut cuts a block into its batches. It counts them first, because the slice stays in
// caches.
func cut(raw []byte) ([]record.Batch, error) {
	n := 0
	for rest := raw; len(rest) > 0; n++ {
		batch, behind, err := record.Next(rest)
		if err == nil {
			err = batch.VerifyHeader()
		}
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", n, err)
		}
		rest = behind
	}
	batches := make([]record.Batch, n)
	for i := range batches {
		var err error
		if batches[i], raw, err = record.Next(raw); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// take updates the block for a batch that is appended to it.
func (b *Block) take(batch record.Batch) {
	if b.Size == 0 {
		b.Base, b.MaxTime = batch.BaseOffset(), NoTime
	}
	b.Next = batch.NextOffset()
	b.Size += uint32(len(batch))
	b.MaxTime = max(b.MaxTime, timeOf(batch))
}

// timeOf is the highest timestamp of the records of a batch, which compaction
// may have emptied. A control batch has none: a search by time looks for
// messages.
func timeOf(b record.Batch) int64 {
	if b.Count() == 0 || b.Control() {
		return NoTime
	}
	return b.MaxTimestamp()
}
