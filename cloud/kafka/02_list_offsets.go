package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets (key 2): the offset of a point in time.
//
// Behaviour:
//   - A timestamp (ms) gives the first record that is not older, or offset -1.
//   - -2 is the start of the partition, -1 its end. For a reader of committed records
//     the end is the last stable offset, and a search by time finds nothing beyond
//     it.
//   - -3 is the record with the largest timestamp (KIP-734).
//   - -4, the earliest local record, is the start. -5, the last record in tiered
//     storage, gives -1: there are no tiers.
//
// Versions:
//   - v1: one offset and its timestamp (v0, a list of offsets, is not served)
//   - v4: leader epochs
//   - v6: flexible
//   - v7: -3; v8: -4; v9: -5; v10: time-out
func (s *Server) listOffsets(ctx context.Context, r *request, q *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Version = q.Version
	for _, t := range q.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		topic, unknown := r.topic(kmsg.ACLOperationDescribe, t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			err := unknown
			if err == nil {
				err = s.checkEpoch(topic.ID, p.Partition, p.CurrentLeaderEpoch)
			}
			if err == nil {
				rp.Offset, rp.Timestamp, err = s.offsetAt(ctx, topic.ID, p.Partition, p.Timestamp, q.IsolationLevel == readCommitted)
			}
			if rp.ErrorCode = code(err, leader); err != nil {
				rp.Offset, rp.Timestamp = none, none
			} else if rp.Offset >= 0 {
				rp.LeaderEpoch = s.broker.Epoch(topic.ID, p.Partition)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// Timestamps with a special meaning.
const (
	atEnd           = -1
	atStart         = -2
	atMaxTimestamp  = -3
	atEarliestLocal = -4
	atLatestTiered  = -5
)

func (s *Server) offsetAt(ctx context.Context, topic [16]byte, partition int32, at int64, committed bool) (offset, timestamp int64, err error) {
	start, end, err := s.broker.Bounds(topic, partition)
	if err == nil && committed {
		end, err = s.broker.Stable(topic, partition)
	}
	switch {
	case err != nil:
		return none, none, err
	case at == atEnd:
		return end, none, nil
	case at == atStart, at == atEarliestLocal:
		return start, none, nil
	case at == atLatestTiered:
		return none, none, nil
	case at == atMaxTimestamp:
		offset, timestamp, err = s.broker.MaxTimestamp(ctx, topic, partition)
	case at >= 0:
		offset, timestamp, err = s.broker.OffsetByTime(ctx, topic, partition, at)
	default:
		return none, none, errUnsupported
	}
	if err == nil && committed && offset >= end {
		return none, none, nil
	}
	return offset, timestamp, atRest(err)
}
