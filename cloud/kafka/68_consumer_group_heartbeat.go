package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/group"
)

// ConsumerGroupHeartbeat (key 68): the only request of a member of a consumer group
// (KIP-848): join, stay alive, give up and get partitions, leave.
//
// Behaviour:
//   - It never waits. The coordinator assigns the partitions; a partition goes to its
//     next reader when the previous one has said that it gave it up.
//   - Null fields of the request mean no change. The assignment is null if it has not
//     changed, unless the member joins or sends a complete request.
//   - After a takeover no member is known: UNKNOWN_MEMBER_ID, and all join again.
//   - A classic group with members stays what it is: GROUP_ID_NOT_FOUND.
//   - Topics named by a client need Describe each. Topics that match a regular
//     expression and that the client may not describe are left out.
//
// Versions:
//   - v0: the coordinator can make the member's id
//   - v1: the client makes it; subscriptions by regular expression (RE2)
const clientMemberID = 1

func (s *Server) consumerGroupHeartbeat(_ context.Context, r *request, q *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.Version = q.Version
	groups, err := s.mayConsume(r, q)
	var answer group.ConsumerHeartbeatResponse
	if err == nil {
		answer, err = groups.ConsumerHeartbeat(heartbeatOf(r, q))
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, coordinator), message(err)
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &answer.Member, answer.Epoch
	resp.HeartbeatIntervalMillis = int32(answer.Interval.Milliseconds())
	if answer.Assigned == nil {
		return resp, nil
	}
	resp.Assignment = new(kmsg.ConsumerGroupHeartbeatResponseAssignment)
	for _, p := range answer.Assigned {
		ts := &resp.Assignment.Topics
		if n := len(*ts); n == 0 || (*ts)[n-1].TopicID != p.Topic {
			*ts = append(*ts, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: p.Topic})
		}
		last := &(*ts)[len(*ts)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return resp, nil
}

// mayConsume returns the coordinator if the client may be in the group and know of
// the topics.
func (s *Server) mayConsume(r *request, q *kmsg.ConsumerGroupHeartbeatRequest) (*group.Coordinator, error) {
	if err := r.mayGroup(kmsg.ACLOperationRead, q.Group); err != nil {
		return nil, err
	}
	if q.InstanceID != nil && *q.InstanceID == "" || q.RackID != nil && *q.RackID == "" {
		return nil, refused(kerr.InvalidRequest, "an instance id or a rack is empty")
	}
	for _, t := range q.SubscribedTopicNames {
		if !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t) {
			return nil, errTopicDenied
		}
	}
	return s.broker.Groups(q.Group)
}

func heartbeatOf(r *request, q *kmsg.ConsumerGroupHeartbeatRequest) group.ConsumerHeartbeatRequest {
	h := group.ConsumerHeartbeatRequest{
		Group:      q.Group,
		Identity:   identity(q.MemberID, q.InstanceID),
		Epoch:      q.MemberEpoch,
		Rack:       text(q.RackID),
		Rebalance:  milliseconds(q.RebalanceTimeoutMillis),
		Topics:     q.SubscribedTopicNames,
		Pattern:    q.SubscribedTopicRegex,
		Assignor:   q.ServerAssignor,
		ClientID:   r.clientID,
		ClientHost: r.conn.host(),
		MakeID:     q.Version < clientMemberID,
		May:        r.rights.Later(r.conn.who(), auth.Describe, auth.Topic), // by then, the connection may be another user's
	}
	if q.Topics != nil {
		h.Owned = []group.Partition{}
	}
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			h.Owned = append(h.Owned, group.Partition{Topic: t.TopicID, Index: p})
		}
	}
	return h
}
