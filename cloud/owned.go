package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/bridge"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// catalogueShard is the shard that has the users, quotas, settings and gateways. In a
// cluster of one shard it has everything else, too.
const catalogueShard = 0

// owned is a shard that this node owns.
type owned struct {
	*shard.Shard
	bridge atomic.Pointer[bridge.Bridge] // from topics to its queues; nil if it has none, or does not serve yet
	claim  cluster.Node                  // this node as it is in the claim
	doubt  atomic.Bool                   // the bucket does not confirm that this node still owns it

	since    time.Time // when it was recovered
	recovery time.Duration
}

// Close ends the bridge, and all that shard.Shard.Close ends.
func (o *owned) Close() error {
	var wg sync.WaitGroup
	if b := o.bridge.Load(); b != nil {
		wg.Go(b.Close) // it may wait for the log
	}
	err := o.Shard.Close()
	wg.Wait()
	return err
}

// shards is what this node is for each shard of the cluster.
type shards struct {
	created int // how many the cluster had when it was created

	mu    sync.Mutex        // guards what follows
	count int               // how many it has now, as far as this node knows
	owned map[uint32]*owned // those that are recovered, and not lost
	roles map[uint32]string // as the console names them; none: nothing is known of the shard yet
	ended map[uint32]*owned // those that are handed over, until their new owner is known
}

func newShards(created int) shards {
	return shards{created: created, count: created, owned: make(map[uint32]*owned), roles: make(map[uint32]string), ended: make(map[uint32]*owned)}
}

// number returns how many shards the cluster has, as far as this node knows.
func (s *shards) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// grow notes that the cluster has more shards.
func (s *shards) grow(count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = max(s.count, count)
}

// get returns a shard, nil if this node does not own it.
func (s *shards) get(id uint32) *owned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owned[id]
}

// all lists the shards that this node owns, by number.
func (s *shards) all() []*owned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.owned), func(a, b *owned) int { return cmp.Compare(a.ID, b.ID) })
}

// set makes this node the owner of a shard, or with nil one that does not own it.
func (s *shards) set(id uint32, own *owned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own == nil {
		delete(s.owned, id)
		return
	}
	s.owned[id] = own
}

// handedOver keeps a shard that this node has handed over, and closed: if no other node
// takes it, this one goes on with what it had.
func (s *shards) handedOver(own *owned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[own.ID] = own
}

// takeBack returns what handedOver kept, nil if there is none, and keeps it no more.
func (s *shards) takeBack(id uint32) *owned {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.ended[id]
	delete(s.ended, id)
	return own
}

// become sets what this node is for a shard. It reports whether it leads or stands by
// for every shard now.
func (s *shards) become(id uint32, role string) (settled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[id] = role
	for _, role := range s.roles {
		if role == console.RoleRecovering {
			return false
		}
	}
	return len(s.roles) >= s.count
}

// becomeUnfit makes this node a standby of all shards that it does not lead yet.
func (s *shards) becomeUnfit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range uint32(s.count) {
		if s.owned[id] == nil {
			s.roles[id] = console.RoleStandby
		}
	}
}

// roleOf returns what this node is for a shard.
func (s *shards) roleOf(id uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.roles[id], console.RoleRecovering)
}

// role returns what this node is as a whole: the owner of something, else recovering if
// it may become that, else a standby.
func (s *shards) role() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	role := console.RoleStandby
	if len(s.roles) < s.count {
		role = console.RoleRecovering
	}
	for _, of := range s.roles {
		if of == console.RoleOwner || of == console.RoleRecovering && role == console.RoleStandby {
			role = of
		}
	}
	return role
}

// share returns the part of a budget of this node that a shard gets. The node may come to
// own all shards.
func (s *shards) share(budget int64) int64 {
	const least = 1 << 20
	return max(budget/int64(max(1, s.number()-1)), min(budget, least))
}

