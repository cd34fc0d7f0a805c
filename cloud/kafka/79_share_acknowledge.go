package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/share"
)

// ShareAcknowledge (key 79): acknowledges records that a member of a share group has
// acquired (KIP-932).
//
// Behaviour:
//   - It is a request of the member's share session, which it cannot open. Epoch -1
//     closes it, as in ShareFetch.
//   - All acknowledgements of a partition count, or none of them. They are durable when
//     they are answered.
//   - Types: 0 gap, 1 accept, 2 release, 3 reject, 4 renew.
//
// Versions:
//   - v1: the first that is not a preview
//   - v2: renewals (KIP-1222), the duration of the lock
func (s *Server) shareAcknowledge(ctx context.Context, r *request, q *kmsg.ShareAcknowledgeRequest) (*kmsg.ShareAcknowledgeResponse, error) {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	resp.Version = q.Version
	if err := s.acknowledgeAll(ctx, r, q, resp); err != nil && ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		*resp = kmsg.NewShareAcknowledgeResponse()
		resp.Version, resp.ErrorCode, resp.ErrorMessage = q.Version, code(err, leader), message(err)
	}
	return resp, nil
}

func (s *Server) acknowledgeAll(ctx context.Context, r *request, q *kmsg.ShareAcknowledgeRequest, resp *kmsg.ShareAcknowledgeResponse) error {
	group, member := text(q.GroupID), text(q.MemberID)
	if q.ShareSessionEpoch == openShare {
		return share.ErrSessionEpoch
	}
	x, err := r.shareSession(group, member, q.ShareSessionEpoch)
	if err != nil {
		return err
	}
	resp.AcquisitionLockTimeoutMillis = int32(s.broker.ShareLock(group).Milliseconds())
	var acks acknowledging
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			var all []share.Acknowledgement
			for _, b := range p.AcknowledgementBatches {
				all = append(all, acknowledgement(b.FirstOffset, b.LastOffset, b.AcknowledgeTypes))
			}
			acks.acknowledge(r, share.Place{Group: group, Topic: t.TopicID, Partition: p.Partition}, member, all, q.IsRenewAck)
		}
	}
	results, err := acks.wait(ctx)
	if err != nil {
		return err
	}
	for _, t := range q.Topics {
		rt := kmsg.NewShareAcknowledgeResponseTopic()
		rt.TopicID = t.TopicID
		for _, p := range t.Partitions {
			at := share.Place{Group: group, Topic: t.TopicID, Partition: p.Partition}
			rp := kmsg.NewShareAcknowledgeResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p.Partition, code(results[at], leader), message(results[at])
			rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = none, none
			if n, epoch, ok := r.elsewhereIs(results[at], at.Topic, at.Partition); ok {
				rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = n.id, epoch
				direct(resp, n)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if q.ShareSessionEpoch == closeShare {
		return r.conn.leaveShare(ctx, x)
	}
	return nil
}

// direct adds the address of a leader to an answer.
func direct(resp *kmsg.ShareAcknowledgeResponse, n node) {
	if slices.ContainsFunc(resp.NodeEndpoints, func(e kmsg.ShareAcknowledgeResponseNodeEndpoint) bool { return e.NodeID == n.id }) {
		return
	}
	e := kmsg.NewShareAcknowledgeResponseNodeEndpoint()
	e.NodeID, e.Host, e.Port = n.id, n.host, n.port
	resp.NodeEndpoints = append(resp.NodeEndpoints, e)
}
