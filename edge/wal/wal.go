package wal

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Errors of this package, to be tested with errors.Is. Everything else that
// Append returns means that the write or its sync failed.
var (
	// ErrFull: the quota or the free-space reserve leaves no room. Nothing was
	// stored and the log is healthy.
	ErrFull = errors.New("buffer full")

	// ErrTooLarge: the batch, or one record in it, does not fit into a frame.
	// Nothing was stored and the log is healthy.
	ErrTooLarge = errors.New("batch too large")

	// ErrMoved: the position that AppendAt was told is not where the next record
	// goes. Nothing was stored.
	ErrMoved = errors.New("position has moved")

	// ErrUnknown: no buffer with this id is on the disk.
	ErrUnknown = errors.New("unknown buffer")

	// ErrUnacked: a buffer that is current, or not yet trimmed to its end,
	// cannot be retired.
	ErrUnacked = errors.New("buffer not fully acknowledged")

	// ErrLane: there is no such lane.
	ErrLane = errors.New("unknown lane")

	// ErrClosed: the log has been closed.
	ErrClosed = errors.New("log closed")

	// ErrLocked: another process has this directory open.
	ErrLocked = errors.New("in use by another process")

	// ErrCorrupt: bytes that no encoder of this package wrote.
	ErrCorrupt = errors.New("corrupt")
)

// Record is one message and the Kafka topic that it goes to. The Offset of the
// embedded record is not stored.
type Record struct {
	Topic string
	record.Record
}

// Item is what Read finds at a sequence: a record, or a gap. A gap's Seq is
// its Last.
type Item struct {
	Seq    uint64
	Record Record
	Gap    *weir.Gap
}

// checkLane refuses a lane that is not one of the three.
func checkLane(ln weir.Lane) error {
	if !ln.Valid() {
		return fmt.Errorf("%w %d", ErrLane, ln)
	}
	return nil
}
