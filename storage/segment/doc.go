// Package segment is the form in which records lie at rest for good: objects
// that hold pieces of partitions, ready to be read in ranges. It is a codec and
// does no I/O.
//
// A Builder takes the record batches of one partition after the other and makes
// an object. What it tells of each Piece goes into the log's state, and is all
// that is needed to read it: the index lies in the last bytes of the piece
// (Piece.Blocks) and says where the blocks are (Block.Batches). Every byte is
// covered by a checksum that is verified on the way. Open proves a whole object.
//
// FORMAT.md beside this file has the byte tables.
package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
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

// castagnoli is a constant in all but syntax.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Key returns the key of a segment: the kth that the owner of an epoch made.
func Key(shard uint32, epoch, number uint64) string {
	return fmt.Sprintf("%s%020d", Prefix(shard, epoch), number)
}

// Prefix is what the keys of all segments of an epoch begin with.
func Prefix(shard uint32, epoch uint64) string {
	return fmt.Sprintf("%04d/segment/%020d/", shard, epoch)
}
