package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/txn"
)

// AddPartitionsToTxn (key 24): adds partitions to a transaction before records are
// produced to them (transactions v1).
//
// Behaviour:
//   - All partitions or none: if one is unknown, or the client may not write to it,
//     the others get OPERATION_NOT_ATTEMPTED.
//   - The answer follows when the partitions are durably part of the transaction.
//
// Versions:
//   - v2: PRODUCER_FENCED; v3: flexible
//   - v4, v5: between brokers, and not served

const fencedAddPartitions = 2

func (s *Server) addPartitionsToTxn(ctx context.Context, r *request, q *kmsg.AddPartitionsToTxnRequest) (*kmsg.AddPartitionsToTxnResponse, error) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Version = q.Version
	denied := r.mayTransaction(kmsg.ACLOperationWrite, q.TransactionalID)
	var places []broker.Place
	wrong := false
	for _, t := range q.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		topic, unknown := r.topic(kmsg.ACLOperationWrite, t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = p
			err := unknown
			if err == nil && (p < 0 || p >= topic.Partitions) {
				err = broker.ErrUnknownTopic
			}
			rp.ErrorCode = code(err, coordinator)
			wrong = wrong || err != nil
			places = append(places, broker.Place{Topic: topic.ID, Partition: p})
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	verdict := kerr.OperationNotAttempted.Code
	switch {
	case denied != nil:
		verdict = code(denied, coordinator)
	case !wrong:
		err := s.addPartitions(ctx, q.TransactionalID, txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}, places)
		verdict = olderCode(code(err, coordinator), q.Version >= fencedAddPartitions, false)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if rp := &resp.Topics[i].Partitions[j]; rp.ErrorCode == 0 || denied != nil {
				rp.ErrorCode = verdict
			}
		}
	}
	return resp, nil
}

func (s *Server) addPartitions(ctx context.Context, id string, p txn.Producer, places []broker.Place) error {
	txns, err := s.broker.Transactions(id)
	if err != nil {
		return err
	}
	return txns.AddPartitions(ctx, id, p, places)
}
