package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// Batches for partitions that other nodes lead get the numbers of an idempotent producer
// (KIP-98): a question whose answer is lost is repeated as it was, also at the next owner,
// and the log drops what it has. A partition has one question at a time under way, so its
// batches keep their order. One with numbers may have been appended until it is answered,
// so it is not given up: the numbers behind it would not be known.

const (
	// maxAway bounds the bytes of batches that wait for other nodes, and no shard has more of
	// them than what is left for the others. Further ones are refused.
	maxAway = 32 << 20
	// maxFlying is how many batches of a partition are under way at once: a log can tell so
	// many from new ones.
	maxFlying = 5
)

// appends are the batches that wait for other nodes.
type appends struct {
	mu    sync.Mutex
	lines map[Place]*line // guarded by mu, as all below; by partition, of all that ever had a batch
	busy  map[Place]*line // those with batches
	lanes map[uint32]bool // shards that have a goroutine
	bytes int             // of all batches
	away  map[uint32]int  // of them, by shard: the sum of those of its lines

	making   sync.Mutex
	producer int64 // id; -1: there is none yet; guarded by making
}

// line is the batches for a partition, in order.
type line struct {
	place   Place
	shard   uint32 // that had its slice at the last look
	bytes   int    // of all that wait
	waiting []*posted
	flying  int // the first so many are under way

	epoch int16 // of the producer in this partition
	next  int32 // sequence
}

// posted is a batch in a line.
type posted struct {
	Append
	done    func(base int64, err error) // nil: it was called
	numbers bool                        // it has numbers, or is about to: it stays until it is answered
	unsure  bool                        // a question about it had no answer, so it may be durable
	forget  func() bool                 // ends the watch over its context
}

// Append is Broker.Append, for a partition that any node may lead. done may get ErrNoLeader:
// the batch may be or become durable. When ctx ends it does. A batch is refused, and does not
// become durable, while too much waits for nodes that do not answer: in all, or for the one
// of its shard, which leaves the others room. Append does not keep the order with calls of
// Broker.Append.
func (r *Records) Append(ctx context.Context, a Append, done func(base int64, err error)) {
	if !r.b.Several() {
		r.b.append(ctx, a, nil, done)
		return
	}
	x, key := &r.appends, Place{Topic: a.Topic, Partition: a.Partition}
	slice := weir.SliceOf(a.Topic, a.Partition)
	x.mu.Lock()
	if x.busy[key] == nil {
		if _, err := r.b.at(slice); err == nil {
			x.mu.Unlock()
			r.b.append(ctx, a, nil, func(base int64, err error) {
				if errors.Is(err, ErrNotOwner) {
					err = noLeader(err)
				}
				done(base, err)
			})
			return
		}
	}
	x.mu.Unlock()
	if err := a.Batch.Verify(); !a.Verified && err != nil { // numbers renew its checksum
		done(-1, fmt.Errorf("verify batch: %w: %w", ErrCorrupt, err))
		return
	}
	a.Verified = true
	r.post(ctx, slice, &posted{Append: a, done: done})
}

// post puts a batch into its line.
func (r *Records) post(ctx context.Context, slice weir.Slice, p *posted) {
	x, key, id := &r.appends, Place{Topic: p.Topic, Partition: p.Partition}, r.b.RouteOf(slice)
	x.mu.Lock()
	var refused error
	switch {
	case r.ctx.Err() != nil:
		refused = fmt.Errorf("%w: this node ends", ErrNoLeader)
	case x.away[id]+len(p.Batch) > maxAway-x.bytes && x.bytes > 0:
		refused = fmt.Errorf("%w: %d bytes wait for other nodes, %d of them for that of shard %d", ErrNoLeader, x.bytes, x.away[id], id)
	default:
		l := x.lines[key]
		if l == nil {
			l = &line{place: key}
			x.lines[key] = l
		}
		x.move(l, id)
		l.waiting = append(l.waiting, p)
		x.busy[key] = l
		x.grow(l, len(p.Batch))
		if ctx.Done() != nil {
			p.forget = context.AfterFunc(ctx, func() { r.giveUp(ctx, l, p) })
		}
		r.run(id)
	}
	x.mu.Unlock()
	if refused != nil {
		p.done(-1, refused)
	}
}

