package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/weirmq/weir/cloud/bridge"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/pause"
)

func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// newManager makes what decides which shards this node leads.
func (n *Node) newManager() *cluster.Manager {
	return cluster.New(cluster.ManagerOptions{
		Bucket: n.bucket, Self: n.self, Shards: func() uint32 { return uint32(n.shards.number()) }, Takeover: n.takeover(),
		Ask: n.ask, Follow: n.follow, Fit: n.fit, Lead: n.lead, Progress: n.progress,
		Prepare: n.prepare, HandOver: n.handOver, Succeed: n.succeed, Revoked: n.nodeRevoked, Counters: &n.peers.counters, Log: n.o.Log,
	})
}

// others lists the other nodes that are alive.
func (n *Node) others() (all []broker.Node) {
	for _, m := range n.manager.Members() {
		all = append(all, m.Node)
	}
	return all
}

// manage leads shards or stands by for them until ctx ends. Before that ends it, other
// nodes get the shards, if there are any that can have them.
func (n *Node) manage(ctx, leading context.Context, stop context.CancelFunc) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-leading.Done():
			return
		}
		if cause := context.Cause(ctx); n.o.Drain > 0 && (errors.Is(cause, context.Canceled) || errors.Is(cause, ErrIdle)) {
			limited, cancel := context.WithTimeout(leading, n.o.Drain)
			defer cancel()
			n.manager.Drain(limited)
		}
		stop()
	})
	return n.manager.Run(leading)
}

// follow makes this node a standby of a shard: its doors name the owner. The shard may be
// offered to this node at once, so follow does not wait for the owner.
func (n *Node) follow(ctx context.Context, id uint32, owner cluster.Node, epoch uint64) {
	n.raceOwner(ctx, owner)
	n.shards.takeBack(id) // what this node had handed over is that one's for good
	known, err := n.knownCluster(ctx)
	if err != nil {
		n.fail(err)
		return
	}
	n.broker.FollowAt(id, owner, epoch, known)
	n.ingest.follow(id, owner)
	if id == catalogueShard {
		n.copies.follow()
	}
	if n.shards.become(id, console.RoleStandby) {
		n.standReady(ctx)
	}
}

// errOtherShards ends a node that is to be started again. It is not ErrShards, which is for
// what only a person can fix.
var errOtherShards = errors.New("another node has created the cluster since this one started")

// knownCluster returns the id of the cluster. A node that has started with an empty bucket
// reads it when it follows the first owner: then there is a cluster. Errors: errOtherShards.
func (n *Node) knownCluster(ctx context.Context) (id string, err error) {
	for {
		if id := cmp.Or(n.broker.ClusterID(), n.clusterID); id != "" {
			return id, nil
		}
		c, found, err := n.readCluster(ctx)
		final := errors.Is(err, state.ErrFormat) || errors.Is(err, state.ErrCorrupt) || errors.Is(err, storage.ErrDamaged)
		switch {
		case found && err == nil && max(1, c.Shards) != n.shards.created:
			return "", fmt.Errorf("%w, with %d shards, not %d: start this node again", errOtherShards, c.Shards, n.shards.created)
		case err == nil || ctx.Err() != nil:
			return c.ID, nil
		case final:
			n.o.Log.Warn("cluster id not read: clients of this standby do not get it", "err", err)
			return c.ID, nil
		}
		n.o.Log.Warn("cluster id not read: trying again", "err", err)
		_ = pause.For(ctx, time.Second)
	}
}

func (n *Node) readCluster(ctx context.Context) (identity.Cluster, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return identity.ReadCluster(ctx, n.bucket)
}

// standReady makes a standby ready in the background, when its doors answer like the
// owner's: for a moment it waits for a copy.
func (n *Node) standReady(ctx context.Context) {
	n.standing.Do(func() {
		n.waiting.Go(func() {
			owner, _ := n.broker.Controller()
			if owner.Name != n.o.Node && owner.Address(cluster.Peer) != "" && n.broker.Copy() == nil {
				n.copies.Refresh(ctx)
			}
			if ctx.Err() == nil {
				n.sayReady()
			}
		})
	})
}

func (n *Node) sayReady() {
	n.ready.Do(func() {
		n.o.Log.Info("ready", "role", n.Role(), "node", n.o.Node, "sync", n.self.Address(cluster.Sync), "kafka", n.self.Address(cluster.Kafka), "amqp", n.self.Address(cluster.AMQP), "management", n.self.Address(cluster.Management), "http", n.self.Address(cluster.HTTP), "peer", n.self.Address(cluster.Peer))
		if n.o.Ready != nil {
			n.o.Ready()
		}
	})
}

