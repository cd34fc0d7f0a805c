package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// OffsetFetch (key 9): how far a group has read.
//
// Behaviour:
//   - A partition without an offset has -1, and no error, as in Kafka.
//   - Only durable commits are seen. With nothing transactional none is unstable,
//     so require_stable (which Java consumers always set) changes nothing.
//
// Versions:
//   - v2: null topics mean all; v5: leader epochs; v6: flexible; v7: require_stable
//   - v8: many groups; v9: member epoch (of the newer group protocol; ignored)
//   - v10: topic ids

const (
	allFetchOffsets  = 2
	manyFetchOffsets = 8
	idFetchOffsets   = 10
)

func (s *Server) offsetFetch(_ context.Context, _ *request, q *kmsg.OffsetFetchRequest) (*kmsg.OffsetFetchResponse, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = q.Version
	if q.Version >= manyFetchOffsets {
		for _, g := range q.Groups {
			resp.Groups = append(resp.Groups, s.offsetsOf(g, q.Version))
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
	found := s.offsetsOf(g, q.Version)
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

// offsetsOf answers for one group. An error of the group also stands at each
// partition: before v2 there is no other place for it.
func (s *Server) offsetsOf(q kmsg.OffsetFetchRequestGroup, version int16) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = q.Group
	groups, err := s.broker.Groups()
	var all []group.Offset
	if err == nil {
		all, err = groups.Offsets(q.Group, nil)
	}
	resp.ErrorCode = code(err, coordinator)
	if q.Topics == nil {
		resp.Topics = s.everything(all)
		return resp
	}
	known := make(map[group.Partition]group.Offset, len(all))
	for _, o := range all {
		known[o.Partition] = o
	}
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		topic, unknown := s.find(t.Topic, t.TopicID, version >= idFetchOffsets)
		for _, i := range t.Partitions {
			o, ok := known[group.Partition{Topic: topic.ID, Index: i}]
			if !ok || unknown != nil {
				o = group.Offset{Offset: none, LeaderEpoch: none}
			}
			rp := committed(i, o)
			if rp.ErrorCode = resp.ErrorCode; rp.ErrorCode == 0 && version >= idFetchOffsets {
				rp.ErrorCode = code(unknown, coordinator)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// everything lists all offsets of a group, which come in order of their topics'
// ids. Those of topics that are gone are left out.
func (s *Server) everything(all []group.Offset) []kmsg.OffsetFetchResponseGroupTopic {
	var topics []kmsg.OffsetFetchResponseGroupTopic
	var topic broker.Topic
	for _, o := range all {
		if topic.ID != o.Topic {
			t, err := s.broker.TopicByID(o.Topic)
			if err != nil {
				continue
			}
			topic = t
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic, rt.TopicID = t.Name, t.ID
			topics = append(topics, rt)
		}
		last := &topics[len(topics)-1]
		last.Partitions = append(last.Partitions, committed(o.Index, o))
	}
	return topics
}

func committed(partition int32, o group.Offset) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, o.Offset, o.LeaderEpoch, &o.Metadata
	return p
}
