package state

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/segment"
)

// Errors of what the log says, to be tested with errors.Is.
var (
	// ErrCorrupt: a batch is damaged or invalid, or bytes at rest break a rule of the
	// log; the error names the rule.
	ErrCorrupt = errors.New("corrupt")

	// ErrFormat: the bucket was written by a later version of Weir.
	ErrFormat = errors.New("bucket has a newer format")

	// ErrInvalidTopic: the name is not one that Kafka clients accept, or the
	// topic's configuration is too large.
	ErrInvalidTopic = errors.New("invalid topic")

	// ErrOutOfOrderSequence: a producer's batch leaves a gap (KIP-98).
	ErrOutOfOrderSequence = errors.New("producer sequence out of order")

	// ErrProducerFenced: a newer epoch of the producer has written.
	ErrProducerFenced = errors.New("producer epoch is fenced")

	// ErrTransactionOpen: a producer that has a transaction open in the partition
	// writes outside of it, or with a higher epoch before that has ended.
	ErrTransactionOpen = errors.New("producer has an open transaction")

	// ErrUnknownProducer: the producer has no history in this partition, and its batch
	// does not begin with sequence 0. The partition may hold the batch already, or may
	// still get the one before it.
	ErrUnknownProducer = errors.New("unknown producer")
)

// Translate makes a segment's errors match this package's, too.
func Translate(err error) error {
	switch {
	case errors.Is(err, segment.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, segment.ErrFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// Permanent reports whether an error is about the bytes at rest, so that a retry will
// fail the same way.
func Permanent(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrDamaged)
}
