package bridge

import (
	"cmp"
	"context"
	"errors"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

const (
	// fetchBytes is how much of a partition is read at a time.
	fetchBytes = 256 << 10
	// workBytes is the size of a Work from which on it takes no further batch, and
	// mostWork the one from which on it takes no further record.
	workBytes = 1 << 20
	mostWork  = 4 << 20
	// Publications wait for records of further partitions, to be one Work, until so much was
	// read, or for so long.
	waitBytes = fetchBytes
	waitTime  = 10 * time.Millisecond
	// What was read and is for nobody is noted in the log after so many bytes, or so much
	// time.
	unsaidBytes = 4 << 20
	unsaidTime  = 10 * time.Second
)

// reader reads all partitions for a vhost. One Work is on its way into the log while the
// next one is filled; it waits then. Only its goroutine uses it.
type reader struct {
	*vhost
	id     weir.TopicID // of the vhost
	growth *broker.Growth
	news   <-chan struct{} // closed when there may be topics that this node did not know
	many   bool            // the cluster had several shards when the reader began

	topics map[weir.TopicID]string          // names; "" for those that it does not read
	reach  map[weir.TopicID]map[string]bool // whether records may reach a queue, see wanted
	known  int                              // elements of reach
	asked  int64                            // changes of the bindings that reach is about
	origin []byte                           // scratch
	grown  []broker.Place                   // scratch

	dirty  []broker.Place        // may have more, oldest first
	queued map[broker.Place]bool // those in dirty, waiting or failed
	failed []broker.Place        // could not be read: another try follows
	warned bool                  // and the log says so
	retry  *time.Timer           // for failed; nil: there are none

	// Of each shard that other nodes serve one partition at a time is read in the background.
	waiting map[uint32][]broker.Place // by shard: the next ones, oldest first
	busy    map[uint32]bool           // shards of which one is being read
	silent  map[uint32]bool           // shards whose node did not answer the last time
	came    chan *read                // was read
	tasks   sync.WaitGroup            // counts those reads

	work    queue.Work            // is filled
	size    int                   // of it, bytes
	inWork  map[broker.Place]bool // has records in it
	memory  []byte                // for bodies and properties
	since   time.Time             // when its first publication was added
	flying  bool
	answer  chan error  // of the Work on its way, capacity 1
	scanned int         // bytes read since positions went into the log
	flush   *time.Timer // until positions go into the log without a message; nil: none are unsaid
	due     bool        // they are to, now

	ready chan struct{} // is closed always
}

func newReader(v *vhost, id weir.TopicID) *reader {
	r := &reader{vhost: v, id: id, growth: commitlog.NewGrowth(), topics: make(map[weir.TopicID]string), reach: make(map[weir.TopicID]map[string]bool),
		queued: make(map[broker.Place]bool), inWork: make(map[broker.Place]bool), answer: make(chan error, 1), ready: make(chan struct{}),
		waiting: make(map[uint32][]broker.Place), busy: make(map[uint32]bool), silent: make(map[uint32]bool), came: make(chan *read)}
	close(r.ready)
	return r
}

// errGone means that the vhost was deleted.
var errGone = errors.New("the vhost was deleted")

// run reads until ctx ends, which is no error, or the vhost does not follow the topics any
// more.
func (r *reader) run(ctx context.Context) error {
	r.news, r.many = r.bridge.o.Records.Changed(), r.bridge.o.Broker.Several()
	stop, err := r.bridge.o.Records.Notify(r.growth)
	if err != nil {
		return err
	}
	defer stop()
	defer r.stopTimers()
	if err := r.begin(ctx); err != nil {
		return asEnd(ctx, err)
	}
	reads, endReads := context.WithCancel(ctx)
	defer r.tasks.Wait()
	defer endReads()
	ended, err := r.bindings(ctx)
	for !ended && err == nil {
		ended, err = r.step(reads)
	}
	return asEnd(ctx, err)
}

// asEnd returns err, and nil for the errors that end a reader in order.
func asEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errGone) || errors.Is(err, queue.ErrNoVhost) {
		return nil
	}
	return err
}

func (r *reader) stopTimers() {
	for _, t := range []*time.Timer{r.retry, r.flush} {
		if t != nil {
			t.Stop()
		}
	}
}

