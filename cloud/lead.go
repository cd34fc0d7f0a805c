package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/bridge"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
)

func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// onlyShard is the only shard so far.
const onlyShard = 0

// follow makes this node a standby: its doors name the owner.
func (n *Node) follow(ctx context.Context, owner cluster.Node) {
	n.raceOwner(ctx, owner)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, _, err := identity.ReadCluster(ctx, n.bucket)
	if err != nil {
		n.o.Log.Warn("cluster id not read: clients of this standby do not get it", "err", err)
	}
	n.broker.Follow(onlyShard, owner, c.ID)
	n.role.Store(console.RoleStandby)
	n.copies.follow()
	if owner.Address(cluster.Peer) != "" && n.broker.Copy() == nil {
		n.copies.Refresh(ctx) // a node is ready when its doors answer like the owner's
	}
	n.sayReady()
}

func (n *Node) sayReady() {
	n.ready.Do(func() {
		n.o.Log.Info("ready", "role", n.Role(), "node", n.o.Node, "sync", n.self.Address(cluster.Sync), "kafka", n.self.Address(cluster.Kafka), "amqp", n.self.Address(cluster.AMQP), "management", n.self.Address(cluster.Management), "http", n.self.Address(cluster.HTTP), "peer", n.self.Address(cluster.Peer))
		if n.o.Ready != nil {
			n.o.Ready()
		}
	})
}

