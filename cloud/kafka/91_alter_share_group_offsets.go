package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/share"
)

// AlterShareGroupOffsets (key 91): makes a share group begin anew at an offset (KIP-932).
//
// Behaviour:
//   - Only of groups without members: NON_EMPTY_GROUP. Durable when answered, also in
//     partitions that other nodes lead.
//   - A group that does not exist is made, unless another kind of group has the name:
//     GROUP_ID_NOT_FOUND.
//   - The group and the topics need Read.
func (s *Server) alterShareGroupOffsets(ctx context.Context, r *request, q *kmsg.AlterShareGroupOffsetsRequest) (*kmsg.AlterShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
	resp.Version = q.Version
	err := s.emptyShare(ctx, r, kmsg.ACLOperationRead, q.GroupID)
	if errors.Is(err, group.ErrUnknownGroup) && s.unused(q.GroupID) {
		err = nil
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, coordinator), message(err)
		return resp, nil
	}
	for _, t := range q.Topics {
		rt := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		topic, unknown := r.topic(kmsg.ACLOperationRead, t.Topic, [16]byte{}, false)
		rt.Topic, rt.TopicID = t.Topic, topic.ID
		for _, p := range t.Partitions {
			err := unknown
			if err == nil && p.StartOffset < 0 {
				err = refused(kerr.InvalidRequest, "start offset %d", p.StartOffset)
			}
			if err == nil {
				err = s.o.Records.BeginShare(ctx, share.Place{Group: q.GroupID, Topic: topic.ID, Partition: p.Partition}, p.StartOffset)
			}
			rp := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p.Partition, code(err, coordinator), message(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// unused reports whether no group has that name.
func (s *Server) unused(name string) bool {
	groups, err := s.broker.Groups(name)
	if err != nil {
		return false
	}
	_, err = groups.Describe(name)
	return errors.Is(err, group.ErrUnknownGroup)
}

// emptyShare returns nil if the client may do op to a group, which is a share group
// without members.
func (s *Server) emptyShare(ctx context.Context, r *request, op kmsg.ACLOperation, name string) error {
	if err := r.mayGroup(op, name); err != nil {
		return err
	}
	d, err := s.o.Records.DescribeShare(ctx, name)
	if err != nil {
		return err
	}
	if d.State != group.Empty {
		return group.ErrGroupNotEmpty
	}
	return nil
}
