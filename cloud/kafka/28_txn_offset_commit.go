package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/txn"
)

// TxnOffsetCommit (key 28): adds offsets of a group to a transaction, which are
// committed when it is.
//
// Behaviour:
//   - The answer follows when they are durably part of the transaction. Until it
//     ends, requests for stable offsets get UNSTABLE_OFFSET_COMMIT.
//   - The request goes to the coordinator of the group. That of the transaction may be
//     on another node, which is asked.
//   - Membership is checked as in OffsetCommit. A generation of -1 without a member
//     is always accepted: clients before v3 send no more.
//   - Unknown topics and partitions get error 3; the other offsets are added.
//
// Versions:
//   - v2: leader epochs; v3: flexible, members; v4: TRANSACTION_ABORTABLE
//   - v5: adds the group to the transaction (transactions v2, KIP-890)

const (
	abortableTxnCommit = 4
	implicitTxnCommit  = 5
)

func (s *Server) txnOffsetCommit(ctx context.Context, r *request, q *kmsg.TxnOffsetCommitRequest) (*kmsg.TxnOffsetCommitResponse, error) {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = q.Version
	denied := r.mayTransaction(kmsg.ACLOperationWrite, q.TransactionalID)
	if denied == nil {
		denied = r.mayGroup(kmsg.ACLOperationRead, q.Group)
	}
	commit := group.CommitRequest{Group: q.Group, Generation: q.Generation, Identity: identity(q.MemberID, q.InstanceID)}
	var codes []*int16 // of commit.Offsets, into resp
	for _, t := range q.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.TxnOffsetCommitResponseTopicPartition, len(t.Partitions))
		topic, unknown := r.topic(kmsg.ACLOperationRead, t.Topic, [16]byte{}, false)
		for i, p := range t.Partitions {
			rp := &rt.Partitions[i]
			rp.Partition = p.Partition
			err := denied
			if err == nil {
				err = unknown
			}
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
	if len(codes) == 0 {
		return resp, nil
	}
	errs, err := s.broker.CommitInTransaction(ctx, txn.OffsetsRequest{
		ID:       q.TransactionalID,
		Producer: txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch},
		Implicit: q.Version >= implicitTxnCommit,
		Commit:   commit,
	})
	for i, c := range codes {
		each := err
		if err == nil {
			each = errs[i]
		}
		// Clients of this request do not know PRODUCER_FENCED.
		*c = olderCode(code(each, coordinator), false, q.Version >= abortableTxnCommit)
	}
	return resp, nil
}