// grow adds to what waits in a line. The caller holds mu.
func (x *appends) grow(l *line, bytes int) {
	l.bytes += bytes
	x.bytes += bytes
	if x.away[l.shard] += bytes; x.away[l.shard] == 0 {
		delete(x.away, l.shard)
	}
}

// move makes a line one of a shard, with what waits in it. The caller holds mu.
func (x *appends) move(l *line, id uint32) {
	if bytes := l.bytes; l.shard != id {
		x.grow(l, -bytes)
		l.shard = id
		x.grow(l, bytes)
	}
}

// run gives a shard a goroutine, if it has none. The caller holds appends.mu.
func (r *Records) run(id uint32) {
	if x := &r.appends; !x.lanes[id] && r.ctx.Err() == nil {
		x.lanes[id] = true
		r.tasks.Go(func() { r.lane(id) })
	}
}

// giveUp answers a batch whose context has ended. One without numbers is not sent.
func (r *Records) giveUp(ctx context.Context, l *line, p *posted) {
	x := &r.appends
	x.mu.Lock()
	done := p.done
	p.done = nil
	if done != nil && !p.numbers {
		x.remove(l, slices.Index(l.waiting, p))
	}
	x.mu.Unlock()
	if done != nil {
		done(-1, fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx)))
	}
}

// remove removes a batch from its line. The caller holds mu.
func (x *appends) remove(l *line, i int) {
	x.grow(l, -len(l.waiting[i].Batch))
	l.waiting = append(l.waiting[:i:i], l.waiting[i+1:]...)
	if len(l.waiting) == 0 {
		delete(x.busy, l.place)
	}
}

// lane sends the batches for a shard, until there are none.
func (r *Records) lane(id uint32) {
	for {
		turned := r.b.turned()
		flights := r.takeOff(id)
		if len(flights) == 0 {
			return
		}
		sent := r.send(id, flights)
		for _, f := range flights {
			sent = r.landed(f) && sent
		}
		if !sent && !look(r.ctx, turned) {
			return // refuseAll answers what is left
		}
	}
}

// flight is batches of a line under way, and their answers; none if there was no answer.
type flight struct {
	*line
	all     []*posted
	answers []appended
}

// takeOff takes batches of the lines of a shard. If there are none, the shard has no
// goroutine any more. Batches of partitions that have moved to another shard get one there.
func (r *Records) takeOff(id uint32) (flights []*flight) {
	x := &r.appends
	x.mu.Lock()
	defer x.mu.Unlock()
	size, count := 0, 0
	for key, l := range x.busy {
		if l.flying > 0 {
			continue
		}
		of := r.b.RouteOf(weir.SliceOf(key.Topic, key.Partition))
		x.move(l, of)
		if of != id {
			r.run(of)
			continue
		}
		f, most := &flight{line: l}, maxFlying
		if l.next == 0 { // the log takes any number as the first one
			most = 1
		}
		for _, p := range l.waiting[:min(len(l.waiting), most)] {
			if count == maxBatches || size > 0 && size+len(p.Batch) > flightBytes {
				break
			}
			size, count = size+len(p.Batch), count+1
			p.numbers = true
			f.all = append(f.all, p)
		}
		if l.flying = len(f.all); l.flying > 0 {
			flights = append(flights, f)
		}
	}
	if len(flights) == 0 {
		delete(x.lanes, id)
	}
	return flights
}

// send numbers batches and passes them to the node that serves the shard. It reports
// whether that has answered.
func (r *Records) send(id uint32, flights []*flight) bool {
	producer, err := r.producerID()
	if err != nil {
		return false
	}
	var all []Append
	r.appends.mu.Lock()
	for _, f := range flights {
		next := f.next
		for _, p := range f.all {
			if !noProducer(r.o.Mutations) {
				p.Batch.SetProducer(producer, f.epoch, next)
				next = following(p.Batch.LastSequence())
			}
			all = append(all, p.Append)
		}
	}
	r.appends.mu.Unlock()
	answers, err := r.deliver(id, all)
	for _, f := range flights {
		if err == nil {
			f.answers, answers = answers[:len(f.all)], answers[len(f.all):]
		}
	}
	return err == nil
}

// following returns the sequence after one.
func following(last int32) int32 {
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1
}

