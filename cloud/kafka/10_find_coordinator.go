package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/weirmq/weir/storage/weir"
)

// FindCoordinator (key 10): the coordinator of a group or a transactional id.
//
// Behaviour:
//   - It is the owner of the shard that has the key's slice. A standby answers the
//     same.
//   - A share group's is that of a group. Its partitions have none of their own (type 2):
//     what becomes of their records is the partition leader's to know.
//
// Versions:
//   - v1: coordinator types, error messages; v3: flexible
//   - v4: many keys in one request; v6: share groups

const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

func (s *Server) findCoordinator(_ context.Context, r *request, q *kmsg.FindCoordinatorRequest) (*kmsg.FindCoordinatorResponse, error) {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.Version = q.Version
	if q.Version < 4 {
		c := s.coordinatorOf(r, q.CoordinatorKey, q.CoordinatorType)
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		return resp, nil
	}
	for _, key := range q.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.coordinatorOf(r, key, q.CoordinatorType))
	}
	return resp, nil
}

func (s *Server) coordinatorOf(r *request, key string, kind int8) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, none, none
	slice := weir.SliceOfGroup(key)
	if kind == transactionCoordinator {
		slice = weir.SliceOfTransaction(key)
	}
	n, ok := r.node(s.broker.Coordinator(slice))
	switch {
	case kind != groupCoordinator && kind != transactionCoordinator:
		c.ErrorCode, c.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("only consumer groups and transactions have a coordinator here")
	case kind == transactionCoordinator && !r.rights.Unknown() && !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTransactionalId, key):
		c.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
	case kind == groupCoordinator && key == "":
		c.ErrorCode = kerr.InvalidGroupID.Code
	case kind == groupCoordinator && !r.rights.Unknown() && !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, key):
		c.ErrorCode = kerr.GroupAuthorizationFailed.Code
	case !ok:
		c.ErrorCode = kerr.CoordinatorNotAvailable.Code
	default:
		c.NodeID, c.Host, c.Port = n.id, n.host, n.port
	}
	return c
}
