package segment

import (
	"fmt"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// Builder makes one segment object: for each piece Begin, Append …, End, then
// Finish. It is not safe for use by several goroutines.
type Builder struct {
	blockSize int     // BlockSize, less in tests
	maxSize   int     // MaxSize, less in tests
	buf       []byte  // the object so far
	pieces    []Piece // those that have ended

	open    bool    // between Begin and End
	piece   Piece   // the open one; its Size and Index are not known yet
	blocks  []Block // of the open piece; the last one has no CRC yet
	next    int64   // the least base offset of the next batch
	invalid error   // the first call out of order: there will be no object
}

// NewBuilder returns a builder of the object that lies under Key(shard, epoch,
// number).
func NewBuilder(shard uint32, epoch, number uint64) *Builder {
	return &Builder{blockSize: BlockSize, maxSize: MaxSize, buf: appendHeader(nil, shard, epoch, number)}
}

// Reuse lets the builder use the memory of an object that is no longer needed, if it is
// larger than its own. It must be called before Begin.
func (b *Builder) Reuse(memory []byte) {
	if cap(memory) > cap(b.buf) {
		b.buf = append(memory[:0], b.buf...)
	}
}

// Grow makes room for n bytes of batches and what comes with them, for callers
// who know how many there will be.
func (b *Builder) Grow(n int) { b.buf = slices.Grow(b.buf, n+n/64) }

// Begin starts a piece whose first offset is base. The piece before must have ended,
// and partition and base must not be negative; otherwise Append and Finish return an
// error.
func (b *Builder) Begin(topic [16]byte, partition int32, base int64) {
	switch {
	case b.invalid != nil:
		return
	case b.open:
		b.invalid = fmt.Errorf("%w: Begin in a piece", ErrState)
		return
	case partition < 0 || base < 0:
		b.invalid = fmt.Errorf("%w: Begin of partition %d at offset %d", ErrState, partition, base)
		return
	}
	b.piece = Piece{Topic: topic, Partition: partition, Base: base, MaxTime: NoTime, At: uint32(len(b.buf))}
	b.open, b.next, b.blocks = true, base, b.blocks[:0]
}

// Append copies a batch into the open piece, as it is: base offset and leader
// epoch are already set. Batches come in the order of their offsets, with or
// without holes. On an error nothing was appended.
//
// Errors: ErrTooLarge when the object would take more than MaxSize bytes, or the
// piece have more records than it can count: End or Drop the piece, and go on in
// another one or in another object. ErrCorrupt for a batch that is damaged or not
// in order.
func (b *Builder) Append(batch record.Batch) error {
	if b.invalid != nil {
		return b.invalid
	}
	if !b.open {
		return fmt.Errorf("%w: Append outside a piece", ErrState)
	}
	// Verify again: the CRC of the block would cover bytes that were damaged on the way.
	if err := batch.Verify(); err != nil {
		return fmt.Errorf("%w: batch behind offset %d of partition %d of topic %x: %w", ErrCorrupt, b.next, b.piece.Partition, b.piece.Topic, err)
	}
	base, next := batch.BaseOffset(), batch.NextOffset()
	if base < b.next || next <= base {
		return fmt.Errorf("%w: batch of offsets %d to %d behind offset %d of partition %d of topic %x", ErrCorrupt, base, next-1, b.next, b.piece.Partition, b.piece.Topic)
	}
	records := int64(b.piece.Records) + int64(batch.Count())
	if size := int64(b.Size()) + int64(len(batch)) + maxEntry; size > int64(b.maxSize) || records > math.MaxUint32 {
		return fmt.Errorf("%w: %d bytes, %d records in the piece", ErrTooLarge, size, records)
	}
	block := b.room(len(batch))
	block.take(batch)
	if n := len(batch); cap(b.buf)-len(b.buf) < n {
		b.buf = slices.Grow(b.buf, max(n, len(b.buf))) // each byte is copied about once
	}
	b.buf = append(b.buf, batch...)
	b.piece.Records, b.next = uint32(records), next
	b.piece.MaxTime = max(b.piece.MaxTime, block.MaxTime)
	return nil
}

// room returns the block into which n more bytes go.
func (b *Builder) room(n int) *Block {
	if last := len(b.blocks) - 1; last >= 0 {
		if int(b.blocks[last].Size)+n <= b.blockSize {
			return &b.blocks[last]
		}
		b.seal()
	}
	b.blocks = append(b.blocks, Block{At: uint32(len(b.buf))})
	return &b.blocks[len(b.blocks)-1]
}

// seal writes the CRC of the last block, if there is any.
func (b *Builder) seal() {
	if last := len(b.blocks) - 1; last >= 0 {
		b.blocks[last].CRC = crc.Sum(b.buf[b.blocks[last].At:])
	}
}

// End ends the piece at the offset next, which must lie behind the last batch and
// behind the base; there need not be a batch. Otherwise, or if no piece has begun,
// Finish returns an error.
func (b *Builder) End(next int64) Piece {
	switch {
	case b.invalid != nil:
		return Piece{}
	case !b.open:
		b.invalid = fmt.Errorf("%w: End outside a piece", ErrState)
		return Piece{}
	case next < b.next || next <= b.piece.Base:
		b.invalid = fmt.Errorf("%w: End at offset %d of a piece of offsets %d to %d", ErrState, next, b.piece.Base, b.next-1)
		return Piece{}
	}
	b.seal()
	b.open = false
	b.piece.Next = next
	b.piece.Size = uint32(len(b.buf)) - b.piece.At
	b.buf = b.piece.appendIndex(b.buf, b.blocks)
	b.pieces = append(b.pieces, b.piece)
	if size := b.Size(); size > b.maxSize {
		b.invalid = fmt.Errorf("%w: %d pieces, %d bytes", ErrTooLarge, len(b.pieces), size)
	}
	return b.piece
}

// Drop forgets the open piece, as if it had not begun: what was to go into it
// could not be read, or does not fit.
func (b *Builder) Drop() {
	if b.open {
		b.open, b.buf = false, b.buf[:b.piece.At]
	}
}

// Size is how many bytes the object would have if it were finished now: exact between
// pieces, else at most a few bytes per block too high.
func (b *Builder) Size() int {
	size := len(b.buf) + len(b.pieces)*pieceSize + trailerSize
	if b.open {
		size += indexHead + len(b.blocks)*maxEntry + pieceSize
	}
	return size
}

// Finish returns the object, which belongs to the caller, and its pieces as End
// returned them. The builder must not be used afterwards.
//
// Errors: ErrState when a piece is open or a call was out of order, ErrTooLarge
// when there are so many empty pieces that MaxSize does not hold them.
func (b *Builder) Finish() (object []byte, pieces []Piece, err error) {
	if b.invalid == nil && b.open {
		b.invalid = fmt.Errorf("%w: Finish in a piece", ErrState)
	}
	if b.invalid != nil {
		return nil, nil, b.invalid
	}
	object, pieces = appendDirectory(b.buf, b.pieces), b.pieces
	*b = Builder{invalid: fmt.Errorf("%w: it has finished", ErrState)}
	return object, pieces, nil
}
