package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// CreatePartitions (key 37): adds partitions to topics.
//
// Behaviour:
//   - Every topic of the request is answered, each by itself; durable when answered.
//   - The count is the new total, and must be larger than the old one. An assignment
//     of replicas must have the right length, and is otherwise ignored: the bucket
//     replicates.
//   - validate_only makes all of these checks and creates nothing.
//
// Versions:
//   - v2: flexible
func (s *Server) createPartitions(ctx context.Context, r *request, q *kmsg.CreatePartitionsRequest) (*kmsg.CreatePartitionsResponse, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	resp.Version = q.Version
	twice := make(seen[string], len(q.Topics))
	for i := range q.Topics {
		twice.add(q.Topics[i].Topic)
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		err := refused(kerr.InvalidRequest, "topic %q is in the request twice", t.Topic)
		if !twice[t.Topic] {
			err = r.refusal(ctx, s.growTopic(ctx, r, t, q.ValidateOnly))
		}
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		rt.ErrorCode, rt.ErrorMessage = code(err, controller), message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func (s *Server) growTopic(ctx context.Context, r *request, t *kmsg.CreatePartitionsRequestTopic, check bool) error {
	topic, err := r.changing(kmsg.ACLOperationAlter, t.Topic, [16]byte{}, false)
	if err != nil {
		return err
	}
	if broker.Internal(topic.Name) {
		return errInternalTopic
	}
	if t.Count <= topic.Partitions || t.Count > broker.MaxPartitions {
		return refused(kerr.InvalidPartitions, "topic %q has %d partitions and can have up to %d, not %d", topic.Name, topic.Partitions, broker.MaxPartitions, t.Count)
	}
	if added := t.Count - topic.Partitions; t.Assignment != nil && int(added) != len(t.Assignment) {
		return refused(kerr.InvalidReplicaAssignment, "%d partitions are added, and %d assigned", added, len(t.Assignment))
	}
	for _, a := range t.Assignment {
		if len(a.Replicas) == 0 {
			return refused(kerr.InvalidReplicaAssignment, "a partition without replicas cannot be")
		}
	}
	if check {
		return nil
	}
	return s.broker.GrowTopic(ctx, topic.ID, t.Count)
}
