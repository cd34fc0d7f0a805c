package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DeleteTopics (key 20): by name, or by id.
//
// Behaviour:
//   - Durable when answered. The topic's committed offsets are removed too.
//
// Versions:
//   - v4: flexible; v5: error messages; v6: topic ids
func (s *Server) deleteTopics(ctx context.Context, r *request, q *kmsg.DeleteTopicsRequest) (*kmsg.DeleteTopicsResponse, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrDeleteTopicsResponse()
	resp.Version = q.Version
	for _, name := range q.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		q.Topics = append(q.Topics, t)
	}
	for _, t := range q.Topics {
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		gone, err := s.deleteTopic(ctx, r, t)
		err = r.refusal(ctx, err)
		if rt.ErrorCode, rt.ErrorMessage = code(err, controller), message(err); err == nil {
			rt.Topic, rt.TopicID = &gone.Name, gone.ID
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func (s *Server) deleteTopic(ctx context.Context, r *request, t kmsg.DeleteTopicsRequestTopic) (broker.Topic, error) {
	if t.Topic != nil && t.TopicID != [16]byte{} {
		return broker.Topic{}, refused(kerr.InvalidRequest, "a topic is named or has an id, not both")
	}
	topic, err := r.changing(kmsg.ACLOperationDelete, text(t.Topic), t.TopicID, t.Topic == nil)
	if err == nil && broker.Internal(topic.Name) {
		err = errInternalTopic
	}
	if err == nil {
		err = s.broker.DeleteTopic(ctx, topic.ID)
	}
	return topic, err
}
