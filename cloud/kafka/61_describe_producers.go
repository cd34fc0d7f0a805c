package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DescribeProducers (key 61): the producer ids that have written to partitions, and
// their open transactions (KIP-664).
//
// Behaviour:
//   - It lists the producers that the partition remembers, idempotent and
//     transactional.
//   - The coordinator's epoch is that of the partition's leader, as in the markers that it
//     writes: the coordinator may be in another shard, whose epochs mean nothing here.
//
// Versions:
//   - v0: flexible
func (s *Server) describeProducers(_ context.Context, r *request, q *kmsg.DescribeProducersRequest) (*kmsg.DescribeProducersResponse, error) {
	resp := kmsg.NewPtrDescribeProducersResponse()
	resp.Version = q.Version
	for _, t := range q.Topics {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		topic, unknown := r.topic(kmsg.ACLOperationRead, t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = p
			err := unknown
			var all []broker.ProducerState
			if err == nil {
				all, err = s.broker.Producers(topic.ID, p)
			}
			rp.ErrorCode, rp.ErrorMessage = code(err, leader), message(err)
			for _, x := range all {
				a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				a.ProducerID, a.ProducerEpoch, a.LastSequence = x.ID, int32(x.Epoch), x.LastSequence
				a.LastTimestamp, a.CurrentTxnStartOffset = x.LastTimestamp, x.TransactionStart
				a.CoordinatorEpoch = s.broker.Epoch(topic.ID, p)
				rp.ActiveProducers = append(rp.ActiveProducers, a)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
