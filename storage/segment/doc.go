// Package segment encodes and decodes segments: the objects that keep records at rest
// for good. A segment holds pieces of partitions, which can be read in ranges. The
// package does no I/O.
//
// A Builder takes the record batches of one partition after the other and makes an
// object. The Piece that it returns for each goes into the log's state, and is all that
// is needed to read the records: the index lies in the last bytes of the piece
// (Piece.Blocks) and says where the blocks are (Block.Batches). Every byte is covered
// by a checksum that is verified on the way. Open verifies a whole object. A piece that
// lies in a slot of the journal has no index: Piece.Run makes its blocks.
//
// FORMAT.md beside this file has the byte tables.
package segment

import (
	"errors"
	"fmt"
)

// BlockSize is the size of a block in bytes: whole batches up to it, or one
// batch that is larger.
const BlockSize = 256 << 10

// MaxSize is the largest object in bytes.
const MaxSize = 1 << 30

// Errors of this package, to be tested with errors.Is.
var (
	// ErrCorrupt: bytes that are not what was written, or not what the
	// reference to them says; or a batch that is damaged or not in its place.
	ErrCorrupt = errors.New("corrupt segment")

	// ErrFormat: intact bytes of a later version.
	ErrFormat = errors.New("segment has a newer format")

	// ErrTooLarge: the object or one of its pieces would get larger than the
	// format can express. What is there already can be finished.
	ErrTooLarge = errors.New("segment is full")

	// ErrState: a call out of order.
	ErrState = errors.New("segment builder called out of order")
)

// Key returns the key of the segment with that number among those that the owner of an
// epoch made.
func Key(shard uint32, epoch, number uint64) string {
	return fmt.Sprintf("%s%020d", Prefix(shard, epoch), number)
}

// Prefix is what the keys of all segments of an epoch begin with.
func Prefix(shard uint32, epoch uint64) string {
	return fmt.Sprintf("%04d/segment/%020d/", shard, epoch)
}
