package broker

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/weir"
)

// catalogueShard is the shard that has the topics, users, quotas, settings and
// gateways. Its owner is the controller.
const catalogueShard = 0

// table says which node serves what. It is immutable: a change replaces it as a
// whole.
type table struct {
	cluster string   // id
	routes  weir.Map // the shard that has each slice; independent of the number of shards
	moved   bool     // routes is not what it was when the cluster was created
	count   int      // of the shards
	shards  map[uint32]served
	leases  []*lease // of the shards that this node owns and is not in doubt about
}

// served is a shard and its owner.
type served struct {
	owner Node         // zero: not known
	epoch uint64       // of another node's ownership; 0: not known
	own   *shard.Shard // nil: this node does not own it
	doubt bool         // this node owns it, but cannot confirm that
	lease *lease       // this node owns it
	given *given       // this node has handed it over, and the owner is not known yet; nil: it has not

	closed weir.SliceSet // slices that this node does not serve from it: they move, or have moved
	moving bool          // slices move away, and other nodes may not have heard of the new map
}

// given is a shard that this node has handed over.
type given struct {
	known chan struct{} // closed when it is known who owns it
	until time.Time     // nobody waits longer
}

// givenTime is how long a client waits to hear who has a shard that this node has just
// handed over. The new owner needs a few requests to the bucket.
const givenTime = 500 * time.Millisecond

// Leader is a node that serves something.
type Leader struct {
	Node
	Epoch int32 // leader epoch; -1 if this node does not know it
}

// NotOwnerError is an ErrNotOwner that names the node to ask.
type NotOwnerError struct {
	Owner Node // without a name if it is not known
}

func (e *NotOwnerError) Error() string {
	if e.Owner.Name == "" {
		return ErrNotOwner.Error()
	}
	return fmt.Sprintf("%v: node %q is", ErrNotOwner, e.Owner.Name)
}

func (e *NotOwnerError) Unwrap() error { return ErrNotOwner }

// serving returns the shard if this node may serve from it. Errors: *NotOwnerError,
// ErrUnavailable.
func (s served) serving() (*shard.Shard, error) {
	switch {
	case s.own == nil:
		return nil, &NotOwnerError{s.owner}
	case s.doubt:
		return nil, ErrUnavailable
	}
	return s.own, nil
}

// change replaces the entry of a shard.
func (b *Broker) change(id uint32, cluster string, to func(served) served) {
	var was, is *given
	b.replace(func(next *table) {
		was = next.shards[id].given
		next.shards[id] = to(next.shards[id])
		is = next.shards[id].given
		if cluster != "" {
			next.cluster = cluster
		}
	})
	if was != nil && was != is {
		close(was.known)
	}
	if id == catalogueShard {
		b.notify()
	}
	b.turnOver()
}

// turnOver closes the channels that turned has returned.
func (b *Broker) turnOver() {
	b.noticing.Lock()
	defer b.noticing.Unlock()
	close(b.turn)
	b.turn = make(chan struct{})
}

// turned returns a channel that is closed when another node may serve a shard or this node
// may serve it again, and when slices have moved to another shard.
func (b *Broker) turned() <-chan struct{} {
	b.noticing.Lock()
	defer b.noticing.Unlock()
	return b.turn
}

// replace replaces the table by a copy that was changed.
func (b *Broker) replace(change func(next *table)) {
	b.changing.Lock()
	defer b.changing.Unlock()
	next := *b.table.Load()
	next.shards = maps.Clone(next.shards)
	if next.shards == nil {
		next.shards = make(map[uint32]served)
	}
	change(&next)
	next.leases = nil
	for _, s := range next.shards {
		if s.lease != nil && !s.doubt {
			next.leases = append(next.leases, s.lease)
		}
	}
	b.table.Store(&next)
}

// SetMap replaces the map of slices and the number of shards by those of the catalogue. It
// reports whether that is a change.
func (b *Broker) SetMap(m weir.Map, shards int) (changed bool) {
	b.replace(func(next *table) {
		changed = next.routes != m || next.count != shards
		next.moved = next.moved || next.routes != m
		next.routes, next.count = m, shards
	})
	if changed {
		b.notify()
		b.turnOver()
	}
	return changed
}

// Map returns the map of slices and the number of shards, as far as this node knows.
func (b *Broker) Map() (m weir.Map, shards int) {
	t := b.table.Load()
	return t.routes, t.count
}

