package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/weir"
)

// Fetch (key 1): reads stored record batches.
//
// Behaviour:
//   - Batches are sent whole, as they are stored. The first batch of a partition
//     contains the offset that was asked for, possibly not as its first.
//   - The answer waits until there are min_bytes, an error, or max_wait is over.
//   - max_bytes and the limit of each partition hold, except for the first batch of
//     the answer, so that a larger batch does not stop a consumer (KIP-74). The
//     server's own limit works in the same way.
//   - Fetch sessions (KIP-227) are not kept: the answer has session id 0, and clients
//     go on sending full requests.
//   - A reader of committed records gets records up to the last stable offset, and a
//     list of the aborted transactions among them. Both isolation levels get that
//     offset.
//   - Before v10 a topic whose compression.type is zstd is refused. Zstd batches in
//     other topics, from a producer or a gateway, are sent as they are.
//   - Followers do not fetch: replica ids and racks are ignored.
//
// Versions:
//   - v4: record batches, isolation level; v5: log start offset
//   - v7: sessions; v9: leader epoch of the client; v10: zstd may be sent
//   - v11: preferred replica (none); v12: flexible, last fetched epoch (ignored)
//   - v13: topic ids; v15: replica state; v17: directory id
//   - v12, v16: the leader and its address, if it is another node (KIP-951)

const (
	sessionFetch = 7
	zstdFetch    = 10
	rackFetch    = 11
	leaderFetch  = 12
	idFetch      = 13
	nodesFetch   = 16

	readCommitted = 1
	finalEpoch    = -1 // fetch session: none is wanted
	firstEpoch    = 0  // fetch session: one is wanted, but not given

	// selectLimit is how many partitions are waited for at once: the limit of
	// reflect.Select, less one channel for the context and one for the time.
	selectLimit = 1<<16 - 2
)

// fetchResponse is encoded without kmsg, so that batches are not copied. Of the
// embedded response only Version and ThrottleMillis are used.
type fetchResponse struct {
	kmsg.FetchResponse
	err       error
	committed bool // read_committed: an empty list of aborted transactions is [], not null
	topics    []fetchedTopic
	nodes     []node          // leaders of partitions that this node does not lead
	leases    []*broker.Lease // of the batches
}

// release says that nobody refers to the batches any more.
func (f *fetchResponse) release() {
	for _, l := range f.leases {
		l.Release()
	}
	f.leases = nil
}

type fetchedTopic struct {
	name  string
	id    [16]byte
	parts []fetchedPart
}

type fetchedPart struct {
	index      int32
	err        error
	start, end int64
	stable     int64 // last stable offset
	aborted    []broker.Aborted
	batches    [][]byte

	elsewhere bool // another node leads the partition: the next two
	leader    int32
	epoch     int32
}

