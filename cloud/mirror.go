package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

const (
	// copyBeat is how long the owner waits for a change before it answers, and copyPause
	// how soon it is asked again.
	copyBeat  = time.Second
	copyPause = 10 * time.Millisecond
	// copyEvery is how often the owner is asked that does not answer, or does not know
	// mirrors.
	copyEvery = 500 * time.Millisecond
	// copyTime is how long an answer may take, readTime how long the bucket, and
	// refreshTime how long a client waits.
	copyTime    = 5 * time.Second
	readTime    = 30 * time.Second
	refreshTime = time.Second
	// maxForwards is how many requests of clients a standby has at the owner at once;
	// others wait.
	maxForwards = 16
	// severalAge is how old the copy may become in a cluster of several shards. What was
	// revoked can be used for so long by clients of a node that hears nothing.
	severalAge = time.Minute
	// staleAge is the age from which the copy is read from the bucket if the owner does not
	// answer, and readEvery how often that is tried at most: it takes some requests, and one
	// for each slot since the newest checkpoint.
	staleAge  = severalAge / 3
	readEvery = 5 * time.Second

	copyMissing = "this node stands by without a copy of what the owner knows: Kafka clients that come to it find no topics and cannot log in by password; see to the network between the nodes' --peer"
)

// copies keeps this node's copy of the catalogue: see broker.Copy. It asks the owner of
// shard 0 one question after the other. An answer waits until there is a change, so that a
// change is here at once. The age of the copy is counted from the question, by the clock of
// this node.
type copies struct {
	kick     chan struct{} // a token: a client waits for a copy
	forwards chan struct{} // a token for each request that is at the owner
	quotas   *quota.Quotas // of the copy; the clients' use of them is kept when it is replaced
	missing  *budget.Episode
	mirror   *mirror   // of keepCopy; nil: there is none
	unowned  int       // of keepCopy: how often no owner was known, the last times
	read     time.Time // of keepCopy: when the bucket was read last

	publishing sync.Mutex // held while a copy is replaced

	mu     sync.Mutex              // guards what follows
	next   chan struct{}           // closed at the end of the next round
	cancel context.CancelCauseFunc // ends the question under way; nil: there is none
	waits  bool                    // the answer to it may wait
	since  time.Time               // when this node became a standby; zero: never
}

// mirror is a Mirror with where it comes from, and its machines.
type mirror struct {
	*commitlog.Mirror
	owner string // name of the node that has told everything in it
	epoch int32
	view  shard.View
}

func (n *Node) newCopies() *copies {
	return &copies{kick: make(chan struct{}, 1), forwards: make(chan struct{}, maxForwards), quotas: quota.New(quota.Options{}), next: make(chan struct{}),
		missing: budget.NewEpisode(budget.EpisodeOptions{
			Begin: copyMissing,
			End:   "this node has a copy of what the owner knows again", Quiet: time.Hour, Log: n.o.Log})}
}

// keepCopy asks the owner until ctx ends.
func (n *Node) keepCopy(ctx context.Context) {
	c := n.copies
	for wait := time.Duration(0); ctx.Err() == nil; {
		c.mu.Lock()
		over := c.next
		c.next = make(chan struct{})
		c.mu.Unlock()
		follows := n.renewCopy(ctx, wait)
		close(over)
		wait = c.rest(ctx, follows)
	}
	c.missing.End()
}

// rest pauses between two questions, and returns how long the next answer may wait.
// follows says that the last one came from a node that lets answers wait.
func (c *copies) rest(ctx context.Context, follows bool) time.Duration {
	_ = pause.For(ctx, copyPause)
	select {
	case <-c.kick:
		return 0
	default:
	}
	if follows {
		return copyBeat
	}
	timer := time.NewTimer(copyEvery - copyPause)
	defer timer.Stop()
	select {
	case <-c.kick:
	case <-timer.C:
	case <-ctx.Done():
	}
	return 0
}

