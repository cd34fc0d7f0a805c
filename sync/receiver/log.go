package receiver

import (
	"context"
	"errors"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// Append is a batch of a stream for a partition.
type Append struct {
	Stream            weir.Stream
	Topic             weir.TopicID
	Partition         int32
	Row               weir.Row // the row that mapped the records
	Prev, First, Last uint64
	Batch             record.Batch // not verified; belongs to the log until done is called
	Gap               bool         // made by the receiver, for topic weir.gaps
	Missing           uint64       // records that the gap reports
}

// Offered is what the log knows of buffers.
type Offered struct {
	Buffers []wire.OfferedBuffer
	Marks   []weir.Mark
	Rows    []weir.MapRow
}

// Log is what the receiver needs of the cloud. Its errors are those below; any other
// counts as ErrBusy. Each method may return a *NotOwnerError, which ends all sessions.
type Log interface {
	// Offer returns what is known of a gateway's buffers: the marks of the known ones,
	// and for each lane and topic the newest row by which something was appended. Only
	// durable state counts.
	Offer(ctx context.Context, gateway string, buffers []weir.Buffer) (Offered, error)
	// Resolve finds a topic, and creates it if there is none and this gateway
	// may have it: durable on return. ErrNotAllowed, ErrBusy.
	Resolve(ctx context.Context, gateway, topic string) (id weir.TopicID, partitions int32, err error)
	// Append takes a batch. Calls from one goroutine keep their order. done is called
	// exactly once and must not block. Its error is nil only if the batch is durable,
	// or is a duplicate of a durable one. A batch without Gap for a topic of the cloud
	// itself (weir.*, __*), or for one that the gateway has no grant for, is
	// ErrNotAllowed.
	Append(a Append, done func(error))
	// Mark waits until everything in flight in the partition is durable or has failed.
	// It returns the durable mark of the stream, 0 if there is none or the topic is
	// gone.
	Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error)
	// Retire replaces the marks of a buffer by a tombstone: durable on return.
	Retire(ctx context.Context, gateway string, buffer weir.BufferID) error
}

// Errors of a Log.
var (
	ErrHole       = errors.New("sequence does not follow the mark")
	ErrMoved      = errors.New("partition is moving")
	ErrBusy       = errors.New("log is busy")
	ErrGone       = errors.New("topic is gone")
	ErrTooLarge   = errors.New("batch is too large")
	ErrNotAllowed = errors.New("gateway may not write there")
	ErrCorrupt    = errors.New("batch is corrupt")
	// ErrRetired: the buffer is retired, or older than what is remembered. The session
	// ends; when the gateway offers the buffer again, the Marks tell it so.
	ErrRetired = errors.New("buffer is retired")
)

// NotOwnerError says that this node does not own the log, and which node does.
type NotOwnerError struct{ Addr string } // host:port; empty if no owner is known

func (e *NotOwnerError) Error() string {
	if e.Addr == "" {
		return "node is not the owner, and knows of none"
	}
	return "node is not the owner, " + e.Addr + " is"
}

// reasonOf maps a log's error to the reason on the wire. There is no other such table.
func reasonOf(err error) wire.Reason {
	for _, row := range []struct {
		err    error
		reason wire.Reason
	}{
		{ErrHole, wire.ReasonHole},
		{ErrMoved, wire.ReasonMoved},
		{ErrGone, wire.ReasonGone},
		{ErrTooLarge, wire.ReasonTooLarge},
		{ErrNotAllowed, wire.ReasonNotAllowed},
		{ErrCorrupt, wire.ReasonCorrupt},
	} {
		if errors.Is(err, row.err) {
			return row.reason
		}
	}
	return wire.ReasonBusy
}
