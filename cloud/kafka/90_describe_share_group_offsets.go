package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/share"
)

// DescribeShareGroupOffsets (key 90): how far share groups are (KIP-932).
//
// Behaviour:
//   - Null topics mean all that the group shares and the client may describe. A partition
//     that the group does not share has start offset -1, and is no error.
//   - The partitions may be led by any nodes. COORDINATOR_NOT_AVAILABLE if one of these
//     does not answer.
//   - GROUP_ID_NOT_FOUND for a group that is not a share group.
//
// Versions:
//   - v1: lag (KIP-1226): the records from the start on that are not done
func (s *Server) describeShareGroupOffsets(ctx context.Context, r *request, q *kmsg.DescribeShareGroupOffsetsRequest) (*kmsg.DescribeShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	resp.Version = q.Version
	for _, g := range q.Groups {
		rg := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		err := r.mayGroup(kmsg.ACLOperationDescribe, g.GroupID)
		if err == nil {
			_, err = s.o.Records.DescribeShare(ctx, g.GroupID)
		}
		var all []share.Offsets
		if err == nil {
			all, err = s.o.Records.ShareOffsets(ctx, g.GroupID)
		}
		if err == nil && g.Topics == nil {
			rg.Topics, err = s.everyShare(r, all)
		} else if err == nil {
			rg.Topics = s.someShares(r, all, g.Topics)
		}
		rg.GroupID, rg.ErrorCode, rg.ErrorMessage = g.GroupID, code(err, coordinator), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// everyShare answers all that a group shares and the client may describe.
func (s *Server) everyShare(r *request, all []share.Offsets) ([]kmsg.DescribeShareGroupOffsetsResponseGroupTopic, error) {
	var topics []kmsg.DescribeShareGroupOffsetsResponseGroupTopic
	for len(all) > 0 {
		id := all[0].Topic
		n := slices.IndexFunc(all, func(o share.Offsets) bool { return o.Topic != id })
		if n < 0 {
			n = len(all)
		}
		some := all[:n]
		all = all[n:]
		t, err := r.topic(kmsg.ACLOperationDescribe, "", id, true)
		switch {
		case errors.Is(err, errTopicDenied) || errors.Is(err, errUnknownID):
			continue
		case err != nil:
			return nil, err
		}
		rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Name, t.ID
		for _, o := range some {
			rt.Partitions = append(rt.Partitions, s.shareOffset(o))
		}
		topics = append(topics, rt)
	}
	return topics, nil
}

// someShares answers the partitions that the client names.
func (s *Server) someShares(r *request, all []share.Offsets, asked []kmsg.DescribeShareGroupOffsetsRequestGroupTopic) []kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
	var topics []kmsg.DescribeShareGroupOffsetsResponseGroupTopic
	for _, q := range asked {
		rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		t, unknown := r.topic(kmsg.ACLOperationDescribe, q.Topic, [16]byte{}, false)
		rt.Topic, rt.TopicID = q.Topic, t.ID
		for _, i := range q.Partitions {
			known := slices.IndexFunc(all, func(o share.Offsets) bool { return o.Topic == t.ID && o.Partition == i })
			o := share.Offsets{Place: share.Place{Topic: t.ID, Partition: i}, Start: none, Lag: none}
			if known >= 0 {
				o = all[known]
			}
			rp := s.shareOffset(o)
			err := unknown
			if err == nil && (i < 0 || i >= t.Partitions) {
				err = broker.ErrUnknownTopic
			}
			rp.ErrorCode, rp.ErrorMessage = code(err, leader), message(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		topics = append(topics, rt)
	}
	return topics
}

func (s *Server) shareOffset(o share.Offsets) kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition {
	rp := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
	rp.Partition, rp.StartOffset, rp.Lag = o.Partition, o.Start, o.Lag
	rp.LeaderEpoch = s.broker.Epoch(o.Topic, o.Partition)
	return rp
}
