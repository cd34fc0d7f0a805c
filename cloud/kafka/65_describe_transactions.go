package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/txn"
)

// DescribeTransactions (key 65): producer, state and partitions of transactional
// ids (KIP-664).
//
// Behaviour:
//   - The states PrepareCommit and PrepareAbort occur only if a transaction spans
//     shards; the partitions are then those in other shards than the coordinator's. Any
//     other transaction ends all at once.
//   - Partitions of deleted topics, and of topics that the client may not see, are
//     left out.
//
// Versions:
//   - v0: flexible
func (s *Server) describeTransactions(_ context.Context, r *request, q *kmsg.DescribeTransactionsRequest) (*kmsg.DescribeTransactionsResponse, error) {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	resp.Version = q.Version
	for _, id := range q.TransactionalIDs {
		x := kmsg.NewDescribeTransactionsResponseTransactionState()
		x.TransactionalID, x.StartTimestamp, x.ProducerID, x.ProducerEpoch = id, none, none, none
		err := r.mayTransaction(kmsg.ACLOperationDescribe, id)
		var txns *txn.Coordinator
		if err == nil {
			txns, err = s.broker.Transactions(id)
		}
		if err == nil {
			err = describeTransaction(r, txns, &x)
		}
		x.ErrorCode = code(err, coordinator)
		resp.TransactionStates = append(resp.TransactionStates, x)
	}
	return resp, nil
}

func describeTransaction(r *request, txns *txn.Coordinator, x *kmsg.DescribeTransactionsResponseTransactionState) error {
	d, err := txns.Describe(x.TransactionalID)
	if err != nil {
		return err
	}
	x.State, x.TimeoutMillis = string(d.State), int32(d.Timeout.Milliseconds())
	x.ProducerID, x.ProducerEpoch = d.Producer.ID, d.Producer.Epoch
	if !d.Started.IsZero() {
		x.StartTimestamp = d.Started.UnixMilli()
	}
	for places := d.Places; len(places) > 0; {
		id := places[0].Topic
		xt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
		for len(places) > 0 && places[0].Topic == id {
			xt.Partitions = append(xt.Partitions, places[0].Partition)
			places = places[1:]
		}
		if topic, err := r.topic(kmsg.ACLOperationDescribe, "", id, true); err == nil {
			xt.Topic = topic.Name
			x.Topics = append(x.Topics, xt)
		}
	}
	return nil
}