// newOwned makes the machines of a shard that this node is about to own. claim is what
// other nodes read of it.
func (n *Node) newOwned(id uint32, claim cluster.Node) *owned {
	part := shard.PartOf(id, n.shards.created)
	o := shard.Options{
		Log:    n.o.Log,
		Part:   part,
		Txns:   txn.Options{Ended: n.broker.TransactionEnded, Shard: id, Shards: n.broker.TransactionShards()},
		Fleet:  fleet.Options{CA: n.ca, NodesChanged: n.nodesChanged},
		Users:  n.usersOptions(),
		Queues: queue.Options{Topics: n.topics.Calls(), Late: part == shard.Data},
	}
	changed := n.broker.ChangedSettings
	o.Shares.Here = func(topic weir.TopicID, partition int32) bool {
		return n.broker.RouteOf(weir.SliceOf(topic, partition)) == id
	}
	o.Shares.Send = n.sendLetters
	if part == shard.Data {
		o.Topics = &machine.Topics{All: n.everyTopic, ByID: n.topicByID}
	} else {
		o.Settings = settings.New()
		changed = func() *settings.Settings { return o.Settings }
	}
	o.Groups = group.Options{Timeouts: broker.GroupTimeouts(changed)}
	o.Shares.Settings = broker.ShareSettings(changed, claim.ID)
	own := &owned{claim: claim}
	o.Queues.Here = func(vhost string) bool { return n.vhostHere(own, vhost) }
	own.Shard = shard.New(o)
	own.ID = id
	return own
}

// vhostHere reports whether a vhost belongs to a shard, which is recovered. The slices of a
// move that was decided have left, whatever this node knows of the map.
func (n *Node) vhostHere(own *owned, vhost string) bool {
	slice := weir.SliceOfVhost(vhost)
	out, _ := own.Log.Moves()
	return n.broker.RouteOf(slice) == own.ID && !slices.ContainsFunc(out, func(m weir.Move) bool { return m.Slices.Has(slice) })
}

// sendLetters is for share.Options: it appends dead letters to a partition that any node may
// lead.
func (n *Node) sendLetters(ctx context.Context, topic weir.TopicID, partition int32, letters record.Batch) error {
	answer := make(chan error, 1)
	n.records.Append(ctx, broker.Append{Topic: topic, Partition: partition, Batch: letters, Verified: true}, func(_ int64, err error) { answer <- err })
	return <-answer // it ends with ctx
}

// everyTopic lists the topics of the cluster, none while they are not known.
func (n *Node) everyTopic() []state.Topic {
	all, err := n.broker.Topics()
	if err != nil {
		return nil
	}
	return all
}

// topicByID is for machine.Topics. A topic that this node does not know may be one that it
// does not know yet.
func (n *Node) topicByID(id weir.TopicID) (state.Topic, bool) {
	t, err := n.broker.TopicByID(id)
	if err != nil {
		t = state.Topic{ID: id}
	}
	return t, true
}

// dropAt is for broker.Options.
func (n *Node) dropAt(ctx context.Context, owner broker.Node, id uint32, topic weir.TopicID, at journal.Position) error {
	if owner.Address(cluster.Peer) == "" {
		return fmt.Errorf("node %q has no --peer", owner.Name)
	}
	return n.peers.client.Drop(ctx, owner.Name, owner.Address(cluster.Peer), id, topic, at)
}

// fleet returns the gateways of the cluster, nil while this node does not own the
// catalogue.
func (n *Node) fleet() *fleet.Fleet {
	if own := n.shards.get(catalogueShard); own != nil {
		return own.Fleet
	}
	return nil
}

// users returns the users and administrators, nil while this node does not own the
// catalogue.
func (n *Node) users() *auth.Auth {
	if own := n.shards.get(catalogueShard); own != nil {
		return own.Users
	}
	return nil
}

// quotas returns the limits of users, nil while this node does not own the catalogue.
func (n *Node) quotas() *quota.Quotas {
	if own := n.shards.get(catalogueShard); own != nil {
		return own.Quotas
	}
	return nil
}

// bridgeLag returns how many records have yet to reach the queues of this node.
func (n *Node) bridgeLag() (records float64) {
	for _, own := range n.shards.all() {
		if b := own.bridge.Load(); b != nil {
			records += float64(b.Lag())
		}
	}
	return records
}
