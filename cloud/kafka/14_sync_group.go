package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// SyncGroup (key 14): the leader brings the assignments, and each member gets its
// own.
//
// Behaviour:
//   - The answer waits for the leader's request. Assignments are opaque.
//
// Versions:
//   - v3: static members; v4: flexible
//   - v5: protocol type and name, which must be the group's
func (s *Server) syncGroup(ctx context.Context, r *request, q *kmsg.SyncGroupRequest) (*kmsg.SyncGroupResponse, error) {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = q.Version
	resp.MemberAssignment = []byte{}
	if err := r.mayGroup(kmsg.ACLOperationRead, q.Group); err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	groups, err := s.broker.Groups(q.Group)
	if err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	assignments := make(map[string][]byte, len(q.GroupAssignment))
	for _, a := range q.GroupAssignment {
		assignments[a.MemberID] = a.MemberAssignment
	}
	resume := stopwatch.Waiting(ctx)
	synced, err := groups.Sync(ctx, group.SyncRequest{
		Group:        q.Group,
		Generation:   q.Generation,
		Member:       q.MemberID,
		Instance:     text(q.InstanceID),
		ProtocolType: text(q.ProtocolType),
		Protocol:     text(q.Protocol),
		Assignments:  assignments,
	})
	resume()
	if resp.ErrorCode = code(err, coordinator); err != nil {
		return resp, nil
	}
	resp.ProtocolType, resp.Protocol = &synced.ProtocolType, &synced.Protocol
	resp.MemberAssignment = synced.Assignment
	return resp, nil
}
