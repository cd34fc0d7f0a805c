package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat (key 12): a member's sign of life.
//
// Behaviour:
//   - REBALANCE_IN_PROGRESS tells a member to join again.
//   - After a takeover no member is known: UNKNOWN_MEMBER_ID, and all join again.
//
// Versions:
//   - v3: static members; v4: flexible
func (s *Server) heartbeat(_ context.Context, r *request, q *kmsg.HeartbeatRequest) (*kmsg.HeartbeatResponse, error) {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = q.Version
	if err := r.mayGroup(kmsg.ACLOperationRead, q.Group); err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	groups, err := s.broker.Groups(q.Group)
	if err == nil {
		err = groups.Heartbeat(q.Group, q.Generation, identity(q.MemberID, q.InstanceID))
	}
	resp.ErrorCode = code(err, coordinator)
	return resp, nil
}
