package kafka

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/txn"
)

// ListTransactions (key 66): all transactional ids with their state (KIP-664).
//
// Behaviour:
//   - Empty filters match everything; unknown states are listed in the answer.
//   - Transactional ids that the client may not see are left out.
//
// Versions:
//   - v0: flexible; v1: filter by duration (KIP-994)
func (s *Server) listTransactions(_ context.Context, r *request, q *kmsg.ListTransactionsRequest) (*kmsg.ListTransactionsResponse, error) {
	resp := kmsg.NewPtrListTransactionsResponse()
	resp.Version = q.Version
	coordinators, err := s.broker.AllTransactions()
	var all []txn.Listing
	for _, txns := range coordinators {
		some, failed := txns.List()
		all, err = append(all, some...), errors.Join(err, failed)
	}
	if resp.ErrorCode = code(err, coordinator); err != nil {
		return resp, nil
	}
	states := []txn.State{txn.Empty, txn.Ongoing, txn.CompleteCommit, txn.CompleteAbort, txn.PrepareCommit, txn.PrepareAbort, txn.PrepareEpochFence, txn.Dead}
	for _, state := range q.StateFilters {
		if !slices.Contains(states, txn.State(state)) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, state)
		}
	}
	now := time.Now()
	for _, x := range all {
		switch {
		case len(q.StateFilters) > 0 && !slices.Contains(q.StateFilters, string(x.State)):
		case len(q.ProducerIDFilters) > 0 && !slices.Contains(q.ProducerIDFilters, x.Producer.ID):
		case q.DurationFilterMillis >= 0 && (x.Started.IsZero() || now.Sub(x.Started).Milliseconds() <= q.DurationFilterMillis):
		case r.mayTransaction(kmsg.ACLOperationDescribe, x.ID) != nil:
		default:
			rx := kmsg.NewListTransactionsResponseTransactionState()
			rx.TransactionalID, rx.ProducerID, rx.TransactionState = x.ID, x.Producer.ID, string(x.State)
			resp.TransactionStates = append(resp.TransactionStates, rx)
		}
	}
	return resp, nil
}