// CloseSlices makes this node not serve some slices of a shard that it owns, as they move
// to another one. Requests get ErrNotOwner.
func (b *Broker) CloseSlices(id uint32, set weir.SliceSet) {
	b.change(id, "", func(s served) served {
		s.closed, s.moving = s.closed.With(set), true
		return s
	})
}

// OpenSlices undoes CloseSlices: the slices have not moved. It also makes this node serve
// slices that have moved to the shard.
func (b *Broker) OpenSlices(id uint32, set weir.SliceSet) {
	b.change(id, "", func(s served) served {
		if s.closed = s.closed.Without(set); s.moving && s.own != nil {
			out, _ := s.own.Log.Moves()
			s.moving = len(out) > 0
		}
		return s
	})
}

// Moved notes that other nodes know the map by which the slices are elsewhere that
// CloseSlices has named.
func (b *Broker) Moved(id uint32) {
	b.change(id, "", func(s served) served {
		s.moving = false
		return s
	})
}

// Moving reports whether a shard that this node owns has slices on their way to another one,
// of which other nodes may not have heard yet. What is known of a gateway is then in both.
func (b *Broker) Moving(id uint32) bool { return b.table.Load().shards[id].moving }

// Lead makes this node the owner of a shard: calls use it from now on.
func (b *Broker) Lead(s *shard.Shard) {
	b.change(s.ID, s.Log.ClusterID(), func(served) served {
		closed := s.Log.Away()
		out, in := s.Log.Moves()
		for _, m := range in {
			closed = closed.With(m.Slices) // until OpenSlices: it is known whether they have moved here
		}
		return served{owner: b.o.Self, own: s, lease: newLease(time.Now()), closed: closed, moving: len(out) > 0}
	})
}

// Follow records that another node, owner, serves a shard; without a name, that the
// owner is not known. clusterID is "" if it is not known.
func (b *Broker) Follow(id uint32, owner Node, clusterID string) { b.FollowAt(id, owner, 0, clusterID) }

// FollowAt is Follow with the epoch in which the other node serves the shard.
func (b *Broker) FollowAt(id uint32, owner Node, epoch uint64, clusterID string) {
	b.change(id, clusterID, func(served) served { return served{owner: owner, epoch: epoch} })
}

// HandedOver records that this node owns a shard no more, because another one takes it over
// in these moments: see AwaitLeader. Lead or Follow comes next.
func (b *Broker) HandedOver(id uint32) {
	b.change(id, "", func(served) served { return served{given: &given{make(chan struct{}), time.Now().Add(givenTime)}} })
}

// AwaitLeader waits until it is known who leads a partition, if this node has just handed it
// over: a client that is not told asks all over again.
func (b *Broker) AwaitLeader(topic weir.TopicID, partition int32) {
	t := b.table.Load()
	g := t.shards[t.routes[weir.SliceOf(topic, partition)]].given
	if g == nil {
		return
	}
	timer := time.NewTimer(time.Until(g.until))
	defer timer.Stop()
	select {
	case <-g.known:
	case <-timer.C:
	}
}

// Doubt suspends reads and writes of a shard while this node cannot confirm that it
// owns it, or resumes them.
func (b *Broker) Doubt(id uint32, doubt bool) {
	b.change(id, "", func(s served) served {
		s.doubt = doubt && s.own != nil
		return s
	})
}

// ClusterID returns the id of the bucket, "" until it is known.
func (b *Broker) ClusterID() string { return b.table.Load().cluster }

// Leader returns the node that serves a partition, false if it is not known. It does
// not check whether the partition exists.
func (b *Broker) Leader(topic weir.TopicID, partition int32) (Leader, bool) {
	return b.leader(weir.SliceOf(topic, partition))
}

// Coordinator returns the node that serves the groups, transactional ids and gateways
// of a slice, false if it is not known.
func (b *Broker) Coordinator(s weir.Slice) (Leader, bool) { return b.leader(s) }

// Controller returns the node that serves the catalogue: topics, users, quotas,
// settings and gateways; false if it is not known.
func (b *Broker) Controller() (Leader, bool) {
	return b.leaderOf(b.table.Load().shards[catalogueShard])
}

// IsController reports whether this node serves the catalogue.
func (b *Broker) IsController() bool { return b.table.Load().shards[catalogueShard].own != nil }