// lead claims the shard, recovers it and serves until ctx ends or the shard is lost.
// self goes into the claim.
func (n *Node) lead(ctx context.Context, self cluster.Node, epoch uint64) (err error) {
	n.role.Store(console.RoleRecovering)
	n.broker.Follow(onlyShard, broker.Node{}, "") // nobody is redirected to the former owner
	began := time.Now()
	info, err := self.Info(n.level(ctx))
	if err != nil {
		return err
	}
	own := n.newOwned(self.ID)
	err = own.Open(ctx, commitlog.Options{
		Bucket: n.bucket, Shard: onlyShard, Node: n.o.Node, Info: info, Epoch: epoch, Linger: n.o.Linger, Upkeep: n.o.Upkeep, Log: n.o.Log,
		Beside:   []string{fleet.AuthorityKey},
		Defaults: func() map[string]string { return broker.TopicDefaults(own.Settings, self.ID) },
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil
	case errors.Is(err, commitlog.ErrFenced):
		return errors.Join(cluster.ErrSuperseded, err)
	case err != nil:
		return fmt.Errorf("recover the log: %w", err)
	}
	own.since = time.Now()
	n.owned.Store(own) // before the broker leads: nothing is served without users
	n.endCopy(own.Users)
	own.bridge = bridge.New(bridge.Options{Broker: n.broker, Queues: own.Queues, Metrics: n.metrics.Set, Log: n.o.Log})
	n.broker.Lead(own.Shard)
	own.bridge.Start()
	n.broker.SetCopy(nil)
	n.role.Store(console.RoleOwner)
	n.o.Log.Info("leading", "epoch", own.Log.Epoch(), "cluster", own.Log.ClusterID(), "recovered_in", time.Since(began).Round(time.Millisecond))
	n.welcomeAdmins(ctx, own.Users, own.Log.Level())
	if err := n.freshToken(ctx, own.Fleet); err != nil && ctx.Err() == nil {
		n.o.Log.Warn("no join token made: weirctl join-token makes one", "err", err)
	}
	n.sayReady()

	lost := n.serve(ctx, own, self)
	n.broker.Follow(own.ID, broker.Node{}, "")
	n.owned.Store(nil)
	if n.receiver != nil {
		n.receiver.Handover("")
	}
	closed := own.Close()
	if lost != nil {
		return lost // closing says the same once more
	}
	return closed
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

// owned is a shard that this node owns.
type owned struct {
	*shard.Shard
	bridge *bridge.Bridge // from topics to its queues
	since  time.Time
}

// Close ends the bridge, and all that shard.Shard.Close ends.
func (o *owned) Close() error {
	var wg sync.WaitGroup
	wg.Go(o.bridge.Close) // it may wait for the log
	err := o.Shard.Close()
	wg.Wait()
	return err
}

// bridgeLag returns how many records have yet to reach the queues of this node.
func (n *Node) bridgeLag() float64 {
	if own := n.owned.Load(); own != nil {
		return float64(own.bridge.Lag())
	}
	return 0
}

// newOwned makes the machines of the shard that this node is about to own. number is its own.
func (n *Node) newOwned(number int32) *owned {
	changed := settings.New()
	return &owned{Shard: shard.New(shard.Options{
		Log:      n.o.Log,
		Settings: changed,
		Groups:   group.Options{Timeouts: broker.GroupTimeouts(changed)},
		Shares:   share.Options{Settings: broker.ShareSettings(changed, number)},
		Txns:     txn.Options{Ended: n.broker.TransactionEnded},
		Fleet:    fleet.Options{CA: n.ca},
		Users:    auth.Options{SuperUsers: n.o.SuperUsers, Changed: n.dropUser},
		Queues:   queue.Options{Topics: n.topics.Calls()},
	})}
}

// fleet returns the gateways of the cluster, nil while this node does not own the
// shard.
func (n *Node) fleet() *fleet.Fleet {
	if own := n.owned.Load(); own != nil {
		return own.Fleet
	}
	return nil
}

// users returns the users and administrators, nil while this node does not own the
// shard.
func (n *Node) users() *auth.Auth {
	if own := n.owned.Load(); own != nil {
		return own.Users
	}
	return nil
}

// quotas returns the limits of users, nil while this node does not own the shard.
func (n *Node) quotas() *quota.Quotas {
	if own := n.owned.Load(); own != nil {
		return own.Quotas
	}
	return nil
}

// serve waits until ctx ends, the shard is lost, or this node should not lead
// any more.
func (n *Node) serve(ctx context.Context, own *owned, self cluster.Node) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan error, 2)
	wg.Go(func() {
		ended <- cluster.Confirm(ctx, n.o.Takeover, own.Log.Confirm, func(doubt bool) {
			n.o.Log.Warn("checking in the bucket whether this node still owns the shard", "bucket_answers", !doubt)
			n.broker.Doubt(own.ID, doubt)
		})
	})
	wg.Go(func() { ended <- n.watchDoors(ctx, self) })
	wg.Go(func() { n.answerBucket(ctx, own.Log.Log) })
	wg.Go(func() { n.watchGateways(ctx, own.Fleet) })
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

// join admits a gateway; the receiver logs the result.
func (n *Node) join(ctx context.Context, r receiver.JoinRequest) (receiver.JoinResult, error) {
	members := n.fleet()
	if members == nil {
		return receiver.JoinResult{}, fmt.Errorf("%w: this node is a standby", join.ErrUnavailable)
	}
	der, err := members.Join(ctx, r.Secret, r.Gateway, r.CSR)
	if err != nil {
		return receiver.JoinResult{}, err
	}
	return receiver.JoinResult{Certificate: der, CA: n.ca.Certificate().Raw}, nil
}

func (n *Node) renew(ctx context.Context, gateway string, csr []byte) ([]byte, error) {
	members := n.fleet()
	if members == nil {
		if owner, known := n.broker.Controller(); known && owner.Name != n.o.Node {
			return nil, &receiver.NotOwnerError{Addr: owner.Address(cluster.Sync)}
		}
		return nil, join.ErrUnavailable
	}
	return members.Renew(ctx, gateway, csr)
}

// admit: a standby admits every gateway with a certificate, to redirect it to the
// owner. A node that is about to lead admits no gateway that it cannot check.
func (n *Node) admit(gateway string, certificate *x509.Certificate) error {
	members := n.fleet()
	if members == nil {
		if _, known := n.broker.Controller(); !known {
			return fmt.Errorf("%w: no owner is known yet", join.ErrUnavailable)
		}
		return nil
	}
	err := members.Admit(gateway, certificate)
	if errors.Is(err, fleet.ErrUnknownGateway) {
		return fmt.Errorf("%w: %w", join.ErrRevoked, err) // its membership is gone: it must join again
	}
	if err != nil {
		members.Refused(gateway, fleet.Refusal{Reason: "not-admitted", Text: err.Error()})
	}
	return err
}

// mayWrite reports whether a gateway may write to a topic. While this node does not own
// the shard the broker refuses the write, but not for good.
func (n *Node) mayWrite(gateway, topic string) bool {
	members := n.fleet()
	return members == nil || members.MayWrite(gateway, topic)
}

// dropUser closes the connections of a user whose credential was replaced or removed.
func (n *Node) dropUser(user string) {
	n.logins.Drop(user)
}
