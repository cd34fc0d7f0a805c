package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// gathering is a request that several nodes perform, each of which may wait for records. The
// first answer makes the others answer too.
type gathering struct {
	r     *request
	parts []portion
	resp  []kmsg.Response // nil: the owner has not performed its part, or it is not known

	tunnels   []*tunnel
	exchanges []*exchange // nil: it has ended, or was not sent
	skipped   []bool      // it was not sent: its owner is behind
}

// run performs the request. wait is how long the nodes may wait for records. An error means
// that the client has gone.
func (p *gathering) run(ctx context.Context, wait time.Duration) error {
	type result struct {
		at int
		answer
	}
	results := make(chan result, len(p.parts))
	p.resp = make([]kmsg.Response, len(p.parts))
	p.tunnels, p.exchanges = make([]*tunnel, len(p.parts)), make([]*exchange, len(p.parts))
	p.skipped = make([]bool, len(p.parts))
	var behind <-chan struct{}
	asked := 0
	for i, one := range p.parts {
		if late := p.r.conn.relay.to(one.to).behind(); late != nil {
			behind = late // it would not be answered before what nobody waits for any more
			p.skipped[i] = true
			continue
		}
		p.tunnels[i], p.exchanges[i] = p.r.ask(one, func(resp kmsg.Response, err error) { results <- result{i, answer{resp, err}} })
		asked++
	}
	began := time.Now()
	defer func() { p.r.polled += time.Since(began) }()
	if asked == 0 && behind != nil {
		return awaitOwner(ctx, behind, wait)
	}
	late := time.NewTimer(wait + p.r.conn.s.o.LateTime)
	defer late.Stop()
	for left := asked; left > 0; {
		select {
		case got := <-results:
			p.resp[got.at] = got.resp
			p.exchanges[got.at] = nil
			if left--; left == asked-1 {
				p.hasten()
			}
		case <-late.C:
			p.leave()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, resp := range p.resp {
		if resp != nil {
			p.r.throttledBy(resp)
		}
	}
	return nil
}

// hasten asks for the answers that have not come.
func (p *gathering) hasten() {
	for i, x := range p.exchanges {
		if x != nil {
			p.tunnels[i].hasten(x)
		}
	}
}

// leave gives up the answers that have not come.
func (p *gathering) leave() {
	for i, x := range p.exchanges {
		if x != nil {
			p.tunnels[i].leave(x)
		}
	}
}

// awaitOwner waits, as long as a client is ready to wait for records, for an owner that is
// behind. So the client does not ask again and again. An error means that it has gone.
func awaitOwner(ctx context.Context, behind <-chan struct{}, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-behind:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// relayFetch performs a Fetch of which other nodes lead some partitions. It holds no memory
// of the pool for answers while it waits for them: they may wait for that of this node.
func (r *request) relayFetch(ctx context.Context, q *kmsg.FetchRequest, parts []portion) (*fetchResponse, error) {
	resp := &fetchResponse{FetchResponse: kmsg.FetchResponse{Version: q.Version}, committed: q.IsolationLevel == readCommitted}
	switch {
	case q.Version >= sessionFetch && q.SessionID != 0:
		resp.err = errSession
		return resp, nil
	case q.Version >= sessionFetch && q.SessionEpoch != finalEpoch && q.SessionEpoch != firstEpoch:
		resp.err = errSessionEpoch
		return resp, nil
	}
	limit := min(max(int(q.MaxBytes), 1), r.conn.s.o.MaxResponse)
	claim, err := r.ownersRoom(ctx, limit, len(parts)*smallAnswer)
	if err != nil {
		return nil, err
	}
	r.answer = claim // until the client has taken the answer
	for i := range parts {
		parts[i].q.(*kmsg.FetchRequest).MaxBytes = int32(max(min(limit, int(claim.Held()))/len(parts), 1))
	}
	p := gathering{r: r, parts: parts}
	if err := p.run(ctx, min(milliseconds(q.MaxWaitMillis), maxPoll)); err != nil {
		return nil, err
	}
	for i, one := range parts {
		if p.resp[i] == nil { // this node says that it does not lead the partitions
			here := *one.q.(*kmsg.FetchRequest)
			here.MaxWaitMillis = 0
			if p.resp[i], err = r.askHere(ctx, &here); err != nil {
				return nil, err
			}
		}
	}
	size := resp.take(q, p.resp, limit)
	if held := claim.Held(); int64(size) <= held {
		claim.Shrink(int64(size))
	} else if r.answer, err = claimAgain(ctx, r.conn.owners(), claim, size, r.conn.s.largestAnswer()); err != nil {
		return nil, err
	}
	return resp, nil
}

// claimAgain takes memory for an answer whose first batches are larger than what was taken.
func claimAgain(ctx context.Context, peer *budget.Peer, old *budget.Claim, size, most int) (*budget.Claim, error) {
	old.Release()
	defer stopwatch.Waiting(ctx)()
	return peer.Take(ctx, int64(min(size, most)))
}

// owners is the connection's account for answers of owners.
func (c *conn) owners() *budget.Peer { return c.relay.memory }

// ownersRoom takes memory for answers of owners: want or, if the pool is short, part of
// it. It waits only for least.
func (r *request) ownersRoom(ctx context.Context, want, least int) (*budget.Claim, error) {
	peer, most := r.conn.owners(), r.conn.s.largestAnswer()
	want, least = min(want, most), min(least, most)
	for n := want; n > least; n /= 4 {
		if claim := peer.TryTake(int64(n)); claim != nil {
			return claim, nil
		}
	}
	defer stopwatch.Waiting(ctx)()
	return peer.Take(ctx, int64(least))
}

// take puts the answers of owners together, in the order of the request. It leaves out
// records beyond the limit, unless they are the first. It returns their bytes.
func (f *fetchResponse) take(q *kmsg.FetchRequest, all []kmsg.Response, limit int) (size int) {
	type place struct {
		name      string
		id        [16]byte
		partition int32
	}
	parts := make(map[place]*kmsg.FetchResponseTopicPartition)
	for _, resp := range all {
		from := resp.(*kmsg.FetchResponse)
		for i := range from.Topics {
			t := &from.Topics[i]
			for j := range t.Partitions {
				parts[place{t.Topic, t.TopicID, t.Partitions[j].Partition}] = &t.Partitions[j]
			}
		}
		if len(from.Brokers) > 0 && f.nodes == nil {
			f.nodes = []node{{from.Brokers[0].NodeID, from.Brokers[0].Port, from.Brokers[0].Host}}
		}
	}
	f.topics = make([]fetchedTopic, len(q.Topics))
	for i := range q.Topics {
		t := &q.Topics[i]
		ft := &f.topics[i]
		ft.name, ft.id = t.Topic, t.TopicID
		for j := range t.Partitions {
			p := fetchedPart{index: t.Partitions[j].Partition, start: none, end: none, stable: none, err: broker.ErrNotOwner}
			if from := parts[place{t.Topic, t.TopicID, p.index}]; from != nil {
				if size > 0 && size+len(from.RecordBatches) > limit {
					from.RecordBatches = nil
				}
				size += len(from.RecordBatches)
				p.take(from)
			}
			ft.parts = append(ft.parts, p)
		}
	}
	return size
}

// take takes over what an owner has answered.
func (p *fetchedPart) take(from *kmsg.FetchResponseTopicPartition) {
	p.err = coded(from.ErrorCode)
	p.start, p.end, p.stable = from.LogStartOffset, from.HighWatermark, from.LastStableOffset
	for _, a := range from.AbortedTransactions {
		p.aborted = append(p.aborted, broker.Aborted{Producer: a.ProducerID, First: a.FirstOffset})
	}
	if len(from.RecordBatches) > 0 {
		p.batches = [][]byte{from.RecordBatches}
	}
	if from.CurrentLeader.LeaderID >= 0 {
		p.elsewhere, p.leader, p.epoch = true, from.CurrentLeader.LeaderID, from.CurrentLeader.LeaderEpoch
	}
}
