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
	// ErrCorrupt: a batch that is not what it says it is, or bytes at rest
	// that break a rule of the log; the error names the rule.
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

	// ErrUnknownProducer: the producer has no history in this partition, its batch
	// does not begin with sequence 0, and it cannot be ruled out that the partition
	// holds the batch already, or will get the one before it.
	ErrUnknownProducer = errors.New("unknown producer")
)

// Translate gives a segment's errors this package's names too.
func Translate(err error) error {
	switch {
	case errors.Is(err, segment.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, segment.ErrFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// Permanent reports whether an error tells of the bytes at rest, and will be the same
// next time.
func Permanent(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrDamaged)
}
