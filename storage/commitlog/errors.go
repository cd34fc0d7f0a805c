package commitlog

import (
	"errors"
	"fmt"
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrFenced: another node owns the shard, or this one could not go on. An append
	// that returns it may still become durable: that is decided when the new owner reads
	// the last slots.
	ErrFenced = errors.New("shard is not owned any more")

	// ErrClosed: the log was closed. Requests that were not yet written never will be.
	ErrClosed = errors.New("commit log is closed")

	// ErrUnknownTopic: no topic has that id, or it has fewer partitions.
	ErrUnknownTopic = errors.New("unknown topic or partition")

	// ErrTopicExists: the name is taken.
	ErrTopicExists = errors.New("topic exists")

	// ErrTopicDeleting: the name is taken by a topic that is being deleted.
	ErrTopicDeleting = errors.New("topic of that name is being deleted")

	// ErrInvalidPartitions: not a number of partitions that a topic can have
	// or grow to.
	ErrInvalidPartitions = errors.New("invalid number of partitions")

	// ErrOffsetOutOfRange: below the start or beyond the end of a partition.
	ErrOffsetOutOfRange = errors.New("offset out of range")

	// ErrTooLarge: more bytes than fit in a slot, or records that inflate
	// beyond reason.
	ErrTooLarge = errors.New("too large for the log")

	// ErrUnsupported: a control batch, which only the log writes, or a gateway's
	// batch that bears a producer id.
	ErrUnsupported = errors.New("kind of batch not supported")
)

// Reason says why a gateway's batch was refused.
type Reason uint8

// The reasons. All but the first mean that the sender must not simply rewind.
const (
	ReasonSequence Reason = iota // a gap before the batch, or only a part of it is new: go on behind Mark
	ReasonTopic                  // topic or partition does not exist (any more)
	ReasonRetired                // the buffer was fully delivered and retired
	ReasonAside                  // the buffer may be one that was retired long ago
)

func (r Reason) String() string {
	return [...]string{"sequence does not follow", "no such topic or partition", "buffer is retired", "buffer is older than what is remembered"}[r]
}

// RefusedError answers a gateway's batch that does not continue its stream.
// It is delivered when all that was in flight before it has landed.
type RefusedError struct {
	Mark   uint64 // durable mark of the stream in the partition, 0 for none
	Reason Reason
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("batch refused: %s (mark %d)", e.Reason, e.Mark)
}

// Unwrap makes a refusal for want of a topic an ErrUnknownTopic.
func (e *RefusedError) Unwrap() error {
	if e.Reason == ReasonTopic {
		return ErrUnknownTopic
	}
	return nil
}
