package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// OffsetFetch (key 9): how far a group has read.
//
// Behaviour:
//   - A partition without an offset has -1, and no error, as in Kafka.
//   - Only durable commits are returned. With require_stable (which Java consumers
//     always set), a partition in which a transaction may commit an offset has
//     UNSTABLE_OFFSET_COMMIT, and the client asks again.
//
// Versions:
//   - v2: null topics mean all; v5: leader epochs; v6: flexible; v7: require_stable
//   - v8: many groups; v9: member and its epoch, for consumer groups (KIP-848)
//   - v10: topic ids

const (
	allFetchOffsets  = 2
	manyFetchOffsets = 8
	idFetchOffsets   = 10
)

func (s *Server) offsetFetch(_ context.Context, r *request, q *kmsg.OffsetFetchRequest) (*kmsg.OffsetFetchResponse, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = q.Version
	if q.Version >= manyFetchOffsets {
		for _, g := range q.Groups {
			resp.Groups = append(resp.Groups, s.offsetsOf(r, g, q.Version, q.RequireStable))
		}
		return resp, nil
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = q.Group
	if q.Topics != nil || q.Version < allFetchOffsets {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range q.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		g.Topics = append(g.Topics, gt)
	}
	found := s.offsetsOf(r, g, q.Version, q.RequireStable)
	resp.ErrorCode = found.ErrorCode
	for _, t := range found.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata
			rp.ErrorCode = p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// offsetsOf answers for one group. An error of the group is also set at each
// partition: before v2 there is no other place for it.
func (s *Server) offsetsOf(r *request, q kmsg.OffsetFetchRequestGroup, version int16, stable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = q.Group
	var groups *group.Coordinator
	err := r.mayGroup(kmsg.ACLOperationDescribe, q.Group)
	if err == nil {
		groups, err = s.broker.Groups(q.Group)
	}
	if err == nil {
		err = groups.MayFetch(q.Group, text(q.MemberID), q.MemberEpoch)
	}
	var pending map[group.Partition]struct{}
	if err == nil && stable {
		// Before the offsets are read, so that commits of transactions that end in between
		// are seen.
		pending, err = s.broker.PendingOffsets(q.Group)
	}
	var all []group.Offset
	if err == nil {
		all, err = groups.Offsets(q.Group, nil)
	}
	resp.ErrorCode = code(err, coordinator)
	if q.Topics == nil {
		resp.Topics = s.everything(r, all, pending)
		return resp
	}
	known := make(map[group.Partition]group.Offset, len(all))
	for _, o := range all {
		known[o.Partition] = o
	}
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		topic, unknown := r.topic(kmsg.ACLOperationDescribe, t.Topic, t.TopicID, version >= idFetchOffsets)
		for _, i := range t.Partitions {
			o, ok := known[group.Partition{Topic: topic.ID, Index: i}]
			if !ok || unknown != nil {
				o = group.Offset{Offset: none, LeaderEpoch: none}
			}
			rp := committed(i, o)
			if _, unstable := pending[group.Partition{Topic: topic.ID, Index: i}]; unstable && unknown == nil {
				rp = unsettled(i)
			}
			if resp.ErrorCode != 0 {
				rp.ErrorCode = resp.ErrorCode
			} else if unknown != nil && (version >= idFetchOffsets || errors.Is(unknown, errTopicDenied)) {
				rp.ErrorCode = code(unknown, coordinator)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// everything lists all offsets of a group, in the order of their topics' ids. It
// leaves out topics that were deleted, and those that the client may not see.
func (s *Server) everything(r *request, all []group.Offset, pending map[group.Partition]struct{}) []kmsg.OffsetFetchResponseGroupTopic {
	var topics []kmsg.OffsetFetchResponseGroupTopic
	var topic broker.Topic
	for _, o := range all {
		if topic.ID != o.Topic {
			t, err := s.broker.TopicByID(o.Topic)
			if err != nil || !r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
				continue
			}
			topic = t
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic, rt.TopicID = t.Name, t.ID
			topics = append(topics, rt)
		}
		last := &topics[len(topics)-1]
		if _, unstable := pending[o.Partition]; unstable {
			last.Partitions = append(last.Partitions, unsettled(o.Index))
			continue
		}
		last.Partitions = append(last.Partitions, committed(o.Index, o))
	}
	return topics
}

func committed(partition int32, o group.Offset) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, o.Offset, o.LeaderEpoch, &o.Metadata
	return p
}

// unsettled answers for a partition in which a transaction may commit an offset.
func unsettled(partition int32) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := committed(partition, group.Offset{Offset: none, LeaderEpoch: none})
	p.ErrorCode = kerr.UnstableOffsetCommit.Code
	return p
}