// hurry makes keepCopy ask at once. The question under way is ended if its answer may
// wait, or if anyway is set. over is closed when the next one is answered.
func (c *copies) hurry(anyway bool) (over <-chan struct{}) {
	select {
	case c.kick <- struct{}{}:
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil && (c.waits || anyway) {
		c.cancel(peer.ErrInterrupted)
	}
	return c.next
}

// Refresh is for kafka.Owner.
func (c *copies) Refresh(ctx context.Context) {
	over := c.hurry(false)
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
	if c.since.IsZero() {
		c.since = time.Now()
	}
	c.mu.Unlock()
	c.hurry(true)
}

// renewCopy asks the owner once. It reports whether the answer came from a node that lets
// answers wait.
func (n *Node) renewCopy(ctx context.Context, wait time.Duration) (follows bool) {
	c := n.copies
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limited, end := context.WithTimeout(asking, copyTime+wait)
	defer end()
	c.mu.Lock()
	c.cancel, c.waits = cancel, wait > 0 // before the owner is looked up: follow comes later, or cancels this question
	c.mu.Unlock()
	owner, known := n.broker.Controller()
	if owner.Name == n.o.Node {
		c.mirror = nil // this node leads, or is about to lead
	}
	if !known {
		if c.unowned++; c.unowned > 1 {
			n.readCopy(asking)
		}
		return false
	}
	if c.unowned = 0; owner.Name == n.o.Node {
		return false
	}
	err := n.mirrorFrom(limited, owner.Node, wait)
	if follows = err == nil; errors.Is(err, peer.ErrUnknownVerb) || errors.Is(err, errMirror) {
		c.mirror = nil
		err = n.copyFrom(limited, owner.Node)
	}
	if err != nil && context.Cause(asking) == nil {
		n.readCopy(asking)
	}
	c.mu.Lock()
	c.cancel = nil
	since := c.since
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil || errors.Is(context.Cause(asking), peer.ErrInterrupted):
	case err == nil:
		c.missing.End()
	case n.broker.Copy() == nil && time.Since(since) > broker.MaxCopyAge:
		c.missing.Note("owner", owner.Name, "peer", owner.Address(cluster.Peer), "err", err)
	}
	return follows
}

// readCopy reads the catalogue from the bucket, in a cluster of several shards, if this
// node needs it: nobody answers who owns it. So the shards that have owners are served. The
// bucket has everything that was acknowledged when the reading began, and the age of the
// copy is counted from there. A node that cannot own the only shard of a cluster reads it
// anyway: the cluster may have got more shards, of which only the catalogue tells, and then
// nodes with some roles each are enough to own them.
func (n *Node) readCopy(ctx context.Context) {
	c := n.copies
	alone := n.o.Roles.Has(cluster.RoleMeta | cluster.RoleLog)
	if !n.several() && alone || !n.needsCopy() || time.Since(c.read) < readEvery {
		return
	}
	c.mu.Lock()
	c.waits = false // a client that waits for a copy gets this one
	c.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	asked, view := time.Now(), n.newView()
	view.Quotas = quota.New(quota.Options{}) // what is read in part changes nothing
	c.read = asked
	m, err := commitlog.ReadMirror(limited, n.bucket, view.Machines()...)
	if err == nil && m.Position().IsZero() {
		c.read = time.Time{} // nobody has ever owned it; that was one request
		return
	}
	if last := n.broker.LastCopy(); err == nil && last != nil && m.Position().Before(last.Position) {
		err = fmt.Errorf("%w: the bucket has it up to %v, this node up to %v", commitlog.ErrBehind, m.Position(), last.Position)
	}
	if err == nil {
		err = c.quotas.Follow(view.Quotas.Copy())
	}
	switch {
	case context.Cause(ctx) != nil:
		return // there is a new owner to ask
	case err != nil:
		c.missing.Note("err", err)
		return
	}
	view.Quotas = c.quotas
	c.mirror = &mirror{Mirror: m, view: view}
	n.publish(c.mirror, &broker.Copy{Epoch: -1, Cluster: cmp.Or(n.broker.ClusterID(), n.clusterID), Asked: asked}, false)
	c.missing.End()
}

// needsCopy reports whether this node has no copy, its copy is about to become too old, or
// a shard that it owns knows of a later catalogue and waits for it.
func (n *Node) needsCopy() bool {
	c := n.broker.Copy()
	if c == nil || time.Since(c.Asked) > staleAge {
		return true
	}
	return slices.ContainsFunc(n.shards.all(), func(own *owned) bool {
		return own.Part == shard.Data && c.Position.Before(own.Log.CataloguePosition())
	})
}

// errMirror: this program does not understand what the owner says of the catalogue, which
// may be of a later version. The owner's copy is for any version.
var errMirror = errors.New("what the owner says of the catalogue is not understood")

// mirrorFrom asks the owner for what this node lacks.
func (n *Node) mirrorFrom(ctx context.Context, owner broker.Node, wait time.Duration) error {
	address := owner.Address(cluster.Peer)
	if address == "" {
		return errors.New("the owner has no --peer")
	}
	m := n.copies.mirror
	q := peer.CatalogueQuestion{Wait: wait}
	if m != nil && m.owner == owner.Name {
		q.Epoch, q.After = m.epoch, m.Position()
	}
	asked := time.Now()
	got, err := n.peers.client.Catalogue(ctx, owner.Name, address, q)
	if err != nil {
		return err
	}
	before := -1 // changes of topics
	if got.Update.Snapshot == nil && q.Epoch == got.Epoch && m != nil {
		before = m.Changes()
		err = m.Apply(got.Update)
	} else {
		m, err = n.newMirror(got)
	}
	switch {
	case errors.Is(err, commitlog.ErrBehind):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errMirror, err)
	}
	m.owner, m.epoch = owner.Name, got.Epoch
	n.copies.mirror = m
	n.publish(m, &broker.Copy{Owner: owner.Name, Epoch: got.Epoch, Cluster: got.Cluster, Offsets: got.Offsets, Asked: asked}, m.Changes() == before)
	return nil
}

