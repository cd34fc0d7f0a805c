package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/weir"
)

// A vhost follows the topics from the first binding to its amq.topic, made by somebody who
// may read them, until the last one is gone. As long as it does, its state has a position for each partition that was there when
// it began, and for those that were read since. A partition without a position is new: it
// is read from its first record on. The positions with which it begins come before the
// binding in the log; so whoever is told that the binding is there gets all that becomes
// durable afterwards.

// follows is the partition whose position says that a vhost follows the topics. No topic
// has this id.
var follows = state.Partition{}

// vhost is a vhost as the bridge serves it.
type vhost struct {
	bridge *Bridge
	name   string
	nudge  chan struct{} // capacity 1: its reader looks at the bindings

	changes atomic.Int64 // of the bindings
	next    offsets      // what its reader reads next

	mu        sync.Mutex             // may be held until the log has room
	id        weir.TopicID           // guarded by mu, as the next ones: which vhost of the name the others are about
	following bool                   // it follows the topics, or does when what was submitted is durable
	begun     chan struct{}          // closed when the positions to begin with are durable, or cannot be
	binding   int                    // bindings on their way
	reading   bool                   // it has a reader
	told      bool                   // the log says that it does not follow them
	unsaid    map[broker.Place]int64 // positions that no Work has yet; -1: forget
}

// own reports whether a topic belongs to Weir or Kafka. Nobody gets such records by a
// binding.
func own(topic string) bool {
	return strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, "weir.")
}

// know finds out whether the vhost with that id follows the topics, if that is not known.
// The caller holds mu.
func (v *vhost) know(ctx context.Context, id weir.TopicID) error {
	if v.id == id {
		return nil
	}
	all, err := v.bridge.o.Queues.Positions(ctx, v.name, exchange)
	if err != nil {
		return err
	}
	v.id, v.following, v.begun = id, false, make(chan struct{})
	v.unsaid = make(map[broker.Place]int64)
	v.next.reset(nil)
	close(v.begun)
	for _, p := range all {
		v.following = v.following || p.Partition == follows
	}
	return nil
}

// binding is a hook: a binding is about to become part of the log. Before the first one of
// amq.topic it is noted where to begin. Before others it is noted how far the reader is,
// so that a binding does not get after a crash what was read before it was there.
func (b *Bridge) binding(ctx context.Context, vhost string, d *routing.Binding, reads bool) (done func(), err error) {
	_, id, err := b.o.Queues.IsSource(vhost, exchange)
	if err != nil {
		return nil, err
	}
	v := b.vhost(vhost)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.know(ctx, id); err != nil {
		return nil, err
	}
	switch {
	case v.following:
		v.submit(queue.Work{}, nil)
	case d.Source != exchange || !reads:
		if d.Source == exchange && !v.told {
			v.told = true
			b.o.Log.Info("the vhost does not follow the topics: who binds queues to amq.topic may not read all of them", "vhost", vhost)
		}
		return func() {}, nil
	default:
		if err := v.follow(ctx); err != nil {
			return nil, fmt.Errorf("%w: find the ends of the topics: %w", queue.ErrClosed, err)
		}
	}
	v.binding++
	return func() {
		v.mu.Lock()
		v.binding--
		v.mu.Unlock()
		b.declared(vhost)
	}, nil
}

// mostPositions bounds the positions of one entry.
const mostPositions = 20_000

// follow submits the positions to begin with: the ends of all partitions. What a
// transaction that is open has written there may still come. The caller holds mu.
func (v *vhost) follow(ctx context.Context) error {
	former, err := v.bridge.o.Queues.Positions(ctx, v.name, exchange)
	if err != nil {
		return err
	}
	ends := make(map[broker.Place]int64)
	for _, p := range former {
		ends[broker.Place(p.Partition)] = -1
	}
	topics, err := v.bridge.o.Records.Topics()
	if err != nil {
		return err
	}
	var places []broker.Place
	for _, t := range topics {
		for partition := range t.Partitions {
			if !own(t.Name) {
				places = append(places, broker.Place{Topic: t.ID, Partition: partition})
			}
		}
	}
	for i, x := range v.bridge.o.Records.Ranges(ctx, places) {
		if errors.Is(x.Err, broker.ErrUnknownTopic) {
			continue // deleted meanwhile
		}
		if x.Err != nil {
			return x.Err
		}
		ends[places[i]] = x.Stable
	}
	delete(ends, broker.Place(follows))
	for at, end := range ends {
		if v.unsaid[at] = end; len(v.unsaid) >= mostPositions {
			v.submit(queue.Work{}, nil)
		}
	}
	v.unsaid[broker.Place(follows)] = 0 // in the last entry
	begun := make(chan struct{})
	v.following, v.begun = true, begun
	v.submit(queue.Work{}, func([]error, error) { close(begun) }) // after an error the binding fails, too
	return nil
}

