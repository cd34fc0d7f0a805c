package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/txn"
)

// InitProducerID (key 22): an id for an idempotent or transactional producer (KIP-98).
//
// Behaviour:
//   - Without a transactional id, each call returns an id that no other producer has
//     or will have, with epoch 0. That holds also for a producer that names the id it
//     had (KIP-360): it starts anew. A node that serves no shard asks the controller for
//     the id: clients send this request to any node.
//   - With a transactional id, the producer id stays and the epoch grows. When the
//     answer comes, the previous producer is fenced and its transaction is aborted:
//     there is no second round with CONCURRENT_TRANSACTIONS as in Kafka, unless the
//     transaction spans shards of which one cannot be reached for a while.
//
// Versions:
//   - v2: flexible; v3: the id that the producer had
//   - v4: PRODUCER_FENCED; v5: TRANSACTION_ABORTABLE

const fencedInit = 4

func (s *Server) initProducerID(ctx context.Context, r *request, q *kmsg.InitProducerIDRequest) (*kmsg.InitProducerIDResponse, error) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version = q.Version
	resp.ProducerID, resp.ProducerEpoch = none, none
	if (q.ProducerID == none) != (q.ProducerEpoch == none) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	}
	if q.TransactionalID != nil {
		p, err := s.initTransactional(ctx, r, q)
		resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
		resp.ErrorCode = olderCode(code(err, coordinator), q.Version >= fencedInit, true)
		return resp, nil
	}
	id, err := s.newProducerID(ctx, r)
	if resp.ErrorCode = code(err, allocator); err == nil {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	return resp, nil
}

// newProducerID returns an id for an idempotent producer. A node that serves no shard asks
// the controller for it.
func (s *Server) newProducerID(ctx context.Context, r *request) (int64, error) {
	if err := r.mayCluster(kmsg.ACLOperationIdempotentWrite); err != nil && !r.maySome(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic) {
		return none, err
	}
	id, err := s.broker.NewProducerID(ctx)
	if errors.Is(err, broker.ErrNotOwner) && r.standsBy() { // it serves no shard at all
		return r.producerThere(ctx)
	}
	return id, err
}

func (s *Server) initTransactional(ctx context.Context, r *request, q *kmsg.InitProducerIDRequest) (txn.Producer, error) {
	if err := r.mayTransaction(kmsg.ACLOperationWrite, *q.TransactionalID); err != nil {
		return txn.NoProducer, err
	}
	txns, err := s.broker.Transactions(*q.TransactionalID)
	if err != nil {
		return txn.NoProducer, err
	}
	init := txn.InitRequest{ID: *q.TransactionalID, Timeout: milliseconds(q.TransactionTimeoutMillis)}
	if q.ProducerID != none {
		init.Expected = &txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}
	}
	return txns.InitProducerID(ctx, init)
}