// begin finds out where to read.
func (r *reader) begin(ctx context.Context) error {
	v := r.vhost
	v.mu.Lock()
	begun := v.begun
	v.mu.Unlock()
	select {
	case <-begun:
	case <-ctx.Done():
		return ctx.Err()
	}
	all, err := v.bridge.o.Queues.Positions(ctx, v.name, exchange)
	if err != nil {
		return err
	}
	topics, err := v.bridge.o.Records.Topics()
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.id != r.id {
		return errGone
	}
	next := make(map[broker.Place]int64)
	for _, p := range all {
		if p.Partition != follows {
			next[broker.Place(p.Partition)] = p.Offset
			r.add(broker.Place(p.Partition)) // the topic may have been deleted
		}
	}
	v.next.reset(next)
	for _, t := range topics {
		if own(t.Name) {
			continue
		}
		r.topics[t.ID] = t.Name
		for partition := range t.Partitions {
			r.add(broker.Place{Topic: t.ID, Partition: partition})
		}
	}
	return nil
}

// add adds a partition to those that may have more.
func (r *reader) add(at broker.Place) {
	if !r.queued[at] {
		r.queued[at] = true
		r.dirty = append(r.dirty, at)
	}
}

// outgrown reports whether the cluster has several shards now, which another reader must
// follow. It begins with what is durable, so this one waits for that.
func (r *reader) outgrown(ctx context.Context) (ended bool, err error) {
	if !r.bridge.o.Broker.Several() {
		return false, nil
	}
	return true, r.settle(ctx)
}

