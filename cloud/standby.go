package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/kafka"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/pause"
)

const (
	// copyEvery is how often a standby asks the owner for changes, and copyPause how
	// soon it asks again if a client waits.
	copyEvery = 500 * time.Millisecond
	copyPause = 50 * time.Millisecond
	// copyTime is how long the owner may take to answer, and refreshTime how long a
	// client waits for the answer.
	copyTime    = 5 * time.Second
	refreshTime = time.Second
	// maxForwards is how many requests of clients a standby has at the owner at once;
	// others wait.
	maxForwards = 16

	copyMissing = "this node stands by without a copy of what the owner knows: Kafka clients that come to it find no topics and cannot log in by password; see to the network between the nodes' --peer"
)

// copies keeps this node's copy of the owner's state: see broker.Copy.
type copies struct {
	kick     chan struct{} // a token: a client waits for a copy
	forwards chan struct{} // a token for each request that is at the owner
	quotas   *quota.Quotas // of the copy; the clients' use of them is kept when it is replaced
	missing  *budget.Episode

	mu     sync.Mutex         // guards what follows
	next   chan struct{}      // closed at the end of the next round
	cancel context.CancelFunc // ends the question under way; nil: there is none
	since  time.Time          // when this node became a standby; zero: never
}

func (n *Node) newCopies() *copies {
	return &copies{kick: make(chan struct{}, 1), forwards: make(chan struct{}, maxForwards), quotas: quota.New(quota.Options{}), next: make(chan struct{}),
		missing: budget.NewEpisode(budget.EpisodeOptions{
			Begin: copyMissing,
			End:   "this node has a copy of what the owner knows again", Quiet: time.Hour, Log: n.o.Log})}
}

