package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Produce (key 0): appends one record batch to each partition named.
//
// Behaviour:
//   - Batches are passed to the broker at once, in the order in which they came, even
//     while earlier ones are in flight. The answer follows when all are durable.
//   - acks 1 and -1 mean the same: durable in the bucket. With acks 0 there is no
//     answer, and an error closes the connection, as in Kafka.
//   - Each partition succeeds or fails by itself.
//   - The records of a partition must be one batch of version 2 with a correct CRC.
//     The log checks the records. Control batches are refused.
//   - A transactional batch must belong to the ongoing transaction of the producer in
//     its header, under the transactional id of the request.
//   - timeout_ms is ignored: the server could only answer "unknown" after it, which
//     the client's own time-out says already.
//
// Versions:
//   - v0–2: other record formats. Advertised (see table), refused on receipt.
//   - v7: zstd is allowed
//   - v8: error messages; the records that are at fault (KIP-467), so that a client
//     can send the others again
//   - v9: flexible
//   - v10: the leader in the response, if it is another node (KIP-951)
//   - v11: TRANSACTION_ABORTABLE; v12: a batch adds its partition to the transaction
//     (transactions v2, KIP-890), CONCURRENT_TRANSACTIONS
//   - v13: topic ids

const (
	firstProduce     = 3
	zstdProduce      = 7
	flexibleProduce  = 9
	abortableProduce = 11
	implicitProduce  = 12
	idProduce        = 13

	minProducedTopic = 2       // bytes: name, partitions
	minProducedPart  = 5       // bytes: index, records
	maxProducedParts = 1 << 15 // topics, and partitions of all of them, in one request

	none = -1 // for an offset or a timestamp that does not exist
)

var errTooMany = errors.New("too many topics or partitions")

// produceRequest is decoded by hand. It is the only large request, and kmsg would let
// a hostile one allocate a hundred times its size.
type produceRequest struct {
	id      string // transactional id, "" for none
	acks    int16
	timeout int32 // ms
	topics  []producedTopic
}

type producedTopic struct {
	name  string   // before v13
	id    [16]byte // from v13
	parts []producedPart
}

type producedPart struct {
	index   int32
	records []byte // alias the frame

	err  error // set by done, like base; read when the reply is ready
	base int64
	away *kmsg.ProduceResponseTopicPartition // what the owner says, if that is another node
}

func readProduce(p []byte, version int16) (produceRequest, error) {
	var q produceRequest
	r := reader{p: p, flexible: version >= flexibleProduce}
	q.id = string(r.nullableString())
	q.acks = r.int16()
	q.timeout = r.int32()
	topics := r.array(minProducedTopic)
	if topics > maxProducedParts {
		return q, errTooMany
	}
	q.topics = make([]producedTopic, topics)
	left := maxProducedParts
	for i := range q.topics {
		t := &q.topics[i]
		if version >= idProduce {
			t.id = r.uuid()
		} else {
			t.name = string(r.nullableString())
		}
		parts := r.array(minProducedPart)
		if left -= parts; left < 0 {
			return q, errTooMany
		}
		t.parts = make([]producedPart, parts)
		for j := range t.parts {
			t.parts[j] = producedPart{index: r.int32(), records: r.nullableBytes(), base: none}
			r.tags()
		}
		r.tags()
	}
	r.tags()
	return q, r.err()
}

// produce passes the batches of a request to the broker and returns the reply, which
// is ready later. The request's memory is released when the last batch is durable or
// refused, even if the client has gone.
func (c *conn) produce(r *request) (*reply, error) {
	if r.version < firstProduce {
		r.release()
		return nil, violated("version %d of Produce is not served", r.version)
	}
	ctx := r.start(c.s.ctx) // what was read is performed, even if the client has gone
	defer r.countTime()
	q, err := readProduce(r.body, r.version)
	if err != nil {
		r.release()
		return nil, violated("decode Produce v%d: %w", r.version, err)
	}
	x := &producing{r: r, q: q, reply: &reply{request: r, ready: make(chan struct{}), sent: make(chan struct{})}}
	x.reply.finish = func() (kmsg.Response, error) { return r.produced(&x.q) }
	x.flying.Store(1) // for the rest of this function, so that ready is closed once, at the end
	for i := range q.topics {
		x.topic(ctx, i)
	}
	if x.others == nil {
		x.size = r.size
	}
	if x.size > 0 {
		r.countBytes(quota.Produce, x.size) // the others count what they append
	}
	for _, a := range x.others {
		x.flying.Add(1)
		r.produceAway(a, &x.q, x.landed)
	}
	x.landed()
	return x.reply, nil
}

// producing is a Produce whose batches are on their way.
type producing struct {
	r      *request
	q      produceRequest
	reply  *reply
	flying atomic.Int64 // batches and parts without a result
	others []*away      // nodes that append a part
	size   int          // bytes that this node appends
}

// landed counts a result.
func (x *producing) landed() {
	if x.flying.Add(-1) == 0 {
		x.r.release()
		close(x.reply.ready)
	}
}

// topic passes the batches of a topic on.
func (x *producing) topic(ctx context.Context, i int) {
	r, t := x.r, &x.q.topics[i]
	topic, err := r.writable(ctx, t, r.version >= idProduce)
	for j := range t.parts {
		p := &t.parts[j]
		if p.err = err; p.err == nil {
			p.err = p.check(x.q.acks, r.version)
		}
		if p.err == nil && p.transactional() {
			p.err = r.mayProduce(x.q.id)
		}
		if p.err != nil {
			continue
		}
		if to := r.conn.relay.leader(topic.ID, p.index); to.Name != "" {
			var one *away
			one, x.others = awayFor(x.others, to)
			one.add(placeOf{i, j}, p)
			continue
		}
		x.append(ctx, topic.ID, p)
	}
}

