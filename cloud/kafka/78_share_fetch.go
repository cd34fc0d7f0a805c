package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// ShareFetch (key 78): acquires records for a member of a share group, and acknowledges
// those that it has (KIP-932).
//
// Behaviour:
//   - The request needs a share session. Epoch 0 opens one, -1 closes it and makes what
//     the member has acquired available again. So does the end of the connection.
//   - Acknowledgements are durable when they are answered.
//   - Batches are sent whole; what the member has acquired of them is listed.
//   - The answer waits until there is a record, an error, or max_wait is over; not if the
//     request acknowledges something. min_bytes is ignored.
//   - max_records holds in both acquire modes.
//   - The group and the topics need Read.
//
// Versions:
//   - v1: the first that is not a preview: max_records, the duration of the lock
//   - v2: renewals (KIP-1222), acquire mode (KIP-1206)
func (s *Server) shareFetch(ctx context.Context, r *request, q *kmsg.ShareFetchRequest) (*kmsg.ShareFetchResponse, error) {
	resp := kmsg.NewPtrShareFetchResponse()
	resp.Version = q.Version
	f := shareFetching{s: s, r: r, q: q, resp: resp, at: make(map[share.Place]*kmsg.ShareFetchResponseTopicPartition)}
	if err := f.all(ctx); err != nil && ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		*resp = kmsg.NewShareFetchResponse()
		resp.Version, resp.ErrorCode, resp.ErrorMessage = q.Version, code(err, leader), message(err)
		return resp, nil
	}
	for _, at := range f.order {
		p := f.at[at]
		i := slices.IndexFunc(resp.Topics, func(t kmsg.ShareFetchResponseTopic) bool { return t.TopicID == at.Topic })
		if i < 0 {
			i = len(resp.Topics)
			t := kmsg.NewShareFetchResponseTopic()
			t.TopicID = at.Topic
			resp.Topics = append(resp.Topics, t)
		}
		resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, *p)
	}
	return resp, nil
}

// shareFetching is one ShareFetch.
type shareFetching struct {
	s       *Server
	r       *request
	q       *kmsg.ShareFetchRequest
	session *share.Session
	acks    acknowledging
	resp    *kmsg.ShareFetchResponse
	at      map[share.Place]*kmsg.ShareFetchResponseTopicPartition
	order   []share.Place // in which at got them

	bytes, records int // that may still be added
	found          bool
	more           []<-chan struct{}
}

// all performs the request. An error is the answer's.
func (f *shareFetching) all(ctx context.Context) (err error) {
	q := f.q
	group, member := text(q.GroupID), text(q.MemberID)
	if q.ShareSessionEpoch == openShare && slices.ContainsFunc(q.Topics, acknowledgesAny) {
		return errAcknowledgeFirst
	}
	if f.session, err = f.r.shareSession(group, member, q.ShareSessionEpoch); err != nil {
		return err
	}
	f.resp.AcquisitionLockTimeoutMillis = int32(f.s.broker.ShareLock(group).Milliseconds())
	if err := f.begin(group, member); err != nil {
		return err
	}
	if q.ShareSessionEpoch != closeShare && !q.IsRenewAck {
		if err := f.poll(ctx); err != nil {
			return err
		}
	}
	results, err := f.acks.wait(ctx)
	if err != nil {
		return err
	}
	for _, at := range f.acks.order {
		p, err := f.partition(at), results[at]
		p.AcknowledgeErrorCode, p.AcknowledgeErrorMessage = code(err, leader), message(err)
		f.direct(p, at, err)
	}
	if q.ShareSessionEpoch == closeShare {
		return f.r.conn.leaveShare(ctx, f.session)
	}
	return nil
}

func acknowledgesAny(t kmsg.ShareFetchRequestTopic) bool {
	return slices.ContainsFunc(t.Partitions, func(p kmsg.ShareFetchRequestTopicPartition) bool { return len(p.AcknowledgementBatches) > 0 })
}

// begin hands the acknowledgements on, and changes the session.
func (f *shareFetching) begin(group, member string) error {
	for _, t := range f.q.Topics {
		for _, p := range t.Partitions {
			at := share.Place{Group: group, Topic: t.TopicID, Partition: p.Partition}
			var all []share.Acknowledgement
			for _, b := range p.AcknowledgementBatches {
				all = append(all, acknowledgement(b.FirstOffset, b.LastOffset, b.AcknowledgeTypes))
			}
			f.acks.acknowledge(f.r, at, member, all, f.q.IsRenewAck)
			if err := f.session.Add(at); err != nil {
				return err
			}
		}
	}
	for _, t := range f.q.ForgottenTopicsData {
		for _, p := range t.Partitions {
			f.session.Remove(share.Place{Group: group, Topic: t.TopicID, Partition: p})
		}
	}
	return nil
}