// deliver appends batches at the node that serves their shard. An error means that it is not
// known what became of them.
func (r *Records) deliver(id uint32, all []Append) ([]appended, error) {
	err := r.b.Serves(id)
	if err == nil {
		return r.appendHere(r.ctx, all)
	}
	owner, elsewhere := r.elsewhere(err)
	if !elsewhere {
		return nil, err
	}
	ctx, stop := r.during(r.ctx, id, owner)
	defer stop()
	d, err := r.ask(ctx, owner, askAppend, appendBatches(nil, all))
	if err != nil {
		return nil, err
	}
	return d.appended(len(all))
}

// producerID returns the producer of this node's batches.
func (r *Records) producerID() (id int64, err error) {
	x := &r.appends
	x.making.Lock()
	defer x.making.Unlock()
	if x.producer >= 0 {
		return x.producer, nil
	}
	id, err = r.b.NewProducerID(r.ctx)
	if owner, elsewhere := r.elsewhere(err); elsewhere {
		d, failed := r.ask(r.ctx, owner, askProducer, []byte{remoteVersion})
		if failed != nil {
			return -1, failed
		}
		id, _, err = d.found()
	}
	if err == nil {
		x.producer = id
	}
	return id, err
}

// verdict is what an answer means for a batch.
type verdict int

const (
	landed    verdict = iota // it is durable
	refused                  // it is not, and does not become so
	again                    // it may be: the same question follows
	misplaced                // its numbers are not those that the log expects
)

func (r *Records) judge(topic weir.TopicID, err error) verdict {
	switch {
	case err == nil:
		return landed
	case errors.Is(err, ErrNotOwner), errors.Is(err, ErrUnavailable), errors.Is(err, ErrBehind):
		return again
	case errors.Is(err, ErrUnknownTopic):
		if _, unknown := r.b.TopicByID(topic); unknown == nil {
			return again // that node has not heard of it yet, or this one not yet that it is gone
		}
	case errors.Is(err, ErrOutOfOrderSequence), errors.Is(err, ErrUnknownProducer), errors.Is(err, ErrProducerFenced):
		return misplaced
	}
	return refused
}

// landed acts on the answers about the batches of a line. It reports whether the next ones
// can follow at once. Those behind one that is to be sent again are sent again with it, also
// if they are durable: else it would get a number behind theirs, and be there twice.
func (r *Records) landed(f *flight) (ready bool) {
	x := &r.appends
	var calls []func()
	x.mu.Lock()
	f.flying = 0
	ready = f.answers != nil
	restart, skipped := false, false // since the last batch that is durable: numbers are in doubt, or free again
	stuck := false                   // a batch is to be sent again
	for i, p := range f.all {
		if f.answers == nil {
			p.unsure = true
			continue
		}
		answer := f.answers[i]
		v := r.judge(p.Topic, answer.err)
		if stuck {
			v = again
		}
		switch v {
		case landed:
			f.next, restart, skipped = following(p.Batch.LastSequence()), false, false
			calls = append(calls, x.finish(f.line, p, answer))
		case refused:
			// One that was not sure may be durable: its number must not be used again.
			restart, skipped = restart || p.unsure && !noRestart(r.o.Mutations), true
			calls = append(calls, x.finish(f.line, p, answer))
		case misplaced:
			restart = restart || !skipped
		case again:
			stuck = !noStuck(r.o.Mutations)
			p.unsure, ready = true, false
		}
	}
	if restart {
		f.restart()
	}
	x.mu.Unlock()
	for _, call := range calls {
		call()
	}
	return ready
}

// restart begins a new epoch of the producer. The caller holds appends.mu.
func (l *line) restart() {
	l.next = 0
	if l.epoch++; l.epoch < 0 {
		l.epoch = 0 // 32,768 restarts ago
	}
}

// finish removes a batch that is answered, and returns the call of its done. The caller holds
// mu.
func (x *appends) finish(l *line, p *posted, answer appended) func() {
	x.remove(l, slices.Index(l.waiting, p))
	done := p.done
	p.done = nil
	if p.forget != nil {
		p.forget()
	}
	if done == nil {
		return func() {}
	}
	return func() { done(answer.base, answer.err) }
}

// refuseAll answers what waits when this node ends.
func (r *Records) refuseAll() {
	x := &r.appends
	var calls []func()
	x.mu.Lock()
	for _, l := range x.busy {
		for len(l.waiting) > 0 {
			calls = append(calls, x.finish(l, l.waiting[0], appended{-1, fmt.Errorf("%w: this node ends", ErrNoLeader)}))
		}
	}
	x.mu.Unlock()
	for _, call := range calls {
		call()
	}
}