// lead claims a shard, recovers it and serves it until ctx ends, the shard is lost, or it is
// handed over. self goes into the claim. c is a candidate that has made the claim, or nil.
func (n *Node) lead(ctx context.Context, id uint32, self cluster.Node, epoch uint64, c cluster.Candidate) (err error) {
	n.shards.become(id, console.RoleRecovering)
	defer func() { n.failed(ctx, id, err) }()
	n.broker.Follow(id, broker.Node{}, "") // nobody is redirected to the former owner
	began := time.Now()
	own, err := n.recoverShard(ctx, id, self, epoch, c)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil
	case errors.Is(err, commitlog.ErrFenced):
		return errors.Join(cluster.ErrSuperseded, err)
	case err != nil:
		return fmt.Errorf("recover the log: %w", err)
	}
	if own.Fleet != nil {
		if n.judgeNodesBy(own.Fleet, began); own.Fleet.NodeRevoked(n.o.Node) {
			n.fail(ErrNodeRevoked)
			return errors.Join(ErrNodeRevoked, own.Close())
		}
	}
	n.got(own, began)
	n.shards.set(id, own) // before the broker leads: nothing is served without users
	if own.Part != shard.Data {
		n.begin(ctx, own, began)
	}

	lost := n.serve(ctx, own, began)
	handed := errors.Is(own.Log.Err(), commitlog.ErrHandedOver)
	if lost == nil || handed {
		n.keepView(own)
	}
	if handed {
		n.broker.HandedOver(id)
	} else {
		n.broker.Follow(id, broker.Node{}, "")
	}
	if own.Fleet != nil {
		n.judgeNodesBy(own.Fleet, time.Now())
	}
	n.shards.set(id, nil)
	if n.receiver != nil && !n.several() && id == catalogueShard {
		n.receiver.Handover("")
	}
	n.ingest.lose(id)
	closed := own.Close()
	switch {
	case handed:
		n.shards.handedOver(own)
		return nil // closed says that the log has ended
	case lost == nil:
		n.keepView(own) // with what was in flight
	default:
		return lost // closing says the same once more
	}
	return closed
}

// failed makes this node a standby of a shard that it could not lead, or has lost, if it
// goes on without it. Perhaps nobody else leads the shard: it does not wait for that.
func (n *Node) failed(ctx context.Context, id uint32, err error) {
	if err == nil || !n.several() || errors.Is(err, cluster.ErrDoors) {
		return
	}
	if n.shards.become(id, console.RoleStandby) {
		n.standReady(ctx)
	}
}

// begin makes the doors serve a shard that was recovered at the end of what began then.
func (n *Node) begin(ctx context.Context, own *owned, began time.Time) {
	if own.Users != nil {
		n.endCopy(own.Users)
	}
	if own.Queues != nil {
		own.bridge.Store(bridge.New(bridge.Options{Broker: n.broker, Records: n.records, Queues: own.Queues, Metrics: n.metrics.Set, Log: n.o.Log}))
	}
	if own.Fleet != nil {
		n.dropBarred(own.Fleet)
		n.setMap(own.Log.Map())
	}
	n.broker.Lead(own.Shard)
	n.ingest.lead(own.ID, own.Log.Epoch())
	if b := own.bridge.Load(); b != nil {
		b.Start()
	}
	if own.Users != nil {
		n.broker.SetCopy(nil)
	}
	settled := n.shards.become(own.ID, console.RoleOwner)
	n.manager.Serves()
	n.o.Log.Info("leading", n.about(own.ID, "epoch", own.Log.Epoch(), "cluster", own.Log.ClusterID(), "recovered_in", time.Since(began).Round(time.Millisecond))...)
	if own.Fleet != nil {
		n.welcomeAdmins(ctx, own.Users, own.Log.Level())
		if err := n.freshToken(ctx, own.Fleet); err != nil && ctx.Err() == nil {
			n.o.Log.Warn("no join token made: weirctl join-token makes one", "err", err)
		}
	}
	if settled {
		n.sayReady()
	}
}

// beginData makes the doors serve a data shard, when this node knows the catalogue as far
// as the shard does. Then it opens the topics there, until ctx ends.
func (n *Node) beginData(ctx context.Context, own *owned, began time.Time) {
	if n.broker.AwaitCatalogue(ctx, own.Log.CataloguePosition()) != nil {
		return
	}
	n.begin(ctx, own, began)
	late := budget.NewEpisode(budget.EpisodeOptions{
		Begin: "a topic is not opened in a shard: nothing can be written to its partitions there",
		End:   "topics are opened in the shard again", Quiet: time.Minute, Log: n.o.Log})
	defer late.End()
	n.broker.FollowCatalogue(ctx, own.Shard, func(topic string, err error) { late.Note("shard", own.ID, "topic", topic, "err", err) })
}

