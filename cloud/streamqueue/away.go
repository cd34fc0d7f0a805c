package streamqueue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

// Partitions that other nodes lead are read in the background, one of each shard at a time: a
// node that is silent delays nothing that others have.

// readTime bounds such a read, and how long reader.read waits for one.
const readTime = 2 * time.Second

// awayBytes is how much is read at a time, in bytes at rest: a consumer that takes nothing
// holds it once for each shard.
const awayBytes = 64 << 10

// doubtPause is how soon a node is asked again that could not say whether it still leads a
// partition.
const doubtPause = 200 * time.Millisecond

// away is what is being read of other nodes.
type away struct {
	busy   map[uint32]bool // shards of which a partition is being read, or was; owned by the reader
	silent map[uint32]bool // shards whose node did not answer the last time; likewise
	came   chan struct{}   // capacity 1: has an element when done has got one

	mu   sync.Mutex
	done []*read // guarded by mu
}

// read is one read of a partition.
type read struct {
	partition int32
	shard     uint32 // that had it
	at        int64  // offset
	f         broker.Fetched
	err       error
}

func newAway() *away {
	return &away{busy: make(map[uint32]bool), silent: make(map[uint32]bool), came: make(chan struct{}, 1)}
}

func (a *away) put(x *read) {
	a.mu.Lock()
	a.done = append(a.done, x)
	a.mu.Unlock()
	select {
	case a.came <- struct{}{}:
	default:
	}
}

// take returns what was read, nil if there is nothing.
func (a *away) take() (x *read) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.done) > 0 {
		x, a.done = a.done[0], a.done[1:]
	}
	return x
}

// arrived reports whether take returns something.
func (a *away) arrived() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.done) > 0
}

// begin begins to read a partition if another node leads it, unless another partition of its
// shard is being read. It reports false if this node leads it.
func (r *reader) begin(ctx context.Context, partition int32) bool {
	b := r.t.o.Broker
	shard := b.RouteOf(weir.SliceOf(r.topic.ID, partition))
	if !b.Several() || b.Serves(shard) == nil {
		return false
	}
	if r.away.busy[shard] {
		return true
	}
	r.away.busy[shard], r.due[partition] = true, false
	x := &read{partition: partition, shard: shard, at: r.positions[partition]}
	go func() { // it ends with ctx, or after readTime
		ctx, cancel := context.WithTimeout(ctx, readTime)
		defer cancel()
		x.f, x.err = r.t.o.Records.FetchCommitted(ctx, r.topic.ID, partition, x.at, awayBytes)
		if errors.Is(x.err, broker.ErrUnavailable) {
			_ = pause.For(ctx, doubtPause)
		}
		r.away.put(x)
	}()
	return true
}

// finish returns messages of what was read in the background, none if there are none. A
// partition whose node has not answered is due again.
func (r *reader) finish(x *read, most int) ([]queue.Delivery, error) {
	delete(r.away.busy, x.shard)
	if x.at != r.positions[x.partition] { // its slice has moved, and it was read in the new shard, too
		x.f.Lease.Release()
		r.due[x.partition] = true
		return nil, nil
	}
	if errors.Is(x.err, broker.ErrNoLeader) || errors.Is(x.err, broker.ErrUnavailable) {
		r.due[x.partition] = true
		if !r.away.silent[x.shard] {
			r.away.silent[x.shard] = true
			r.t.o.Log.Warn("messages of a partition do not reach the consumers of a stream queue: more tries follow", "topic", r.topic.Name, "partition", x.partition, "err", x.err)
		}
		return nil, nil
	}
	delete(r.away.silent, x.shard)
	all, more, err := r.take(x.partition, &x.f, x.err, most)
	r.due[x.partition] = r.due[x.partition] || more
	if err != nil {
		return nil, r.failed(x.partition, err)
	}
	return all, nil
}

// watch returns channels of which one is closed when a partition has grown.
func (r *reader) watch() (all []<-chan struct{}) {
	for p := range r.positions {
		all = append(all, r.t.o.Records.Watch(r.topic.ID, int32(p)))
	}
	return all
}
