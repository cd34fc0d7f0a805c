package broker

import (
	"fmt"
	"maps"
	"math"
	"slices"

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
	shards  map[uint32]served
}

// served is a shard and its owner.
type served struct {
	owner Node         // zero: not known
	epoch uint64       // of another node's ownership; 0: not known
	own   *shard.Shard // nil: this node does not own it
	doubt bool         // this node owns it, but cannot confirm that
}

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
	b.changing.Lock()
	defer b.changing.Unlock()
	old := b.table.Load()
	next := &table{cluster: old.cluster, routes: old.routes, shards: make(map[uint32]served, len(old.shards)+1)}
	for other, s := range old.shards {
		next.shards[other] = s
	}
	next.shards[id] = to(old.shards[id])
	if cluster != "" {
		next.cluster = cluster
	}
	b.table.Store(next)
	if id == catalogueShard {
		b.notify()
	}
	b.noticing.Lock()
	defer b.noticing.Unlock()
	close(b.turn)
	b.turn = make(chan struct{})
}

// turned returns a channel that is closed when another node may serve a shard, or this node
// may serve it again.
func (b *Broker) turned() <-chan struct{} {
	b.noticing.Lock()
	defer b.noticing.Unlock()
	return b.turn
}

// Lead makes this node the owner of a shard: calls use it from now on.
func (b *Broker) Lead(s *shard.Shard) {
	b.change(s.ID, s.Log.ClusterID(), func(served) served { return served{owner: b.o.Self, own: s} })
}

// Follow records that another node, owner, serves a shard; without a name, that the
// owner is not known. clusterID is "" if it is not known.
func (b *Broker) Follow(id uint32, owner Node, clusterID string) { b.FollowAt(id, owner, 0, clusterID) }

// FollowAt is Follow with the epoch in which the other node serves the shard.
func (b *Broker) FollowAt(id uint32, owner Node, epoch uint64, clusterID string) {
	b.change(id, clusterID, func(served) served { return served{owner: owner, epoch: epoch} })
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
	if b.o.Members == nil {
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

func (b *Broker) leader(s weir.Slice) (Leader, bool) {
	t := b.table.Load()
	return b.leaderOf(t.shards[t.routes[s]])
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
		return s.Log.Epoch()
	}
	return -1
}

// at returns the shard that has a slice if this node may serve from it. Errors:
// *NotOwnerError, ErrUnavailable.
func (b *Broker) at(s weir.Slice) (*shard.Shard, error) {
	t := b.table.Load()
	return t.shards[t.routes[s]].serving()
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
