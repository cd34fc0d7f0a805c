package receiver

import (
	"context"
	"errors"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// Append is a batch of a stream on its way into a partition.
type Append struct {
	Stream            weir.Stream
	Topic             weir.TopicID
	Partition         int32
	Row               weir.Row // by which the records were mapped
	Prev, First, Last uint64
	Batch             record.Batch // not verified; belongs to the log until done is called
	Gap               bool         // made here, for topic weir.gaps
	Missing           uint64       // records that a gap reports
}

// Offered is what the log knows of buffers.
type Offered struct {
	Buffers []wire.OfferedBuffer
	Marks   []weir.Mark
	Rows    []weir.MapRow
}

// Log is what the receiver needs of the cloud. Its errors are those below;
// another one counts as ErrBusy. Each method may answer with a *NotOwnerError,
// which ends all sessions.
type Log interface {
	// Offer says what is known of a gateway's buffers, with the marks of those
	// that are known, and the newest row of each lane and topic by which
	// something was appended. Durable ones only.
	Offer(ctx context.Context, gateway string, buffers []weir.Buffer) (Offered, error)
	// Resolve finds a topic, and creates it if there is none and this gateway
	// may have it: durable on return. ErrNotAllowed, ErrBusy.
	Resolve(ctx context.Context, gateway, topic string) (id weir.TopicID, partitions int32, err error)
	// Append takes a batch. Calls from one goroutine keep their order. done is
	// called exactly once, must not block, and says nil only when the batch is
	// durable, or is a duplicate of what is durable. A batch without Gap for
	// a topic of the cloud itself (weir.*, __*), or one that the gateway has
	// no grant for, is ErrNotAllowed.
	Append(a Append, done func(error))
	// Mark waits until what is in flight in the partition is durable or has failed, and returns
	// the durable mark of the stream, 0 for none (also for a topic that is
	// gone).
	Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error)
	// Retire swaps the marks of a buffer for a tombstone: durable on return.
	Retire(ctx context.Context, gateway string, buffer weir.BufferID) error
}

// What a Log answers.
var (
	ErrHole       = errors.New("sequence does not follow the mark")
	ErrMoved      = errors.New("partition is moving")
	ErrBusy       = errors.New("log is busy")
	ErrGone       = errors.New("topic is gone")
	ErrTooLarge   = errors.New("batch is too large")
	ErrNotAllowed = errors.New("gateway may not write there")
	ErrCorrupt    = errors.New("batch is corrupt")
	// ErrRetired: the buffer is retired, or older than what is remembered. The
	// session ends; when the gateway offers the buffer again it learns more.
	ErrRetired = errors.New("buffer is retired")
)

// NotOwnerError says that this node does not own the log, and who does.
type NotOwnerError struct{ Addr string } // host:port; empty: nobody is known

func (e *NotOwnerError) Error() string {
	if e.Addr == "" {
		return "node is not the owner, and knows of none"
	}
	return "node is not the owner, " + e.Addr + " is"
}

// reasonOf is the one table from a log's error to the reason on the wire.
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
