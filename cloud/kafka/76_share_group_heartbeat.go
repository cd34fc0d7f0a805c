package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
)

// ShareGroupHeartbeat (key 76): the only request of a member of a share group to its
// coordinator (KIP-932): join, stay alive, learn what to read, leave.
//
// Behaviour:
//   - It never waits. The coordinator assigns each partition to at least one member.
//   - Null topics mean no change. The assignment is null if it has not changed.
//   - After a takeover no member is known: UNKNOWN_MEMBER_ID, and all join again.
//   - A group of another type with members stays what it is: GROUP_ID_NOT_FOUND.
//   - The group needs Read, and each topic Describe.
//
// Versions:
//   - v1: the first that is not a preview
func (s *Server) shareGroupHeartbeat(_ context.Context, r *request, q *kmsg.ShareGroupHeartbeatRequest) (*kmsg.ShareGroupHeartbeatResponse, error) {
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.Version = q.Version
	groups, err := s.mayShare(r, q)
	var answer group.ShareHeartbeatResponse
	if err == nil {
		answer, err = groups.ShareHeartbeat(group.ShareHeartbeatRequest{
			Group: q.GroupID, Member: q.MemberID, Epoch: q.MemberEpoch, Rack: text(q.RackID), Topics: q.SubscribedTopicNames,
			ClientID: r.clientID, ClientHost: r.conn.host(),
		})
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, coordinator), message(err)
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &q.MemberID, answer.Epoch
	resp.HeartbeatIntervalMillis = int32(answer.Interval.Milliseconds())
	if answer.Assigned == nil {
		return resp, nil
	}
	resp.Assignment = new(kmsg.ShareGroupHeartbeatResponseAssignment)
	for _, p := range answer.Assigned {
		ts := &resp.Assignment.TopicPartitions
		if n := len(*ts); n == 0 || (*ts)[n-1].TopicID != p.Topic {
			*ts = append(*ts, kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{TopicID: p.Topic})
		}
		last := &(*ts)[len(*ts)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return resp, nil
}

// mayShare returns the coordinator if the client may be in the group and know of the
// topics.
func (s *Server) mayShare(r *request, q *kmsg.ShareGroupHeartbeatRequest) (*group.Coordinator, error) {
	if err := r.mayGroup(kmsg.ACLOperationRead, q.GroupID); err != nil {
		return nil, err
	}
	for _, t := range q.SubscribedTopicNames {
		if !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t) {
			return nil, errTopicDenied
		}
	}
	return s.broker.Groups(q.GroupID)
}
