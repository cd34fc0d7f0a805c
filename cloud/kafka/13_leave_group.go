package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
)

// LeaveGroup (key 13): removes members; the others rebalance at once.
//
// Behaviour:
//   - Of a group of the newer protocol (KIP-848) an administrator can remove static
//     members; its members leave by ConsumerGroupHeartbeat.
//
// Versions:
//   - v3: many members, also static ones by their instance id alone (KIP-345)
//   - v4: flexible; v5: a reason (not kept)
func (s *Server) leaveGroup(_ context.Context, r *request, q *kmsg.LeaveGroupRequest) (*kmsg.LeaveGroupResponse, error) {
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = q.Version
	if err := r.mayGroup(kmsg.ACLOperationRead, q.Group); err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	who := []group.Identity{{Member: q.MemberID}}
	if q.Version >= 3 {
		who = make([]group.Identity, len(q.Members))
		for i, m := range q.Members {
			who[i] = identity(m.MemberID, m.InstanceID)
		}
	}
	groups, err := s.broker.Groups(q.Group)
	var errs []error
	if err == nil {
		errs, err = groups.Leave(q.Group, who)
	}
	if resp.ErrorCode = code(err, coordinator); err != nil {
		return resp, nil
	}
	if q.Version < 3 {
		resp.ErrorCode = code(errs[0], coordinator)
		return resp, nil
	}
	for i, m := range q.Members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ErrorCode = m.MemberID, m.InstanceID, code(errs[i], coordinator)
		resp.Members = append(resp.Members, rm)
	}
	return resp, nil
}
