package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

// Who reads partitions in all shards follows each shard: its log here, or a stream from the
// node that serves it. When a stream begins, all partitions with records count as grown:
// they may have while there was none.

// watchTime is after how long at most a channel of Watch is closed for no reason, so that
// nothing stays of those that nobody waits for any more.
const watchTime = time.Minute

// follows are the readers that want to know which partitions grow.
type follows struct {
	mu      sync.Mutex
	growths map[*Growth]struct{}    // guarded by mu, as all below
	watches map[Place]chan struct{} // closed when the partition grows
	running map[uint32]bool         // shards that are followed
}

// Notify is Broker.Notify for the partitions of all shards, wherever they are led. In a
// cluster of several shards hidden topics are not among them, and partitions may be that
// have not grown.
func (r *Records) Notify(g *Growth) (stop func(), err error) {
	if !r.b.Several() {
		return r.b.Notify(g)
	}
	x := &r.follows
	x.mu.Lock()
	defer x.mu.Unlock()
	x.growths[g] = struct{}{}
	r.followRouted()
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.growths, g)
	}, nil
}

// Watch is Broker.Watch, for a partition that any node may lead.
func (r *Records) Watch(id weir.TopicID, partition int32) <-chan struct{} {
	slice := weir.SliceOf(id, partition)
	if _, err := r.b.at(slice); err == nil || !r.b.Several() {
		return r.b.Watch(id, partition)
	}
	x, key := &r.follows, Place{Topic: id, Partition: partition}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.watches[key]
	if c == nil {
		c = make(chan struct{})
		x.watches[key] = c
	}
	r.followed(r.b.RouteOf(slice))
	return c
}

// followRouted begins to follow the shards that have slices. The caller holds follows.mu.
func (r *Records) followRouted() {
	for _, id := range r.b.Routed() {
		r.followed(id)
	}
}

// followed begins to follow a shard, unless that has begun. The caller holds follows.mu.
func (r *Records) followed(id uint32) {
	if x := &r.follows; !x.running[id] && r.ctx.Err() == nil {
		x.running[id] = true
		r.tasks.Go(func() { r.follow(id) })
	}
}

// follow follows a shard until nobody wants to know of it any more.
func (r *Records) follow(id uint32) {
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	r.tasks.Go(func() {
		for ctx.Err() == nil {
			turned := r.b.turned()
			if err := r.followOnce(ctx, id); err != nil {
				look(ctx, turned)
			}
		}
	})
	ticker := time.NewTicker(watchTime)
	defer ticker.Stop()
	for {
		turned := r.b.turned()
		if !r.wanted(id) {
			return
		}
		select {
		case <-ticker.C:
			r.begun(id)
		case <-turned: // slices may have moved to a shard that is new
		case <-ctx.Done():
		}
	}
}

// wanted reports whether to follow a shard.
func (r *Records) wanted(id uint32) bool {
	x := &r.follows
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.ctx.Err() == nil && len(x.growths) > 0 {
		r.followRouted()
		return true
	}
	has := false
	for key := range x.watches {
		of := r.b.RouteOf(weir.SliceOf(key.Topic, key.Partition))
		r.followed(of) // it may have moved there
		has = has || of == id
	}
	if has && r.ctx.Err() == nil {
		return true
	}
	delete(x.running, id)
	return false
}

// followOnce follows a shard until another node serves it, or that node does not answer.
func (r *Records) followOnce(ctx context.Context, id uint32) error {
	s, err := r.b.table.Load().shards[id].serving()
	if err == nil {
		return r.followHere(ctx, s.Log.Log)
	}
	owner, elsewhere := r.elsewhere(err)
	if !elsewhere || r.o.Follow == nil {
		return err
	}
	ctx, stop := r.during(ctx, id, owner)
	defer stop()
	first := true
	return r.o.Follow(ctx, owner, id, func(message []byte) error {
		d, err := newDecoder(message)
		if err != nil {
			return err
		}
		all, err := d.places()
		if err != nil {
			return err
		}
		if first {
			if first = false; noWhole(r.o.Mutations) {
				return nil
			}
			r.begun(id)
		}
		r.grown(all)
		return nil
	})
}

// followHere follows a log of this node until it ends.
func (r *Records) followHere(ctx context.Context, log *commitlog.Log) error {
	g := commitlog.NewGrowth()
	defer log.Notify(g)()
	r.grown(filled(log))
	for {
		select {
		case <-g.C():
			r.grown(shown(log, g.Take(nil)))
		case <-log.Done():
			return fmt.Errorf("%w: %w", ErrNoLeader, log.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begun closes what Watch has returned for partitions of a shard.
func (r *Records) begun(id uint32) {
	x := &r.follows
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, c := range x.watches {
		if r.b.RouteOf(weir.SliceOf(key.Topic, key.Partition)) == id {
			delete(x.watches, key)
			close(c)
		}
	}
}

// grown tells the readers of partitions that have grown.
func (r *Records) grown(all []Place) {
	x := &r.follows
	x.mu.Lock()
	defer x.mu.Unlock()
	for g := range x.growths {
		g.Add(all...)
	}
	if len(x.watches) == 0 {
		return
	}
	for _, key := range all {
		if c := x.watches[key]; c != nil {
			delete(x.watches, key)
			close(c)
		}
	}
}

// Changed returns a channel that is closed when this node knows more of the catalogue: there
// may be topics of which it did not know when their partitions grew, and a cluster of one
// shard may have become one of several.
func (r *Records) Changed() <-chan struct{} { return r.b.changed() }