// submit makes work durable, with all positions that are unsaid. The caller holds mu, so
// that positions become durable in their order.
func (v *vhost) submit(w queue.Work, done func([]error, error)) {
	if len(v.unsaid) > 0 {
		all := make([]queue.Position, 0, len(v.unsaid)+len(w.Positions))
		for at, offset := range v.unsaid {
			all = append(all, position(at, offset, 0))
		}
		w.Positions = append(all, w.Positions...)
		clear(v.unsaid)
	}
	if len(w.Positions) == 0 {
		return
	}
	if done == nil {
		done = func([]error, error) {} // an error ends all that this shard serves
	}
	v.bridge.o.Queues.Submit(v.name, w, done)
}

func position(at broker.Place, offset int64, after int) queue.Position {
	return queue.Position{Reader: exchange, Position: state.Position{Partition: state.Partition(at), Offset: offset}, After: after}
}

// look gives the vhost a reader if it needs one, and has the reader that is there look at
// the bindings.
func (v *vhost) look() {
	b := v.bridge
	_, id, err := b.o.Queues.IsSource(v.name, exchange)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reading {
		select {
		case v.nudge <- struct{}{}:
		default:
		}
		return
	}
	if err == nil {
		err = v.know(b.ctx, id)
	}
	if err != nil || !v.following {
		return // deleted, or not served any more; or nothing to do
	}
	v.reading = true
	b.tasks.Go(func() { v.serve(id) })
}

// serve is the goroutine of a vhost that follows the topics.
func (v *vhost) serve(id weir.TopicID) {
	b := v.bridge
	b.o.Log.Debug("bridge: the vhost follows the topics", "vhost", v.name)
	err := newReader(v, id).run(b.ctx)
	v.mu.Lock()
	v.reading = false
	if v.id == id {
		v.next.reset(nil)
		clear(v.unsaid) // the next reader begins with what is durable
	}
	v.mu.Unlock()
	switch {
	case b.ctx.Err() != nil:
	case err == nil:
		b.o.Log.Debug("bridge: the vhost does not follow the topics any more", "vhost", v.name)
		b.declared(v.name)
	case errors.Is(err, queue.ErrClosed), errors.Is(err, broker.ErrNotOwner):
		b.o.Log.Debug("bridge: the shard is lost", "vhost", v.name, "err", err)
	default:
		b.o.Log.Warn("records do not reach the queues of a vhost: another try follows", "vhost", v.name, "err", err)
		time.AfterFunc(again, func() { b.declared(v.name) })
	}
}

// leave ends that the vhost with that id follows the topics, unless a binding is on its
// way. It reports whether it has ended.
func (v *vhost) leave(ctx context.Context, id weir.TopicID) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	bound, now, err := v.bridge.o.Queues.IsSource(v.name, exchange)
	if errors.Is(err, queue.ErrNoVhost) || err == nil && now != id {
		return true, nil // deleted, and its positions with it
	}
	if err != nil || bound || v.binding > 0 {
		return false, err
	}
	all, err := v.bridge.o.Queues.Positions(ctx, v.name, exchange)
	if err != nil {
		return false, err
	}
	clear(v.unsaid)
	v.unsaid[broker.Place(follows)] = -1
	v.submit(queue.Work{}, nil) // first: from now on the others do not count
	for _, p := range all {
		if p.Partition == follows {
			continue
		}
		if v.unsaid[broker.Place(p.Partition)] = -1; len(v.unsaid) >= mostPositions {
			v.submit(queue.Work{}, nil)
		}
	}
	v.submit(queue.Work{}, nil)
	v.following = false
	return true, nil
}

// offsets are offsets of partitions.
type offsets struct {
	mu  sync.Mutex
	all map[broker.Place]int64 // guarded by mu
}

func (o *offsets) reset(all map[broker.Place]int64) {
	o.mu.Lock()
	o.all = all
	o.mu.Unlock()
}

// list returns the partitions and their offsets.
func (o *offsets) list() (places []broker.Place, all []int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at, offset := range o.all {
		places, all = append(places, at), append(all, offset)
	}
	return places, all
}

func (o *offsets) get(at broker.Place) (offset int64, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	offset, known = o.all[at]
	return offset, known
}

// set sets the offset of a partition; -1 forgets it.
func (o *offsets) set(at broker.Place, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if offset < 0 {
		delete(o.all, at)
	} else {
		o.all[at] = offset
	}
}