// keepCopy asks the owner repeatedly, one question at a time, until ctx ends.
func (n *Node) keepCopy(ctx context.Context) {
	c := n.copies
	for ctx.Err() == nil {
		c.mu.Lock()
		over := c.next
		c.next = make(chan struct{})
		c.mu.Unlock()
		n.renewCopy(ctx)
		close(over)
		_ = pause.For(ctx, copyPause)
		timer := time.NewTimer(copyEvery - copyPause)
		select {
		case <-c.kick:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	c.missing.End()
}

// Refresh is for kafka.Owner.
func (c *copies) Refresh(ctx context.Context) {
	c.mu.Lock()
	over := c.next
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
	timer := time.NewTimer(refreshTime)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follow ends the question to the former owner and makes keepCopy ask the new one at
// once.
func (c *copies) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		c.since = time.Now()
	}
	if c.cancel != nil {
		c.cancel()
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// renewCopy asks the owner once.
func (n *Node) renewCopy(ctx context.Context) {
	c := n.copies
	limited, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	c.mu.Lock()
	c.cancel = cancel // before the owner is looked up: follow comes later, or cancels this question
	c.mu.Unlock()
	owner, known := n.broker.Controller()
	if !known || owner.Name == n.o.Node {
		return // this node leads, or is about to lead
	}
	err := n.copyFrom(limited, owner.Node)
	c.mu.Lock()
	c.cancel = nil
	since := c.since
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err == nil:
		c.missing.End()
	case n.broker.Copy() == nil && time.Since(since) > broker.MaxCopyAge:
		c.missing.Note("owner", owner.Name, "peer", owner.Address(cluster.Peer), "err", err)
	}
}

// copyFrom brings this node's copy up to the time of the question.
func (n *Node) copyFrom(ctx context.Context, owner broker.Node) error {
	if owner.Address(cluster.Peer) == "" {
		return errors.New("the owner has no --peer")
	}
	last, after := n.broker.LastCopy(), ""
	if last != nil && last.Owner == owner.Name {
		after = last.Tag
	}
	asked := time.Now()
	got, err := n.peers.client.Copy(ctx, owner.Name, owner.Address(cluster.Peer), after)
	if err != nil {
		return err
	}
	if got == nil && after == "" {
		return errors.New("the owner sent no copy, although this node has none")
	}
	next := new(broker.Copy)
	if after != "" {
		*next = *last
	}
	next.Asked = asked
	if got != nil {
		if err := n.take(next, got, after == ""); err != nil {
			return err
		}
		next.Owner = owner.Name
	}
	n.broker.SetCopy(next)
	if last != nil && last.Users != next.Users {
		last.Users.Supersede(next.Users)
	}
	return nil
}

// take adds changes to a copy. whole says that the copy is empty so far.
func (n *Node) take(next *broker.Copy, got *peer.Copy, whole bool) error {
	if whole && (got.Topics == nil || got.Users == nil || got.Quotas == nil || got.Settings == nil) {
		return errors.New("the owner sent an incomplete copy")
	}
	next.Tag, next.Epoch, next.Cluster, next.Offsets = got.Tag, got.Epoch, got.Cluster, got.Offsets
	if got.Users != nil {
		users, err := auth.Copied(got.Users, auth.Options{SuperUsers: n.o.SuperUsers, Changed: n.dropUser})
		if err != nil {
			return err
		}
		next.Users = users
	}
	if got.Settings != nil {
		changed, err := settings.Copied(got.Settings)
		if err != nil {
			return err
		}
		next.Settings = changed
	}
	if got.Topics != nil {
		next.SetTopics(got.Topics)
	}
	if next.Quotas = n.copies.quotas; got.Quotas != nil {
		return n.copies.quotas.Follow(got.Quotas)
	}
	return nil
}

// copyFor answers a standby. The tag counts the changes of topics, of users and ACLs,
// of quotas, and of settings, since this node became the owner.
func (n *Node) copyFor(after string) (*peer.Copy, error) {
	own := n.shards.get(catalogueShard)
	if err := n.broker.Serving(); err != nil || own == nil {
		return nil, errors.Join(peer.ErrNoCopy, err)
	}
	// The counts are taken first: a later change is sent again with the next answer.
	life := fmt.Sprintf("%s-%d-", n.self.Boot, own.Log.Epoch())
	counts := []string{fmt.Sprint(own.Log.Changes()), fmt.Sprint(own.Users.Changes()), fmt.Sprint(own.Quotas.Changes()), fmt.Sprint(own.Settings.Changes())}
	c := &peer.Copy{Tag: life + strings.Join(counts, "."), Epoch: own.Log.Epoch(), Cluster: own.Log.ClusterID()}
	_, c.Offsets = n.broker.InternalTopic()
	seen := make([]string, len(counts))
	if rest, ok := strings.CutPrefix(after, life); ok {
		copy(seen, strings.Split(rest, "."))
	}
	if seen[0] != counts[0] {
		all, err := n.broker.Topics()
		if err != nil {
			return nil, errors.Join(peer.ErrNoCopy, err)
		}
		if c.Topics = all; len(c.Topics) > peer.MaxTopics {
			return nil, fmt.Errorf("%w: there are %d topics, at most %d are copied", peer.ErrTooLarge, len(c.Topics), peer.MaxTopics)
		}
	}
	if seen[1] != counts[1] {
		c.Users = own.Users.Copy()
	}
	if seen[2] != counts[2] {
		c.Quotas = own.Quotas.Copy()
	}
	if seen[3] != counts[3] {
		c.Settings = own.Settings.Copy()
	}
	return c, nil
}

// copyAge is the age of this node's copy, in seconds; 0 if it is not a standby for the
// catalogue.
func (n *Node) copyAge() float64 {
	if n.shards.roleOf(catalogueShard) != console.RoleStandby {
		return 0
	}
	if c := n.broker.LastCopy(); c != nil {
		return time.Since(c.Asked).Seconds()
	}
	n.copies.mu.Lock()
	defer n.copies.mu.Unlock()
	if n.copies.since.IsZero() {
		return 0
	}
	return time.Since(n.copies.since).Seconds()
}

// endCopy ends the copy of a node that has become the owner. users is from the log:
// sessions that logged in with a credential that users does not have are closed.
func (n *Node) endCopy(users *auth.Auth) {
	if last := n.broker.LastCopy(); last != nil {
		last.Users.Supersede(users)
	}
	n.access.Settle()
}

// owner lets the Kafka door of a standby ask the owner.
type owner struct{ n *Node }

// calls returns the calls that the door makes.
func (o owner) calls() *kafka.Owner {
	return &kafka.Owner{CreateTopic: o.CreateTopic, NewProducerID: o.NewProducerID, Perform: o.Perform, Refresh: o.n.copies.Refresh}
}

// CreateTopic is for kafka.Owner.
func (o owner) CreateTopic(ctx context.Context, who auth.Who, name string) (t broker.Topic, code int16, err error) {
	err = o.at(ctx, func(node, address string) error {
		t, code, err = o.n.peers.client.CreateTopic(ctx, node, address, peer.Behalf(who), name)
		return err
	})
	return t, code, err
}

// NewProducerID is for kafka.Owner.
func (o owner) NewProducerID(ctx context.Context, who auth.Who) (id int64, code int16, err error) {
	err = o.at(ctx, func(node, address string) error {
		id, code, err = o.n.peers.client.NewProducerID(ctx, node, address, peer.Behalf(who))
		return err
	})
	return id, code, err
}

// Perform is for kafka.Owner.
func (o owner) Perform(ctx context.Context, who auth.Who, key, version int16, client string, body []byte) (answer []byte, err error) {
	err = o.at(ctx, func(node, address string) error {
		answer, err = o.n.peers.client.Kafka(ctx, node, address, peer.KafkaRequest{Behalf: peer.Behalf(who), Key: key, Version: version, Client: client, Body: body})
		return err
	})
	return answer, err
}

// at asks the owner, after waiting for its turn.
func (o owner) at(ctx context.Context, ask func(node, address string) error) error {
	select {
	case o.n.copies.forwards <- struct{}{}:
		defer func() { <-o.n.copies.forwards }()
	case <-ctx.Done():
		return ctx.Err()
	}
	node, known := o.n.broker.Controller()
	if !known || node.Address(cluster.Peer) == "" || node.Name == o.n.o.Node {
		return broker.ErrNotOwner
	}
	return ask(node.Name, node.Address(cluster.Peer))
}

// leaderNotAvailable is Kafka's error code if the owner has no Kafka door.
const leaderNotAvailable = 5

// createFor creates a topic for a client of a standby.
func (n *Node) createFor(ctx context.Context, b peer.Behalf, name string) (state.Topic, int16) {
	if n.kafka == nil {
		return state.Topic{}, leaderNotAvailable
	}
	return n.kafka.CreateTopic(ctx, auth.Who(b), name)
}

// performFor performs a request for a client of another node.
func (n *Node) performFor(ctx context.Context, q peer.KafkaRequest) ([]byte, error) {
	if n.kafka == nil {
		return nil, errors.New("the owner has no door for Kafka")
	}
	return n.kafka.Perform(ctx, auth.Who(q.Behalf), q.Key, q.Version, q.Client, q.Body)
}

// producerFor allocates a producer id for a client of a standby.
func (n *Node) producerFor(ctx context.Context, b peer.Behalf) (int64, int16) {
	if n.kafka == nil {
		return 0, leaderNotAvailable
	}
	return n.kafka.NewProducerID(ctx, auth.Who(b))
}
