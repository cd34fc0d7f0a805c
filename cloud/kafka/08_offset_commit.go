package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// OffsetCommit (key 8): stores how far a group has read.
//
// Behaviour:
//   - The answer follows when the offsets are durable in the bucket.
//   - Generation -1 with an empty member is a commit without membership, as made by
//     Flink, Spark and admin tools. It is accepted while the group has no members.
//   - Unknown topics and partitions get error 3 (100 by id); the other offsets are
//     stored.
//   - The metadata string is returned unchanged. Retention times are ignored: offsets
//     do not expire.
//
// Versions:
//   - v2–4: retention time; v6: leader epochs; v7: static members; v8: flexible
//   - v9: member epochs in place of generations (KIP-848), STALE_MEMBER_EPOCH
//   - v10: topic ids

const (
	epochCommit = 9
	idCommit    = 10
)

func (s *Server) offsetCommit(ctx context.Context, r *request, q *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitResponse, error) {
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = q.Version
	commit := group.CommitRequest{
		Group:      q.Group,
		Generation: q.Generation,
		Identity:   identity(q.MemberID, q.InstanceID),
		Epochs:     q.Version >= epochCommit,
	}
	denied := r.mayGroup(kmsg.ACLOperationRead, q.Group)
	var codes []*int16 // of commit.Offsets, into resp
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		topic, unknown := r.topic(kmsg.ACLOperationRead, t.Topic, t.TopicID, q.Version >= idCommit)
		if denied != nil {
			unknown = denied
		}
		for i, p := range t.Partitions {
			rp := &rt.Partitions[i]
			rp.Partition = p.Partition
			err := unknown
			if err == nil && (p.Partition < 0 || p.Partition >= topic.Partitions) {
				err = broker.ErrUnknownTopic
			}
			if rp.ErrorCode = code(err, coordinator); err == nil {
				codes = append(codes, &rp.ErrorCode)
				commit.Offsets = append(commit.Offsets, offsetOf(topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata))
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if denied != nil {
		return resp, nil
	}
	errs, err := s.commit(ctx, commit)
	for i, c := range codes {
		if *c = code(err, coordinator); err == nil {
			*c = code(errs[i], coordinator)
		}
	}
	return resp, nil
}

// offsetOf returns an offset of a request as a group stores it.
func offsetOf(topic broker.Topic, partition int32, offset int64, epoch int32, metadata *string) group.Offset {
	return group.Offset{Partition: group.Partition{Topic: topic.ID, Index: partition}, Offset: offset, LeaderEpoch: epoch, Metadata: text(metadata)}
}

func (s *Server) commit(ctx context.Context, r group.CommitRequest) ([]error, error) {
	groups, err := s.broker.Groups(r.Group)
	if err != nil {
		return nil, err
	}
	return groups.Commit(ctx, r)
}
