package segment

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// NoTime is the MaxTime of a piece or block without records.
const NoTime = math.MinInt64

// Piece is a range of offsets of one partition in a segment object: its blocks, then
// its index. A reference to the piece needs all of it. The index repeats it, so that an
// index read by a wrong reference is noticed.
type Piece struct {
	Topic     [16]byte
	Partition int32
	Base      int64  // the first offset
	Next      int64  // the first offset behind; not every one in between has a record
	MaxTime   int64  // highest timestamp of its records in ms; NoTime if it has none
	At        uint32 // where it begins in the object
	Size      uint32 // of blocks and index, in bytes
	Index     uint32 // of those at the end, the index
	Records   uint32
}

const (
	pieceSize = 60 // of an encoded Piece
	indexHead = 4 + 1 + pieceSize + 4
	indexFrom = 4 // where the bytes of an index begin that its CRC covers

	// minEntry and maxEntry are the bytes that a block takes in the index.
	minEntry = 1 + 1 + 1 + 1 + 4
	maxEntry = 10 + 10 + 5 + 10 + 4
)

// append encodes p.
func (p *Piece) append(dst []byte) []byte {
	be := binary.BigEndian
	dst = append(dst, p.Topic[:]...)
	dst = be.AppendUint32(dst, uint32(p.Partition))
	dst = be.AppendUint64(dst, uint64(p.Base))
	dst = be.AppendUint64(dst, uint64(p.Next))
	dst = be.AppendUint64(dst, uint64(p.MaxTime))
	dst = be.AppendUint32(dst, p.At)
	dst = be.AppendUint32(dst, p.Size)
	dst = be.AppendUint32(dst, p.Index)
	return be.AppendUint32(dst, p.Records)
}

// decodePiece decodes a Piece without checking it: see Check.
func decodePiece(d *coding.Decoder) Piece {
	p := Piece{Topic: d.ID(), Partition: int32(d.Uint32())}
	p.Base, p.Next, p.MaxTime = int64(d.Uint64()), int64(d.Uint64()), int64(d.Uint64())
	p.At, p.Size, p.Index, p.Records = d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
	return p
}

// Check returns an error if p cannot be a piece, for packages that keep references.
//
// Errors: ErrCorrupt.
func (p Piece) Check() error {
	switch {
	case p.Partition < 0 || p.Base < 0 || p.Next <= p.Base:
		return fmt.Errorf("%w: piece of partition %d with offsets %d to %d", ErrCorrupt, p.Partition, p.Base, p.Next)
	case p.Index < indexHead || p.Size < p.Index || p.At < headerSize || int64(p.At)+int64(p.Size) > MaxSize:
		return fmt.Errorf("%w: piece of %d bytes with an index of %d at %d", ErrCorrupt, p.Size, p.Index, p.At)
	}
	return nil
}

// appendIndex encodes the index of p. It sets p.Index, and adds it to p.Size, which was
// the size of the blocks.
func (p *Piece) appendIndex(dst []byte, blocks []Block) []byte {
	var entries []byte
	next, time := p.Base, p.MaxTime
	for i := range blocks {
		b := &blocks[i]
		entries = binary.AppendUvarint(entries, uint64(b.Base-next))
		entries = binary.AppendUvarint(entries, uint64(b.Next-b.Base))
		entries = binary.AppendUvarint(entries, uint64(b.Size))
		entries = binary.AppendVarint(entries, b.MaxTime-time)
		entries = binary.BigEndian.AppendUint32(entries, b.CRC)
		next, time = b.Next, b.MaxTime
	}
	p.Index = uint32(indexHead + len(entries))
	p.Size += p.Index

	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, version)
	dst = p.append(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(blocks)))
	dst = append(dst, entries...)
	binary.BigEndian.PutUint32(dst[at:], crc.Sum(dst[at+indexFrom:]))
	return dst
}

// Blocks decodes raw, the last p.Index bytes of the piece, and proves that it is the
// index of this piece. A piece without records has no blocks. There may be holes
// between blocks.
//
// Errors: ErrCorrupt, and ErrFormat for an index of a later version.
func (p Piece) Blocks(raw []byte) ([]Block, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if len(raw) != int(p.Index) {
		return nil, fmt.Errorf("%w: index of %d bytes instead of %d", ErrCorrupt, len(raw), p.Index)
	}
	d := coding.NewDecoder(raw)
	if d.Uint32() != crc.Sum(raw[indexFrom:]) {
		return nil, fmt.Errorf("%w: checksum of an index", ErrCorrupt)
	}
	if v := d.Byte(); v != version {
		return nil, fmt.Errorf("%w: index of version %d, this program knows %d", ErrFormat, v, version)
	}
	if is := decodePiece(&d); is != p {
		return nil, fmt.Errorf("%w: index of another piece, %v, instead of %v", ErrCorrupt, is, p)
	}
	blocks, err := p.decodeBlocks(&d)
	if err != nil {
		return nil, fmt.Errorf("index of %v: %w", p, err)
	}
	return blocks, nil
}

// decodeBlocks takes the entries of the index, which fill the rest of it.
func (p *Piece) decodeBlocks(d *coding.Decoder) ([]Block, error) {
	count := d.Uint32()
	if int64(count)*minEntry > int64(d.Len()) {
		return nil, fmt.Errorf("%w: %d blocks in %d bytes", ErrCorrupt, count, d.Len())
	}
	blocks := make([]Block, count)
	next, time, maxTime, end := p.Base, p.MaxTime, int64(NoTime), p.At+p.Size-p.Index
	at := p.At
	for i := range blocks {
		b := &blocks[i]
		b.Base = next + int64(d.UpTo(uint64(p.Next-next)))
		b.Next = b.Base + int64(d.UpTo(uint64(p.Next-b.Base)))
		b.At, b.Size = at, uint32(d.UpTo(uint64(end-at)))
		b.MaxTime = time + d.Varint()
		b.CRC = d.Uint32()
		if d.Bad() || b.Next == b.Base || b.Size < record.HeaderSize {
			return nil, fmt.Errorf("%w: block %d is cut off, or its numbers are out of range", ErrCorrupt, i)
		}
		next, time, maxTime, at = b.Next, b.MaxTime, max(maxTime, b.MaxTime), at+b.Size
	}
	switch {
	case d.Len() > 0:
		return nil, fmt.Errorf("%w: %d bytes after the last block", ErrCorrupt, d.Len())
	case at != end:
		return nil, fmt.Errorf("%w: blocks of %d bytes instead of %d", ErrCorrupt, at-p.At, end-p.At)
	case maxTime != p.MaxTime:
		return nil, fmt.Errorf("%w: highest timestamp is %d instead of %d", ErrCorrupt, maxTime, p.MaxTime)
	}
	return blocks, nil
}

// String names the piece for errors.
func (p Piece) String() string {
	return fmt.Sprintf("offsets %d to %d of partition %d of topic %x at %d+%d", p.Base, p.Next-1, p.Partition, p.Topic, p.At, p.Size)
}
