package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
)

// ShareGroupDescribe (key 77): the members of a share group and what they read
// (KIP-932).
//
// Behaviour:
//   - A group without members that has offsets is Empty. GROUP_ID_NOT_FOUND for groups
//     of other types.
//   - A group that uses a topic that the client may not see is not described at all:
//     TOPIC_AUTHORIZATION_FAILED, as in Kafka.
//
// Versions:
//   - v1: the first that is not a preview
func (s *Server) shareGroupDescribe(ctx context.Context, r *request, q *kmsg.ShareGroupDescribeRequest) (*kmsg.ShareGroupDescribeResponse, error) {
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	resp.Version = q.Version
	for _, name := range q.GroupIDs {
		rg := kmsg.NewShareGroupDescribeResponseGroup()
		err := r.mayGroup(kmsg.ACLOperationDescribe, name)
		var d group.ShareDescription
		if err == nil {
			d, err = s.o.Records.DescribeShare(ctx, name)
		}
		if err == nil {
			rg.Members, err = s.sharers(r, d)
		}
		if err == nil {
			rg.GroupState, rg.GroupEpoch, rg.AssignmentEpoch, rg.Assignor = string(d.State), d.Epoch, d.Epoch, group.ShareAssignor
			rg.AuthorizedOperations = r.operations(q.IncludeAuthorizedOperations, kmsg.ACLResourceTypeGroup, name)
		}
		rg.GroupID, rg.ErrorCode, rg.ErrorMessage = name, code(err, coordinator), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// sharers describes all members, or fails.
func (s *Server) sharers(r *request, d group.ShareDescription) ([]kmsg.ShareGroupDescribeResponseGroupMember, error) {
	var members []kmsg.ShareGroupDescribeResponseGroupMember
	for _, m := range d.Details {
		rm := kmsg.NewShareGroupDescribeResponseGroupMember()
		rm.MemberID, rm.RackID, rm.MemberEpoch = m.Member, nullable(m.Rack), m.Epoch
		rm.ClientID, rm.ClientHost, rm.SubscribedTopicNames = m.ClientID, m.ClientHost, m.Topics
		for _, t := range m.Topics {
			if !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t) {
				return nil, errTopicDenied
			}
		}
		named, err := s.namedPartitions(r, m.Assigned)
		if err != nil {
			return nil, err
		}
		for _, t := range named {
			rt := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
			rt.TopicID, rt.Topic, rt.Partitions = t.TopicID, t.Topic, t.Partitions
			rm.Assignment.TopicPartitions = append(rm.Assignment.TopicPartitions, rt)
		}
		members = append(members, rm)
	}
	return members, nil
}
