package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/txn"
)

// AddOffsetsToTxn (key 25): adds a group to a transaction before its offsets are
// committed with it (transactions v1).
//
// Behaviour:
//   - The answer follows when the group is durably part of the transaction. The group
//     need not exist.
//
// Versions:
//   - v2: PRODUCER_FENCED; v3: flexible; v4: TRANSACTION_ABORTABLE

const (
	fencedAddOffsets    = 2
	abortableAddOffsets = 4
)

func (s *Server) addOffsetsToTxn(ctx context.Context, r *request, q *kmsg.AddOffsetsToTxnRequest) (*kmsg.AddOffsetsToTxnResponse, error) {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.Version = q.Version
	err := r.mayTransaction(kmsg.ACLOperationWrite, q.TransactionalID)
	if err == nil {
		err = r.mayGroup(kmsg.ACLOperationRead, q.Group)
	}
	var txns *txn.Coordinator
	if err == nil {
		txns, err = s.broker.Transactions(q.TransactionalID)
	}
	if err == nil {
		err = txns.AddOffsets(ctx, q.TransactionalID, txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}, q.Group)
	}
	resp.ErrorCode = olderCode(code(err, coordinator), q.Version >= fencedAddOffsets, q.Version >= abortableAddOffsets)
	return resp, nil
}
