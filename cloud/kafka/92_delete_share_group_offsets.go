package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/share"
)

// DeleteShareGroupOffsets (key 92): makes a share group forget topics (KIP-932).
//
// Behaviour:
//   - Only of groups without members: NON_EMPTY_GROUP. Durable when answered, at all
//     nodes that lead partitions of the topics.
//   - A topic that the group does not share: UNKNOWN_TOPIC_OR_PARTITION.
//   - The group needs Delete, and the topics Read.
func (s *Server) deleteShareGroupOffsets(ctx context.Context, r *request, q *kmsg.DeleteShareGroupOffsetsRequest) (*kmsg.DeleteShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	resp.Version = q.Version
	if err := s.emptyShare(ctx, r, kmsg.ACLOperationDelete, q.GroupID); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, coordinator), message(err)
		return resp, nil
	}
	for _, t := range q.Topics {
		topic, err := r.topic(kmsg.ACLOperationRead, t.Topic, [16]byte{}, false)
		if err == nil {
			var found bool
			if found, err = s.o.Records.DeleteShares(ctx, q.GroupID, &topic.ID); err == nil && !found {
				err = share.ErrUnknown
			}
		}
		rt := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, topic.ID
		rt.ErrorCode, rt.ErrorMessage = code(err, coordinator), message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
