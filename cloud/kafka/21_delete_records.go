package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DeleteRecords (key 21): moves the first offset of partitions up.
//
// Behaviour:
//   - Offset -1 means up to the high watermark. An offset beyond that is
//     OFFSET_OUT_OF_RANGE; one below the first offset changes nothing.
//   - Durable when answered. Records below the offset cannot be read from then on;
//     their space is freed later.
//   - The answer's low watermark is the first offset afterwards.
//
// Versions:
//   - v2: flexible
func (s *Server) deleteRecords(ctx context.Context, r *request, q *kmsg.DeleteRecordsRequest) (*kmsg.DeleteRecordsResponse, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Version = q.Version
	for _, t := range q.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		topic, missing := r.topic(kmsg.ACLOperationDelete, t.Topic, [16]byte{}, false)
		if missing == nil && broker.Internal(topic.Name) {
			missing = errInternalTopic
		}
		for _, p := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark = p.Partition, -1
			err := missing
			if err == nil {
				rp.LowWatermark, err = s.broker.DeleteRecords(ctx, topic.ID, p.Partition, p.Offset)
			}
			if rp.ErrorCode = code(err, leader); err != nil {
				rp.LowWatermark = -1
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
