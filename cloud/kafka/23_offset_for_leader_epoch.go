package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (key 23): where the records of a leader epoch end. With it a
// consumer finds out whether records that it has read were lost (KIP-320).
//
// Behaviour:
//   - The answer is the latest epoch up to the given one that has records, and the
//     offset at which the next epoch begins. Below the first epoch that has records,
//     it is the given epoch and the offset at which that first one begins.
//   - An epoch that this leader has not reached yet has no end: -1 and -1.
//
// Versions:
//   - v3: replica id (consumers say -1); v4: flexible
func (s *Server) offsetForLeaderEpoch(_ context.Context, r *request, q *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Version = q.Version
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		topic, missing := r.topic(kmsg.ACLOperationDescribe, t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, none, none
			err := missing
			if err == nil {
				err = s.checkEpoch(topic.ID, p.Partition, p.CurrentLeaderEpoch)
			}
			if err == nil {
				rp.LeaderEpoch, rp.EndOffset, err = s.epochEnd(topic.ID, p.Partition, p.LeaderEpoch)
			}
			rp.ErrorCode = code(err, leader)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func (s *Server) epochEnd(topic [16]byte, partition, asked int32) (epoch int32, end int64, err error) {
	found, end, err := s.broker.EpochEnd(topic, partition, asked)
	switch {
	case err != nil:
		return none, none, err
	case asked < 0 || asked > s.broker.Epoch(topic, partition):
		return none, none, nil
	case found < 0:
		return asked, end, nil
	}
	return found, end, nil
}