// Nodes lists the nodes that serve anything, by shard, and then the other nodes that a
// client may come to: see Options.Members.
func (b *Broker) Nodes() []Leader {
	t := b.table.Load()
	var all []Leader
	seen := make(map[string]bool)
	for _, id := range slices.Sorted(maps.Keys(t.shards)) {
		if l, ok := b.leaderOf(t.shards[id]); ok && !seen[l.Name] {
			seen[l.Name] = true
			all = append(all, l)
		}
	}
	if b.o.Members == nil || t.count == 1 {
		return all
	}
	for _, n := range append([]Node{b.o.Self}, b.o.Members()...) {
		if !seen[n.Name] {
			seen[n.Name] = true
			all = append(all, Leader{Node: n, Epoch: -1})
		}
	}
	return all
}

// leader returns the node that serves a slice. Leader epochs grow when a slice moves, by how
// much only its owner knows.
func (b *Broker) leader(s weir.Slice) (Leader, bool) {
	t := b.table.Load()
	l, ok := b.leaderOf(t.shards[t.routes[s]])
	switch own := t.shards[t.routes[s]].own; {
	case own != nil:
		l.Epoch = own.Log.SliceEpoch(s)
	case t.moved:
		l.Epoch = -1
	}
	return l, ok
}

func (b *Broker) leaderOf(s served) (Leader, bool) {
	l := Leader{Node: s.owner, Epoch: -1}
	if s.own != nil {
		l.Epoch = s.own.Log.Epoch()
	} else if s.epoch > 0 && s.epoch <= math.MaxInt32 {
		l.Epoch = int32(s.epoch)
	} else if c := b.Copy(); c != nil && c.Owner == s.owner.Name {
		l.Epoch = c.Epoch
	}
	return l, s.owner.Name != ""
}

// Epoch returns the leader epoch of a partition that this node serves, -1 if it does
// not.
func (b *Broker) Epoch(topic weir.TopicID, partition int32) int32 {
	t := b.table.Load()
	if s := t.shards[t.routes[weir.SliceOf(topic, partition)]].own; s != nil {
		return s.Log.LeaderEpoch(topic, partition)
	}
	return -1
}

// SliceEpoch is Epoch for a slice.
func (b *Broker) SliceEpoch(slice weir.Slice) int32 {
	t := b.table.Load()
	if s := t.shards[t.routes[slice]].own; s != nil {
		return s.Log.SliceEpoch(slice)
	}
	return -1
}

// Remapped reports whether slices have moved since the cluster was created.
func (b *Broker) Remapped() bool { return b.table.Load().moved }

// at returns the shard that has a slice if this node may serve from it. Errors:
// *NotOwnerError, ErrUnavailable.
func (b *Broker) at(s weir.Slice) (*shard.Shard, error) {
	t := b.table.Load()
	own := t.shards[t.routes[s]]
	if own.closed.Has(s) {
		return nil, &NotOwnerError{}
	}
	return own.serving()
}

// shardAt is at for a partition. The partition of a hidden topic is ErrUnknownTopic;
// whether another one exists is up to the log.
func (b *Broker) shardAt(topic weir.TopicID, partition int32) (*shard.Shard, error) {
	s, err := b.at(weir.SliceOf(topic, partition))
	if err != nil {
		return nil, err
	}
	if t, ok := s.Log.TopicByID(topic); ok && hidden(t) {
		return nil, fmt.Errorf("%w: %v", ErrUnknownTopic, topic)
	}
	return s, nil
}

// catalogue is at for the catalogue.
func (b *Broker) catalogue() (*shard.Shard, error) {
	return b.table.Load().shards[catalogueShard].serving()
}

// owned lists the shards that this node serves, by number, except one that has only
// the catalogue. Errors: ErrUnavailable if it is in doubt about one of them,
// *NotOwnerError if the cluster has one shard and this node does not serve it.
func (b *Broker) owned() ([]*shard.Shard, error) {
	t := b.table.Load()
	var all []*shard.Shard
	for _, id := range slices.Sorted(maps.Keys(t.shards)) {
		if own := t.shards[id].own; own == nil || own.Part == shard.Catalogue {
			continue
		}
		s, err := t.shards[id].serving()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if all == nil && !b.Several() {
		return nil, &NotOwnerError{t.shards[catalogueShard].owner}
	}
	return all, nil
}

// Serving returns nil if this node serves the catalogue and is not in doubt. Errors:
// *NotOwnerError, ErrUnavailable.
func (b *Broker) Serving() error {
	_, err := b.catalogue()
	return err
}
