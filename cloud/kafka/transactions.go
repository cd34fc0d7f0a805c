package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mayTransaction returns nil if the client may do op to the transactional id, else an
// error.
func (r *request) mayTransaction(op kmsg.ACLOperation, id string) error {
	if !r.may(op, kmsg.ACLResourceTypeTransactionalId, id) {
		return errTransactionDenied
	}
	return nil
}

// olderCode maps codes of transactions to ones that older clients understand, if the
// client does not know PRODUCER_FENCED (KIP-588) or TRANSACTION_ABORTABLE (KIP-890).
func olderCode(c int16, knowsFenced, knowsAbortable bool) int16 {
	switch {
	case c == kerr.ProducerFenced.Code && !knowsFenced:
		return kerr.InvalidProducerEpoch.Code
	case c == kerr.TransactionAbortable.Code && !knowsAbortable:
		return kerr.InvalidTxnState.Code
	}
	return c
}