// append appends a batch to a partition that this node leads.
func (x *producing) append(ctx context.Context, topic weir.TopicID, p *producedPart) {
	s := x.r.conn.s
	x.size += len(p.records)
	x.flying.Add(1)
	a := broker.Append{Topic: topic, Partition: p.index, Batch: p.records, Verified: true}
	done := func(base int64, err error) {
		p.done(s.count, base, err)
		x.landed()
	}
	if !p.transactional() {
		s.broker.Produce(ctx, a, done)
		return
	}
	s.broker.AppendTransactional(ctx, a, broker.Transaction{ID: x.q.id, Implicit: x.r.version >= implicitProduce}, done)
}

// check checks what the door can check of a partition's records.
func (p *producedPart) check(acks, version int16) error {
	if acks < -1 || acks > 1 {
		return errAcks
	}
	if len(p.records) == 0 {
		return errInvalidRecord
	}
	b, rest, err := record.Next(p.records)
	switch {
	case err != nil:
		return err
	case len(rest) > 0 || b.Control():
		return errInvalidRecord
	case b.Codec() == record.Zstd && version < zstdProduce:
		return errCodec
	}
	return b.Verify()
}

// transactional reports whether the batch, which was checked, is transactional.
func (p *producedPart) transactional() bool { return record.Batch(p.records).Transactional() }

// mayProduce returns nil if the client may write with the transactional id, else an
// error.
func (r *request) mayProduce(id string) error {
	if id == "" {
		return errNoTransaction
	}
	return r.mayTransaction(kmsg.ACLOperationWrite, id)
}

// produceCode translates an error to a code that clients of Produce understand: to
// them PRODUCER_FENCED means something else, and before v12 no code tells them to
// wait for a transaction.
func produceCode(err error, version int16) int16 {
	c := olderCode(code(err, leader), false, version >= abortableProduce)
	if c == kerr.ConcurrentTransactions.Code && version < implicitProduce {
		return kerr.NotEnoughReplicas.Code
	}
	return c
}

// done stores the result of the batch. Its bytes are no longer needed.
func (p *producedPart) done(count *counters, base int64, err error) {
	if err == nil {
		count.landed(p.records)
	}
	p.base, p.err, p.records = base, err, nil
}

// produced returns the response to a request whose batches have all landed or failed.
func (r *request) produced(q *produceRequest) (kmsg.Response, error) {
	s, version := r.conn.s, r.version
	resp := kmsg.NewPtrProduceResponse()
	resp.Version, resp.ThrottleMillis = version, max(r.wait, r.waitLater.Load())
	for i := range q.topics {
		t := &q.topics[i]
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.name, t.id
		topic, unknown := s.find(t.name, t.id, version >= idProduce)
		for j := range t.parts {
			p := &t.parts[j]
			if p.err != nil && q.acks == 0 {
				return nil, fmt.Errorf("append without acks to partition %d of topic %q: %w", p.index, t.name, p.err)
			}
			if p.away != nil {
				rt.Partitions = append(rt.Partitions, *p.away)
				r.directHere(resp, p.away)
				continue
			}
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = p.index, p.base, none, none
			if rp.ErrorCode = produceCode(p.err, version); p.err != nil {
				rp.BaseOffset, rp.ErrorMessage = none, message(p.err)
				rp.ErrorRecords = recordErrors(p.err)
				r.direct(resp, &rp, topic.ID)
			} else if unknown == nil {
				s.appended(topic, &rp)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if q.acks == 0 {
		return nil, nil
	}
	return resp, nil
}

// direct names the leader of a partition if another node is.
func (r *request) direct(resp *kmsg.ProduceResponse, rp *kmsg.ProduceResponseTopicPartition, topic weir.TopicID) {
	if rp.ErrorCode != kerr.NotLeaderForPartition.Code {
		return
	}
	n, epoch, ok := r.elsewhereIs(broker.ErrNotOwner, topic, rp.Partition)
	if !ok {
		return
	}
	rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = n.id, epoch
	if !slices.ContainsFunc(resp.Brokers, func(b kmsg.ProduceResponseBroker) bool { return b.NodeID == n.id }) {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port = n.id, n.host, n.port
		resp.Brokers = append(resp.Brokers, b)
	}
}

// recordErrors lists the records that an error names, if it names any.
func recordErrors(err error) []kmsg.ProduceResponseTopicPartitionErrorRecord {
	var refused *broker.RecordsError
	if !errors.As(err, &refused) {
		return nil
	}
	list := make([]kmsg.ProduceResponseTopicPartitionErrorRecord, len(refused.Records))
	for i, r := range refused.Records {
		list[i].RelativeOffset, list[i].ErrorMessage = r.Index, nullable(r.Text)
	}
	return list
}

// appended adds the partition's log start and append time to a successful answer.
func (s *Server) appended(topic broker.Topic, rp *kmsg.ProduceResponseTopicPartition) {
	if start, _, err := s.broker.Bounds(topic.ID, rp.Partition); err == nil {
		rp.LogStartOffset = start
	}
	if s.broker.TopicValue(topic, "message.timestamp.type") != "LogAppendTime" {
		return
	}
	// The time was set on the log's own copy, which is in its tail cache.
	if f, err := s.broker.Fetch(s.ctx, topic.ID, rp.Partition, rp.BaseOffset, 1); err == nil && len(f.Batches) > 0 {
		defer f.Lease.Release()
		if b := record.Batch(f.Batches[0]); b.LogAppendTime() {
			rp.LogAppendTime = b.MaxTimestamp()
		}
	}
}
