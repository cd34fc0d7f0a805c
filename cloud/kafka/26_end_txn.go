package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/txn"
)

// EndTxn (key 26): commits or aborts a transaction.
//
// Behaviour:
//   - When the answer comes, the end is durable and can be read. If the transaction
//     lies in one shard, the markers in all partitions and the offsets of the groups are
//     one slot of the log.
//   - If it spans shards, one of which cannot be reached for a while, the answer is
//     CONCURRENT_TRANSACTIONS: it is decided, and the client repeats the request.
//   - A repeated request that had succeeded succeeds again.
//
// Versions:
//   - v2: PRODUCER_FENCED; v3: flexible; v4: TRANSACTION_ABORTABLE
//   - v5: each end gives the producer a new epoch or id, which is in the answer; the
//     producer may abort a transaction that has not begun (transactions v2, KIP-890)

const (
	fencedEnd    = 2
	abortableEnd = 4
	bumpEnd      = 5
)

func (s *Server) endTxn(ctx context.Context, r *request, q *kmsg.EndTxnRequest) (*kmsg.EndTxnResponse, error) {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.Version = q.Version
	resp.ProducerID, resp.ProducerEpoch = none, none
	err := r.mayTransaction(kmsg.ACLOperationWrite, q.TransactionalID)
	var txns *txn.Coordinator
	if err == nil {
		txns, err = s.broker.Transactions(q.TransactionalID)
	}
	if err == nil {
		var next txn.Producer
		next, err = txns.End(ctx, txn.EndRequest{
			ID:       q.TransactionalID,
			Producer: txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch},
			Commit:   q.Commit,
			Bump:     q.Version >= bumpEnd,
		})
		if err == nil {
			resp.ProducerID, resp.ProducerEpoch = next.ID, next.Epoch
		}
	}
	resp.ErrorCode = olderCode(code(err, coordinator), q.Version >= fencedEnd, q.Version >= abortableEnd)
	return resp, nil
}
