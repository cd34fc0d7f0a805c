package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// ConsumerGroupDescribe (key 69): the members of a consumer group, what they may read
// and what they are to read (KIP-848).
//
// Behaviour:
//   - GROUP_ID_NOT_FOUND for a classic group: then clients use DescribeGroups.
//   - A group that uses a topic that the client may not see is not described at all:
//     TOPIC_AUTHORIZATION_FAILED, as in Kafka.
//
// Versions:
//   - v1: the type of each member: here always that of the newer protocol

// consumerMember is the type of members that send ConsumerGroupHeartbeat.
const consumerMember = 1

func (s *Server) consumerGroupDescribe(_ context.Context, r *request, q *kmsg.ConsumerGroupDescribeRequest) (*kmsg.ConsumerGroupDescribeResponse, error) {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	resp.Version = q.Version
	for _, name := range q.Groups {
		rg := kmsg.NewConsumerGroupDescribeResponseGroup()
		err := r.mayGroup(kmsg.ACLOperationDescribe, name)
		var groups *group.Coordinator
		if err == nil {
			groups, err = s.broker.Groups(name)
		}
		if err == nil {
			var d group.ConsumerDescription
			if d, err = groups.DescribeConsumer(name); err == nil {
				rg, err = s.describeConsumers(r, d)
			}
		}
		if err == nil {
			rg.AuthorizedOperations = r.operations(q.IncludeAuthorizedOperations, kmsg.ACLResourceTypeGroup, name)
		}
		rg.Group, rg.ErrorCode, rg.ErrorMessage = name, code(err, coordinator), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// describeConsumers describes all members, or fails.
func (s *Server) describeConsumers(r *request, d group.ConsumerDescription) (kmsg.ConsumerGroupDescribeResponseGroup, error) {
	rg := kmsg.NewConsumerGroupDescribeResponseGroup()
	var members []kmsg.ConsumerGroupDescribeResponseGroupMember
	for _, m := range d.Details {
		rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.RackID = m.Member, nullable(m.Instance), nullable(m.Rack)
		rm.MemberEpoch, rm.MemberType = m.Epoch, consumerMember
		rm.ClientID, rm.ClientHost = m.ClientID, m.ClientHost
		rm.SubscribedTopics, rm.SubscribedTopicRegex = m.Topics, nullable(m.Pattern)
		for _, t := range m.Topics {
			if !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t) {
				return rg, errTopicDenied
			}
		}
		var err error
		if rm.Assignment.TopicPartitions, err = s.namedPartitions(r, m.Assigned); err != nil {
			return rg, err
		}
		if rm.TargetAssignment.TopicPartitions, err = s.namedPartitions(r, m.Target); err != nil {
			return rg, err
		}
		members = append(members, rm)
	}
	rg.State, rg.Epoch, rg.AssignmentEpoch, rg.AssignorName, rg.Members = string(d.State), d.Epoch, d.TargetEpoch, d.Assignor, members
	return rg, nil
}

// namedPartitions groups partitions, which are in order, by topic. Deleted topics are
// left out.
func (s *Server) namedPartitions(r *request, of []group.Partition) ([]kmsg.AssignmentTopicPartition, error) {
	var topics []kmsg.AssignmentTopicPartition
	for i, p := range of {
		n := len(topics)
		if n > 0 && topics[n-1].TopicID == p.Topic {
			topics[n-1].Partitions = append(topics[n-1].Partitions, p.Index)
			continue
		}
		if i > 0 && of[i-1].Topic == p.Topic {
			continue // deleted
		}
		t, err := s.broker.TopicByID(p.Topic)
		switch {
		case errors.Is(err, broker.ErrUnknownTopic):
			continue
		case err != nil:
			return nil, err
		case !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name):
			return nil, errTopicDenied
		}
		topics = append(topics, kmsg.AssignmentTopicPartition{TopicID: t.ID, Topic: t.Name, Partitions: []int32{p.Index}})
	}
	return topics, nil
}