func (s *Server) fetch(ctx context.Context, r *request, q *kmsg.FetchRequest) (*fetchResponse, error) {
	switch {
	case q.Version >= sessionFetch && q.SessionID != 0:
		return &fetchResponse{FetchResponse: kmsg.FetchResponse{Version: q.Version}, err: errSession}, nil
	case q.Version >= sessionFetch && q.SessionEpoch != finalEpoch && q.SessionEpoch != firstEpoch:
		return &fetchResponse{FetchResponse: kmsg.FetchResponse{Version: q.Version}, err: errSessionEpoch}, nil
	}
	limit := min(int(q.MaxBytes), s.o.MaxResponse)
	least := min(max(limit, 1), smallAnswer)
	timer, stop := r.waitTimer(q.MaxWaitMillis)
	defer stop()
	for over := q.MaxWaitMillis <= 0; ; {
		if err := r.room(ctx, limit, least); err != nil {
			return nil, err
		}
		held := int(r.answer.Held())
		f := fetching{s: s, ctx: ctx, r: r, q: q, left: min(limit, held), watch: !over}
		resp := f.all()
		if f.size > held && held < s.largestAnswer() { // the first batch may exceed all limits: take enough memory for it
			least = f.size
			resp.release()
			continue
		}
		if over || f.failed || f.size >= min(int(q.MinBytes), limit) || len(f.watches) == 0 {
			r.answer.Shrink(int64(f.size))
			return resp, nil
		}
		leave, ok := r.conn.park(fetchWeight(q))
		if !ok { // answer at once, but delay the client's next request
			r.conn.mute(min(milliseconds(q.MaxWaitMillis), cutPause))
			r.answer.Shrink(int64(f.size))
			return resp, nil
		}
		r.dropAnswer()
		resp.release()
		began := time.Now()
		over = broker.WaitAny(ctx, timer.C, f.watches)
		leave()
		r.polled += time.Since(began)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// fetching is one round over the partitions of a request.
type fetching struct {
	s       *Server
	ctx     context.Context
	r       *request
	q       *kmsg.FetchRequest
	left    int  // bytes that may still be added
	size    int  // bytes found
	failed  bool // a partition has an error, which is answered at once
	watch   bool
	watches []<-chan struct{}
	leases  []*broker.Lease
}

func (f *fetching) all() *fetchResponse {
	resp := &fetchResponse{
		FetchResponse: kmsg.FetchResponse{Version: f.q.Version},
		committed:     f.q.IsolationLevel == readCommitted,
		topics:        make([]fetchedTopic, len(f.q.Topics)),
	}
	for i := range f.q.Topics {
		t := &f.q.Topics[i]
		topic, unknown := f.r.topic(kmsg.ACLOperationRead, t.Topic, t.TopicID, f.q.Version >= idFetch)
		resp.topics[i] = fetchedTopic{name: t.Topic, id: t.TopicID, parts: make([]fetchedPart, len(t.Partitions))}
		for j := range t.Partitions {
			want, got := &t.Partitions[j], &resp.topics[i].parts[j]
			got.index, got.start, got.end, got.stable = want.Partition, none, none, none
			if got.err = unknown; got.err == nil {
				got.err = f.one(topic, want, got)
				f.direct(resp, got, topic.ID)
			}
			f.failed = f.failed || got.err != nil
		}
	}
	resp.leases = f.leases
	return resp
}

// direct names the leader of a partition if another node is.
func (f *fetching) direct(resp *fetchResponse, got *fetchedPart, topic weir.TopicID) {
	n, epoch, ok := f.r.elsewhereIs(got.err, topic, got.index)
	if !ok {
		return
	}
	got.elsewhere, got.leader, got.epoch = true, n.id, epoch
	if !slices.ContainsFunc(resp.nodes, func(other node) bool { return other.id == n.id }) {
		resp.nodes = append(resp.nodes, n)
	}
}

// one reads one partition. It begins to watch before it reads, so that it misses no
// record that comes in between.
func (f *fetching) one(topic broker.Topic, want *kmsg.FetchRequestTopicPartition, got *fetchedPart) error {
	if err := f.s.checkEpoch(topic.ID, want.Partition, want.CurrentLeaderEpoch); err != nil {
		return err
	}
	if f.q.Version < zstdFetch && f.s.broker.TopicValue(topic, "compression.type") == "zstd" {
		return errCodec
	}
	var watch <-chan struct{}
	if f.watch && len(f.watches) < selectLimit {
		watch = f.s.broker.Watch(topic.ID, want.Partition)
	}
	limit := min(int(want.PartitionMaxBytes), f.left)
	if f.size > 0 && limit <= 0 { // full, but the client still learns the bounds
		var err error
		got.stable, err = f.s.broker.Stable(topic.ID, want.Partition)
		if err == nil { // read after stable, so that end is not below it
			got.start, got.end, err = f.s.broker.Bounds(topic.ID, want.Partition)
		}
		return err
	}
	read := f.s.broker.Fetch
	if f.q.IsolationLevel == readCommitted {
		read = f.s.broker.FetchCommitted
	}
	ended := stopwatch.Bounded(f.ctx)
	found, err := read(f.ctx, topic.ID, want.Partition, want.FetchOffset, max(limit, 1))
	ended(access.Effort(bytesOf(found.Batches)))
	if err != nil {
		if errors.Is(err, broker.ErrOffsetOutOfRange) {
			got.start, got.end, got.stable = found.Start, found.End, found.Stable // answered with this error too
		}
		return atRest(err)
	}
	if len(found.Batches) > 0 {
		f.leases = append(f.leases, found.Lease)
	}
	got.start, got.end, got.stable, got.aborted = found.Start, found.End, found.Stable, found.Aborted
	for _, b := range found.Batches {
		if len(b) > limit && f.size > 0 {
			break
		}
		got.batches = append(got.batches, b)
		limit -= len(b)
		f.left -= len(b)
		f.size += len(b)
	}
	if watch != nil {
		f.watches = append(f.watches, watch)
	}
	return nil
}

// atRest marks damage to stored records, which is not the client's fault.
func atRest(err error) error {
	if errors.Is(err, broker.ErrCorrupt) {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	return err
}

// AppendTo appends the whole response, with copies of the batches.
func (f *fetchResponse) AppendTo(dst []byte) []byte {
	chunks, _ := f.chunks(dst)
	dst = nil
	for _, c := range chunks {
		dst = append(dst, c...)
	}
	return dst
}

// chunks returns head and the response after it. All that is not a batch is in one
// buffer; the batches are not copied. size is the total length.
func (f *fetchResponse) chunks(head []byte) (chunks net.Buffers, size int) {
	w := writer{p: head, flexible: f.IsFlexible()}
	type cut struct {
		at      int // in w.p
		batches [][]byte
	}
	var cuts []cut
	w.int32(f.ThrottleMillis)
	if f.Version >= sessionFetch {
		w.int16(code(f.err, leader))
		w.int32(0) // session id
	}
	w.length(len(f.topics))
	for i := range f.topics {
		t := &f.topics[i]
		if f.Version >= idFetch {
			w.p = append(w.p, t.id[:]...)
		} else {
			w.string(t.name)
		}
		w.length(len(t.parts))
		for j := range t.parts {
			p := &t.parts[j]
			if f.part(&w, p); len(p.batches) > 0 {
				cuts = append(cuts, cut{len(w.p), p.batches})
			}
			if f.Version >= leaderFetch && p.elsewhere {
				w.leader(p.leader, p.epoch)
				continue
			}
			w.tags()
		}
		w.tags()
	}
	if f.Version >= nodesFetch && len(f.nodes) > 0 {
		w.endpoints(f.nodes)
	} else {
		w.tags()
	}

	from := 0
	for _, c := range cuts {
		chunks = append(chunks, w.p[from:c.at])
		chunks = append(chunks, c.batches...)
		from = c.at
	}
	chunks = append(chunks, w.p[from:])
	for _, c := range chunks {
		size += len(c)
	}
	return chunks, size
}

// codes calls fn for each error code in the response.
func (f *fetchResponse) codes(fn func(code int16)) {
	if f.err != nil {
		fn(code(f.err, leader))
	}
	for i := range f.topics {
		for j := range f.topics[i].parts {
			if err := f.topics[i].parts[j].err; err != nil {
				fn(code(err, leader))
			}
		}
	}
}

// size returns the bytes of all batches.
func (f *fetchResponse) size() int {
	size := 0
	for i := range f.topics {
		for j := range f.topics[i].parts {
			size += bytesOf(f.topics[i].parts[j].batches)
		}
	}
	return size
}

func bytesOf(batches [][]byte) int {
	size := 0
	for _, b := range batches {
		size += len(b)
	}
	return size
}

// part writes what precedes the batches of a partition.
func (f *fetchResponse) part(w *writer, p *fetchedPart) {
	w.int32(p.index)
	w.int16(code(p.err, leader))
	w.int64(p.end) // high watermark
	w.int64(p.stable)
	if f.Version >= 5 {
		w.int64(p.start)
	}
	if f.committed {
		w.length(len(p.aborted))
	} else {
		w.length(-1)
	}
	for _, a := range p.aborted {
		w.int64(a.Producer)
		w.int64(a.First)
		w.tags()
	}
	if f.Version >= rackFetch {
		w.int32(-1) // preferred read replica
	}
	w.length(bytesOf(p.batches))
}
