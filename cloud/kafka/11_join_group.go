package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// JoinGroup (key 11): become a member of a group's next generation.
//
// Behaviour:
//   - The answer waits until the generation is complete.
//   - The protocol type is opaque: "consumer", "connect", "sr", anything.
//   - A group with members of the newer protocol (KIP-848) is not joined:
//     INCONSISTENT_GROUP_PROTOCOL. One without members becomes a classic one.
//
// Versions:
//   - v0: no rebalance time-out; the session time-out is used
//   - v4: a new member is told its id first, and joins again (KIP-394)
//   - v5: static members (KIP-345); v6: flexible; v7: protocol type in the answer
//   - v8: a reason, for the log of the broker (not kept)
//   - v9: a static leader that came back is told not to assign anew (KIP-814)
func (s *Server) joinGroup(ctx context.Context, r *request, q *kmsg.JoinGroupRequest) (*kmsg.JoinGroupResponse, error) {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = q.Version
	resp.Generation, resp.MemberID = none, q.MemberID
	if err := r.mayGroup(kmsg.ACLOperationRead, q.Group); err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	groups, err := s.broker.Groups(q.Group)
	if err != nil {
		resp.ErrorCode = code(err, coordinator)
		return resp, nil
	}
	join := group.JoinRequest{
		Group:        q.Group,
		Member:       q.MemberID,
		Instance:     text(q.InstanceID),
		ClientID:     r.clientID,
		ClientHost:   r.conn.host(),
		Session:      milliseconds(q.SessionTimeoutMillis),
		Rebalance:    milliseconds(q.RebalanceTimeoutMillis),
		ProtocolType: q.ProtocolType,
		RequireID:    q.Version >= 4,
		SkipLeader:   q.Version >= 9,
	}
	for _, p := range q.Protocols {
		join.Protocols = append(join.Protocols, group.Protocol{Name: p.Name, Metadata: p.Metadata})
	}
	resume := stopwatch.Waiting(ctx)
	joined, err := groups.Join(ctx, join)
	resume()
	switch resp.ErrorCode = code(err, coordinator); {
	case errors.Is(err, group.ErrMemberIDRequired):
		resp.MemberID = joined.Member
		return resp, nil
	case err != nil:
		return resp, nil
	}
	resp.Generation, resp.LeaderID, resp.MemberID = joined.Generation, joined.Leader, joined.Member
	resp.ProtocolType, resp.Protocol = &joined.ProtocolType, &joined.Protocol
	resp.SkipAssignment = joined.SkipAssignment
	for _, m := range joined.Members {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.ID, nullable(m.Instance), m.Metadata
		resp.Members = append(resp.Members, rm)
	}
	return resp, nil
}