// finishDeletions ends the deletions of topics that the catalogue lists, until ctx ends.
func (n *Node) finishDeletions(ctx context.Context, own *owned) {
	late := budget.NewEpisode(budget.EpisodeOptions{
		Begin: "a topic that is being deleted stays in some shards for now: its name is not free",
		End:   "topics that are being deleted leave all shards again", Quiet: time.Minute, Log: n.o.Log})
	defer late.End()
	n.broker.FinishDeletions(ctx, own.Shard, func(topic string, err error) { late.Note("topic", topic, "err", err) })
}

// about adds the number of a shard to what is logged of it, if the cluster has several.
func (n *Node) about(id uint32, args ...any) []any {
	if !n.several() && id == catalogueShard {
		return args
	}
	return append([]any{"shard", id}, args...)
}

// Budgets of a node for the caches of its logs, in bytes.
const (
	tailBytes  = 32 << 20
	blockBytes = 32 << 20
)

// logOptions are the options of a shard's log, except for its machines.
func (n *Node) logOptions(own *owned, info []byte, epoch uint64) commitlog.Options {
	changed := n.broker.ChangedSettings
	o := commitlog.Options{
		Bucket: n.bucket, Shard: own.ID, Shards: n.shards.created, Node: n.o.Node, Info: info, Epoch: epoch, Linger: n.o.Linger, Upkeep: n.o.Upkeep, Log: n.o.Log,
		TailBytes: n.shards.share(tailBytes), BlockBytes: n.shards.share(blockBytes),
	}
	if own.Settings != nil {
		changed = func() *settings.Settings { return own.Settings }
	}
	if own.Part != shard.Data {
		o.Beside = []string{fleet.AuthorityKey}
	}
	o.Defaults = func() map[string]string { return broker.TopicDefaults(changed(), own.claim.ID) }
	return o
}

// level returns the format level of the bucket, or the lowest one if it cannot be read.
func (n *Node) level(ctx context.Context) int {
	c, found, err := identity.ReadCluster(ctx, n.bucket)
	switch {
	case err != nil:
		return 1
	case !found:
		return identity.Level // the level of a new bucket
	}
	return c.Format
}

// serve waits until ctx ends, the shard is lost, or this node should not lead
// any more.
func (n *Node) serve(ctx context.Context, own *owned, began time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan error, 2)
	wg.Go(func() {
		ask := func(ctx context.Context) error {
			asked := time.Now()
			err := own.Log.Confirm(ctx)
			if err == nil {
				n.broker.Sure(own.ID, asked)
			}
			return err
		}
		ended <- cluster.Confirm(ctx, n.takeover(), ask, func(doubt bool) {
			said := "the bucket answers again: this node still owns the shard, and goes on"
			if doubt {
				said = "the bucket does not answer this node, which may no longer own the shard: clients have to wait until it answers, or another node takes the shard"
			}
			n.o.Log.Warn(said, n.about(own.ID)...)
			own.doubt.Store(doubt)
			n.broker.Doubt(own.ID, doubt)
		})
	})
	wg.Go(func() { ended <- n.watchDoors(ctx) })
	wg.Go(func() { n.answerBucket(ctx, own.Log.Log) })
	wg.Go(func() { n.resumeMoves(ctx, own) })
	switch own.Part {
	case shard.Data:
		wg.Go(func() { n.beginData(ctx, own, began) })
	default:
		wg.Go(func() { n.finishDeletions(ctx, own) })
		wg.Go(func() { n.watchGateways(ctx, own.Fleet) })
		wg.Go(func() { n.splitAsNodesCome(ctx, own) })
	}
	select {
	case <-own.Log.Done():
		return fmt.Errorf("lost the shard and stopped serving: %w", own.Log.Err())
	case err := <-ended:
		if err == nil || errors.Is(err, cluster.ErrDoors) {
			return err
		}
		return fmt.Errorf("lost the shard and stopped serving: %w", err)
	}
}

// freshToken writes a join token to the data directory.
func (n *Node) freshToken(ctx context.Context, members *fleet.Fleet) error {
	token, err := members.NewToken(ctx, fleet.DefaultTokenUses, fleet.DefaultTokenLife, nil)
	if err != nil {
		return err
	}
	path := filepath.Join(n.o.Data, "join-token")
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if n.o.ShowToken != nil {
		n.o.ShowToken(token, path)
	}
	return nil
}

// dropUser closes the connections of a user whose credential was replaced or removed.
func (n *Node) dropUser(user string) {
	n.logins.Drop(user)
}
