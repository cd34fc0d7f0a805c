package uplink

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
	Round             uint32   // of the partition in this session: it grows with each refusal that the gateway hears
	Row               weir.Row // the row that mapped the records
	Prev, First, Last uint64
	Batch             record.Batch // not verified; belongs to the log until done is called
	Gap               bool         // made by the receiver, for topic weir.gaps
	Missing           uint64       // records that the gap reports
}

// Offered is what is known of the buffers of a gateway.
type Offered struct {
	Buffers []wire.OfferedBuffer
	Marks   []weir.Mark
	Rows    []weir.MapRow
}

// Attachment is a session of a gateway at a shard, or, from Door.Attach, at all shards.
// Errors of its methods are those below; any other counts as ErrBusy. Each may return a
// *NotOwnerError.
type Attachment interface {
	// Offer returns what is known of buffers: the marks of the known ones, and for each
	// lane and topic the newest row by which something was appended. Only durable state
	// counts.
	Offer(ctx context.Context, buffers []weir.Buffer) (Offered, error)
	// Append takes a batch. Calls from one goroutine keep their order. done is called
	// exactly once and must not block. Its error is nil only if the batch is durable,
	// or is a duplicate of a durable one. A batch without Gap for a topic of the cloud
	// itself (weir.*, __*), or for one that the gateway has no grant for, is
	// ErrNotAllowed.
	Append(a Append, done func(error))
	// Mark waits until everything in flight in the partition is durable or has failed,
	// earlier Appends included. It returns the durable mark of the stream, 0 if there is
	// none or the topic is gone.
	Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error)
	// Retire replaces the marks of a buffer by a tombstone: durable on return.
	Retire(ctx context.Context, buffer weir.BufferID) error
	// Detach ends the session there. Batches that the log has may still become durable.
	// It may be called more than once.
	Detach()
}

// Errors of an Attachment.
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
	// ErrSuperseded: a newer session of the gateway has attached.
	ErrSuperseded = errors.New("gateway said Hello on a newer session")
	// ErrDetached: the attachment is over, but the session is not: the shard has moved,
	// or the connection to its owner broke.
	ErrDetached = errors.New("owner of the shard does not hear this attachment any more")
)

// NotOwnerError says that this node does not own the log, and which node does.
type NotOwnerError struct{ Addr string } // host:port; empty if no owner is known

func (e *NotOwnerError) Error() string {
	if e.Addr == "" {
		return "node is not the owner, and knows of none"
	}
	return "node is not the owner, " + e.Addr + " is"
}
