package wal

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Errors of this package, to be tested with errors.Is. Any other error of Append means
// that the write or its sync failed.
var (
	// ErrFull: the quota or the free-space reserve leaves no room. Nothing was
	// stored and the log is healthy.
	ErrFull = errors.New("buffer full")

	// ErrTooLarge: the batch, or one record in it, does not fit into a frame.
	// Nothing was stored and the log is healthy.
	ErrTooLarge = errors.New("batch too large")

	// ErrMoved: the next record does not go to the position given to AppendAt. Nothing
	// was stored.
	ErrMoved = errors.New("position has moved")

	// ErrUnknown: no buffer with this id is on the disk.
	ErrUnknown = errors.New("unknown buffer")

	// ErrUnacked: a buffer cannot be retired while it is current or not trimmed to its
	// end.
	ErrUnacked = errors.New("buffer not fully acknowledged")

	// ErrLane: there is no such lane.
	ErrLane = errors.New("unknown lane")

	// ErrClosed: the log has been closed.
	ErrClosed = errors.New("log closed")

	// ErrLocked: another process has this directory open.
	ErrLocked = errors.New("in use by another process")

	// ErrCorrupt: the bytes were not written by an encoder of this package.
	ErrCorrupt = errors.New("corrupt")
)

// Record is one message and its Kafka topic. The Offset of the embedded record is not
// stored.
type Record struct {
	Topic string
	record.Record
}

// Item is what Read finds at a sequence: a record or a gap. The Seq of a gap is its Last.
type Item struct {
	Seq    uint64
	Record Record
	Gap    *weir.Gap
}

// checkLane returns ErrLane unless the lane is one of the three.
func checkLane(ln weir.Lane) error {
	if !ln.Valid() {
		return fmt.Errorf("%w %d", ErrLane, ln)
	}
	return nil
}