// newMirror makes a mirror from a snapshot, unless this node knows more already: then it
// has asked a former owner.
func (n *Node) newMirror(got *peer.Catalogue) (*mirror, error) {
	if last := n.broker.LastCopy(); last != nil && got.Update.At.Before(last.Position) {
		return nil, fmt.Errorf("%w: the owner knows less than this node: %v, not %v", commitlog.ErrBehind, got.Update.At, last.Position)
	}
	view := n.newView()
	m, err := commitlog.NewMirror(got.Update, view.Machines()...)
	return &mirror{Mirror: m, view: view}, err
}

// newView makes the machines of a mirror.
func (n *Node) newView() shard.View {
	return shard.View{Users: auth.New(n.usersOptions()), Quotas: n.copies.quotas, Settings: settings.New(), Fleet: fleet.New(fleet.Options{CA: n.ca, Changed: n.drop, NodesChanged: n.nodesChanged})}
}

// usersOptions are those of the users of the log, and of each copy of them.
func (n *Node) usersOptions() auth.Options {
	return auth.Options{SuperUsers: n.o.SuperUsers, Changed: n.dropUser, Decoy: n.decoy}
}

// publish makes what a mirror has the copy of this node, unless that has a newer one. same
// says that its topics are those of the last copy.
func (n *Node) publish(m *mirror, next *broker.Copy, same bool) {
	n.copies.publishing.Lock()
	defer n.copies.publishing.Unlock()
	last := n.broker.LastCopy()
	if last != nil && m.Position().Before(last.Position) {
		return
	}
	next.Users, next.Quotas, next.Settings = m.view.Users, m.view.Quotas, m.view.Settings
	next.Position = m.Position()
	n.judgeNodesBy(m.view.Fleet, next.Asked)
	n.setMap(m.Map())
	if n.several() { // else the gateways are those of the owner
		next.Fleet, next.MaxAge = m.view.Fleet, severalAge
	}
	if same && last != nil && last.Users == next.Users {
		next.SameTopics(last)
	} else {
		next.SetTopics(slices.DeleteFunc(m.Topics(), func(t state.Topic) bool { return weir.Hidden(t.Name) }), m.Deleting()...)
	}
	n.broker.SetCopy(next)
	if last != nil && last.Users != next.Users {
		last.Users.Supersede(next.Users)
	}
	if next.Fleet != nil && (last == nil || last.Fleet != next.Fleet) {
		n.dropBarred(next.Fleet)
	}
}

// keepView makes what the log of the catalogue has the copy of this node, which is about to
// lose it in good order: until the next owner answers, the doors of this node go on with
// that. In a cluster of one shard they have nothing to serve then.
func (n *Node) keepView(own *owned) {
	if own.Part == shard.Data || !n.several() {
		return
	}
	asked, view := time.Now(), n.newView()
	m, err := commitlog.NewMirror(own.Log.CatalogueSnapshot(), view.Machines()...)
	if err != nil {
		n.o.Log.Warn("this node names no topics until the next owner of the catalogue answers", "err", err)
		return
	}
	_, offsets := n.broker.InternalTopic()
	n.publish(&mirror{Mirror: m, view: view}, &broker.Copy{Owner: n.o.Node, Epoch: own.Log.Epoch(), Cluster: own.Log.ClusterID(), Offsets: offsets, Asked: asked}, false)
	own.Users.Supersede(view.Users) // a login under way is repeated with these
}

// catalogueFor answers a node that keeps a mirror.
func (n *Node) catalogueFor(ctx context.Context, q peer.CatalogueQuestion) (*peer.Catalogue, error) {
	own := n.shards.get(catalogueShard)
	if err := n.broker.Serving(); err != nil || own == nil {
		return nil, errors.Join(peer.ErrNoCopy, err)
	}
	n.mirrors.asks(q)
	c := &peer.Catalogue{Epoch: own.Log.Epoch(), Cluster: own.Log.ClusterID()}
	_, c.Offsets = n.broker.InternalTopic()
	if q.Epoch != c.Epoch {
		c.Update = own.Log.CatalogueSnapshot()
		return c, nil
	}
	timer := time.NewTimer(q.Wait)
	defer timer.Stop()
	for over := q.Wait == 0; ; {
		var changed <-chan struct{}
		c.Update, changed = own.Log.CatalogueAfter(q.After)
		if over || c.Update.Snapshot != nil || len(c.Update.Slots) > 0 {
			return c, n.broker.Serving()
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-own.Log.Done():
			return nil, peer.ErrNoCopy
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
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