// settle waits for the answer of the Work on its way.
func (r *reader) settle(ctx context.Context) error {
	if !r.flying {
		return nil
	}
	select {
	case err := <-r.answer:
		r.flying = false
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// discover adds the partitions of topics that were not known.
func (r *reader) discover() {
	topics, err := r.bridge.o.Records.Topics()
	if err != nil {
		return // when this node knows them again, that is news
	}
	for _, t := range topics {
		if _, known := r.topics[t.ID]; known || own(t.Name) {
			continue
		}
		for partition := range t.Partitions {
			r.add(broker.Place{Topic: t.ID, Partition: partition})
		}
	}
}

// step waits for something to do, and does it. It reports whether the vhost does not
// follow the topics any more.
func (r *reader) step(ctx context.Context) (ended bool, err error) {
	var ready <-chan struct{}
	var came <-chan *read
	submits := r.submits() // first: there may be records to read for hours
	if submits || len(r.dirty) > 0 && r.size < workBytes {
		ready = r.ready
	}
	if r.size < workBytes {
		came = r.came
	}
	select {
	case <-ctx.Done():
		return true, nil
	case <-r.nudge:
		return r.bindings(ctx)
	case <-r.growth.C():
		r.grown = r.growth.Take(r.grown[:0])
		for _, at := range r.grown {
			r.add(at)
		}
	case <-r.news:
		r.news = r.bridge.o.Records.Changed()
		if r.many {
			r.discover()
			return false, nil
		}
		return r.outgrown(ctx)
	case err := <-r.answer:
		r.flying = false
		return false, err
	case x := <-came:
		return false, r.arrived(ctx, x)
	case <-after(r.retry):
		r.retry = nil
		r.dirty, r.failed = append(r.dirty, r.failed...), nil
	case <-after(r.flush):
		r.flush, r.due = nil, true
	case <-ready:
		if submits {
			return false, r.submit()
		}
		return false, r.readNext(ctx)
	}
	return false, nil
}

// after returns the channel of a timer, nil if there is none.
func after(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

// bindings looks at the bindings, which may have changed.
func (r *reader) bindings(ctx context.Context) (ended bool, err error) {
	bound, id, err := r.bridge.o.Queues.IsSource(r.name, exchange)
	switch {
	case errors.Is(err, queue.ErrNoVhost), err == nil && id != r.id:
		return true, nil
	case err != nil || bound:
		return false, err
	}
	if err := r.settle(ctx); err != nil { // its positions would come after those that leave forgets
		return false, err
	}
	return r.leave(ctx, r.id)
}

// submits reports whether the Work is to be submitted.
func (r *reader) submits() bool {
	if r.flying || r.due {
		return !r.flying
	}
	waited := r.scanned >= waitBytes || r.size >= workBytes || time.Since(r.since) >= waitTime
	return len(r.work.Publications) > 0 && (waited || len(r.dirty) == 0)
}

// submit makes the Work durable.
func (r *reader) submit() error {
	r.vhost.mu.Lock()
	defer r.vhost.mu.Unlock()
	if r.id != r.vhost.id {
		return errGone
	}
	if r.due, r.scanned = false, 0; r.flush != nil {
		r.flush.Stop()
		r.flush = nil
	}
	w := r.work
	r.work, r.size, r.memory = queue.Work{}, 0, nil
	clear(r.inWork)
	if len(w.Positions)+len(r.unsaid) == 0 {
		return nil // a binding has taken them along
	}
	r.flying = true
	parts := &countdown{answer: r.answer}
	parts.left.Store(1)
	for len(w.Publications)+len(w.Positions)+len(r.unsaid) > 0 {
		var some queue.Work
		some, w = cut(w)
		parts.left.Add(1)
		r.vhost.submit(some, func(outcomes []error, err error) {
			if i := r.bridge.counters.outcomes(outcomes); i >= 0 {
				r.bridge.o.Log.Warn("a record cannot be in a queue", "vhost", r.name, "key", some.Publications[i].Key, "err", outcomes[i])
			}
			parts.done(err)
		})
	}
	parts.done(nil)
	return nil
}

// mostAtOnce is how many records are routed at once. Meanwhile no client of the queues has
// its turn, and each record may go to thousands of them.
const mostAtOnce = 256

// cut returns the part of a Work that is submitted next, and the rest of it.
func cut(w queue.Work) (some, rest queue.Work) {
	n := min(len(w.Publications), mostAtOnce)
	some.Publications, rest.Publications = w.Publications[:n], w.Publications[n:]
	p := len(w.Positions)
	if len(rest.Publications) > 0 {
		p = sort.Search(p, func(i int) bool { return w.Positions[i].After > n })
	}
	some.Positions, rest.Positions = w.Positions[:p], w.Positions[p:]
	for i := range rest.Positions {
		rest.Positions[i].After -= n
	}
	return some, rest
}

// countdown collects the answers of the parts of a Work.
type countdown struct {
	left   atomic.Int64 // parts without an answer
	failed atomic.Pointer[error]
	answer chan<- error // gets the first error when none is left, or nil
}

// done counts the answer of a part.
func (c *countdown) done(err error) {
	if err != nil {
		c.failed.CompareAndSwap(nil, &err)
	}
	if c.left.Add(-1) > 0 {
		return
	}
	if first := c.failed.Load(); first != nil {
		c.answer <- *first
		return
	}
	c.answer <- nil
}

// note notes how far a partition was read; -1 forgets it. If records of it are in the Work,
// the position goes there.
func (r *reader) note(at broker.Place, next int64) error {
	r.vhost.mu.Lock()
	defer r.vhost.mu.Unlock()
	if r.id != r.vhost.id {
		return errGone
	}
	r.next.set(at, next)
	r.due = r.due || r.scanned >= unsaidBytes
	if r.inWork[at] {
		r.work.Positions = append(r.work.Positions, position(at, next, len(r.work.Publications)))
		return nil
	}
	r.unsaid[at] = next
	if !r.due && r.flush == nil {
		r.flush = time.NewTimer(unsaidTime)
	}
	return nil
}

// later puts a partition aside that could not be read.
func (r *reader) later(at broker.Place, err error) {
	if !r.queued[at] { // else it has grown meanwhile
		r.queued[at] = true
		r.failed = append(r.failed, at)
	}
	if r.retry == nil {
		r.retry = time.NewTimer(again)
	}
	r.warn(at, err)
}

// warn says in the log that a partition cannot be read, once until all can.
func (r *reader) warn(at broker.Place, err error) {
	if r.warned {
		return
	}
	r.warned = true
	r.bridge.o.Log.Warn("records of a topic do not reach the queues of a vhost: more tries follow", "vhost", r.name,
		"topic", cmp.Or(r.topics[at.Topic], at.Topic.String()), "partition", at.Partition, "err", err)
}