// poll acquires records, and waits for some if there are none.
func (f *shareFetching) poll(ctx context.Context) error {
	q := f.q
	timer, stop := f.r.waitTimer(q.MaxWaitMillis)
	defer stop()
	limit := min(int(q.MaxBytes), f.s.o.MaxResponse)
	for over := q.MaxWaitMillis <= 0 || len(f.acks.order) > 0; ; {
		if err := f.r.room(ctx, limit, min(max(limit, 1), smallAnswer)); err != nil {
			return err
		}
		f.bytes, f.records, f.more = min(limit, int(f.r.answer.Held())), int(q.MaxRecords), nil
		places := f.session.Places()
		for _, at := range places {
			if err := f.one(ctx, at); err != nil {
				return err
			}
		}
		if f.found || over || len(f.more) == 0 {
			return nil
		}
		leave, ok := f.r.conn.park(pollWeight(1, len(places)))
		if !ok { // answer at once, but delay the client's next request
			f.r.conn.mute(min(milliseconds(q.MaxWaitMillis), cutPause))
			return nil
		}
		f.r.dropAnswer()
		began := time.Now()
		over = broker.WaitAny(ctx, timer.C, f.more)
		leave()
		f.r.polled += time.Since(began)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// one acquires records of one partition.
func (f *shareFetching) one(ctx context.Context, at share.Place) error {
	if f.found && (f.bytes <= 0 || f.q.MaxRecords > 0 && f.records <= 0) {
		return nil
	}
	_, err := f.r.topic(kmsg.ACLOperationRead, "", at.Topic, true)
	var a share.Acquired
	if err == nil {
		ended := stopwatch.Bounded(ctx)
		a, err = f.s.broker.Acquire(ctx, share.Request{Place: at, Member: f.session.Member, Bytes: max(f.bytes, 1), Records: f.records})
		ended(access.Effort(bytesOf(a.Batches)))
		err = atRest(err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p := f.partition(at)
		p.ErrorCode, p.ErrorMessage = code(err, leader), message(err)
		f.direct(p, at, err)
		f.found = true
		return nil
	}
	if len(f.more)+len(a.More) <= selectLimit {
		f.more = append(f.more, a.More...)
	}
	if len(a.Records) == 0 {
		return nil
	}
	p := f.partition(at)
	p.Records = slices.Concat(a.Batches...)
	a.Lease.Release()
	for _, d := range a.Records {
		rd := kmsg.NewShareFetchResponseTopicPartitionAcquiredRecord()
		rd.FirstOffset, rd.LastOffset, rd.DeliveryCount = d.First, d.Last, int16(d.Count)
		p.AcquiredRecords = append(p.AcquiredRecords, rd)
		f.records -= int(d.Last - d.First + 1)
	}
	f.bytes -= len(p.Records)
	f.found = true
	return nil
}

// partition returns the answer of a partition.
func (f *shareFetching) partition(at share.Place) *kmsg.ShareFetchResponseTopicPartition {
	p := f.at[at]
	if p == nil {
		fresh := kmsg.NewShareFetchResponseTopicPartition()
		p, fresh.Records = &fresh, []byte{} // Kafka's client does not take null
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = none, none
		p.Partition = at.Partition
		f.at[at], f.order = p, append(f.order, at)
	}
	return p
}

// direct names the leader of a partition if err says that this node is not.
func (f *shareFetching) direct(p *kmsg.ShareFetchResponseTopicPartition, at share.Place, err error) {
	n, epoch, ok := f.r.elsewhereIs(err, at.Topic, at.Partition)
	if !ok {
		return
	}
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = n.id, epoch
	if !slices.ContainsFunc(f.resp.NodeEndpoints, func(e kmsg.ShareFetchResponseNodeEndpoint) bool { return e.NodeID == n.id }) {
		e := kmsg.NewShareFetchResponseNodeEndpoint()
		e.NodeID, e.Host, e.Port = n.id, n.host, n.port
		f.resp.NodeEndpoints = append(f.resp.NodeEndpoints, e)
	}
}

// shareBytes returns the bytes of all records of an answer.
func shareBytes(resp *kmsg.ShareFetchResponse) int {
	size := 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			size += len(resp.Topics[i].Partitions[j].Records)
		}
	}
	return size
}
