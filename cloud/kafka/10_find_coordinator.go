package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator (key 10): which node keeps a group.
//
// Behaviour:
//   - It is the owner of the shard, and a standby says so too.
//   - Transactions and share groups have no coordinator yet. The code for the
//     former is one that clients take as final, with a text that says why.
//
// Versions:
//   - v1: coordinator types, error messages; v3: flexible
//   - v4: many keys in one request; v6: share groups

const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

// noTransactions is what clients show to whoever configured a transactional id.
const noTransactions = "transactions are not served here: leave transactional.id empty (idempotent producers work)"

func (s *Server) findCoordinator(_ context.Context, _ *request, q *kmsg.FindCoordinatorRequest) (*kmsg.FindCoordinatorResponse, error) {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.Version = q.Version
	if q.Version < 4 {
		c := s.coordinatorOf(q.CoordinatorKey, q.CoordinatorType)
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		return resp, nil
	}
	for _, key := range q.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.coordinatorOf(key, q.CoordinatorType))
	}
	return resp, nil
}

func (s *Server) coordinatorOf(key string, kind int8) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, none, none
	id, host, port, ok := s.ownerNode()
	switch {
	case kind == transactionCoordinator:
		c.ErrorCode, c.ErrorMessage = kerr.TransactionalIDAuthorizationFailed.Code, kmsg.StringPtr(noTransactions)
	case kind != groupCoordinator:
		c.ErrorCode, c.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("only consumer groups have a coordinator here")
	case key == "":
		c.ErrorCode = kerr.InvalidGroupID.Code
	case !ok:
		c.ErrorCode = kerr.CoordinatorNotAvailable.Code
	default:
		c.NodeID, c.Host, c.Port = id, host, port
	}
	return c
}
