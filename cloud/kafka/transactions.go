package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mayTransaction returns nil, or the error for who may not do op to the
// transactional id.
func (r *request) mayTransaction(op kmsg.ACLOperation, id string) error {
	if !r.may(op, kmsg.ACLResourceTypeTransactionalId, id) {
		return errTransactionDenied
	}
	return nil
}

// olderCode turns codes of transactions that came later into those that a client
// understands which does not know them: PRODUCER_FENCED (KIP-588) and
// TRANSACTION_ABORTABLE (KIP-890).
func olderCode(c int16, knowsFenced, knowsAbortable bool) int16 {
	switch {
	case c == kerr.ProducerFenced.Code && !knowsFenced:
		return kerr.InvalidProducerEpoch.Code
	case c == kerr.TransactionAbortable.Code && !knowsAbortable:
		return kerr.InvalidTxnState.Code
	}
	return c
}
