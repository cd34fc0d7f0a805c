package txn

import "errors"

// The coordinator's errors. Each has its Kafka error code; the door knows where that
// depends on the version of the request.
var (
	ErrClosed           = errors.New("transaction coordinator is closed")                   // not, or no longer, the owner
	ErrUnavailable      = errors.New("log does not take entries of transactions")           // wraps the log's reason; whether the entry will be seen is unknown
	ErrInvalidID        = errors.New("transactional id is empty or too long")               // INVALID_REQUEST
	ErrInvalidTimeout   = errors.New("transaction timeout is not within the allowed range") // INVALID_TRANSACTION_TIMEOUT
	ErrUnknownID        = errors.New("producer id does not belong to the transactional id") // INVALID_PRODUCER_ID_MAPPING
	ErrNotFound         = errors.New("transactional id does not exist")                     // TRANSACTIONAL_ID_NOT_FOUND
	ErrFenced           = errors.New("a newer epoch of the producer has taken over")        // PRODUCER_FENCED, INVALID_PRODUCER_EPOCH
	ErrConcurrent       = errors.New("another change of the transaction is under way")      // CONCURRENT_TRANSACTIONS
	ErrInvalidState     = errors.New("the state of the transaction does not allow this")    // INVALID_TXN_STATE
	ErrNotInTransaction = errors.New("partition or group was not added to the transaction") // INVALID_TXN_STATE, TRANSACTION_ABORTABLE
	ErrTooLarge         = errors.New("transaction has too many partitions or offsets")      // POLICY_VIOLATION
	ErrTooManyIDs       = errors.New("too many transactional ids")                          // POLICY_VIOLATION
	ErrCorrupt          = errors.New("transaction entry is corrupt")                        // an entry of the log that cannot be decoded, or cannot stand where it does
)
