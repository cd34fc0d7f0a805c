// Package cloud is a node. Gateways sync to it over QUIC, its state is in a bucket, and
// applications read and write the streams through its doors.
//
// cloud.go opens the node and connects its parts, owned.go has the shards that it owns,
// lead.go is what it does while it owns one, mirror.go what it keeps of the catalogue while
// another node has it, standby.go what it asks that node for, uplink.go adapts the broker
// for gateways.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/amqp091"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/kafka"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/management"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/recent"
	"github.com/weirmq/weir/cloud/streamqueue"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
)

// Off is the address of a listener that is switched off.
const Off = "off"

// Values of Options.AMQPTopics besides Off.
const (
	TopicsExisting = "existing" // those that there are
	TopicsCreate   = "create"   // others are made, as for gateways
)

// Options configure a node. Bucket, Data and Node are required.
type Options struct {
	Bucket     storage.Bucket
	Data       string              // directory of this node's own files: its lock, the join token
	BucketURL  string              // of Bucket: where it was probed before, Open does not wait for that; "" if it is not known
	Node       string              // name, unique in the cluster
	Roles      cluster.Roles       // what the node does; 0: everything
	Advertise  string              // host under which others reach this node's listeners that are not on loopback; default: that of each listener, else the host's name
	Sync       string              // UDP listener for gateways, or Off
	Kafka      []listener.Settings // none: no Kafka door
	AMQP       []listener.Settings // as login.Always makes them; none: no door for AMQP
	AMQPTopics string              // which topics get what is published to amq.topic: Off, TopicsExisting or TopicsCreate; "" is Off
	Management []listener.Settings // likewise; none: no management HTTP API
	HTTP       HTTP
	Peer       string            // TCP listener for other nodes of the cluster, or Off
	Sockets    *listener.Sockets // with which the process was started, for its listeners; nil: it opens all. Open takes them
	Secret     []byte            // wraps the CA's key in the bucket
	NoKeys     bool              // the node does not use the CA's key: for the role door alone
	JoinToken  string            // with NoKeys: a token for the first certificate; "": Data has it
	Shards     int               // --shards: how many have the data of a new cluster; 0: as it is, and 1 for a new cluster
	AutoShards time.Duration     // how long the nodes must have been the same until the owner of the catalogue gives the cluster a shard with data for each that can own one; 0: it does not
	Partitions int32             // of topics created without a number
	AutoCreate bool
	Takeover   time.Duration // see cluster.ManagerOptions; default: 3 s, in a cluster of several shards 2 s
	IdleExit   time.Duration // Run returns ErrIdle when nobody has used the node for so long; 0: it does not
	Drain      time.Duration // how long shards may be handed over to other nodes before Run returns; 0: they are not
	Linger     time.Duration // see commitlog.Options
	Upkeep     upkeep.Options
	Limits     Limits
	ShowToken  func(token, file string)
	Authorize  bool           // Kafka clients need an ACL for everything they do
	SuperUsers []string       // principals that may do everything nevertheless
	Tokens     bearer.Options // which tokens are accepted from clients that use OAUTHBEARER
	Ready      func()         // called once, when this node leads or stands by; may be nil
	Log        *slog.Logger
}

// HTTP is the listener of the admin port.
type HTTP struct {
	Listen       string   // TCP address, or Off
	Hosts        []string // further names under which the port may be used
	TLSCert      string   // PEM files; with both, the listener speaks TLS
	TLSKey       string
	Anonymous    bool // reading needs no credential
	CloseMetrics bool // reading the metrics needs one
}

// Node is a running weir-cloud.
type Node struct {
	o         Options
	self      broker.Node
	bucket    storage.Bucket
	probed    bool       // the bucket has passed before this process started
	clusterID string     // "" while the bucket is empty
	ca        *join.CA   // nil: this node has door instead
	door      *join.Door // nil: this node has ca
	broker    *broker.Broker
	records   *broker.Records     // of all partitions, wherever they are led
	topics    *streamqueue.Topics // of stream queues
	kafka     *kafka.Server
	amqp      atomic.Pointer[amqp091.Server] // nil: --amqp off, and no client has come through another node
	receiver  *receiver.Receiver
	ingest    *ingest // from gateways to the shards
	http      *http.Server
	adminPort *admin.Listener // nil: --http off
	guard     *admin.Guard    // of the admin port
	unjudged  chan struct{}   // a token for each request that is forwarded without a checked credential
	conns     *budget.Conns   // of all listeners
	access    *access.Access  // what clients of all doors may do
	logins    *login.Sessions // of clients of all doors
	peers     peers           // the other nodes

	revocations revocations // of them

	manager    *cluster.Manager
	races      races      // with them, for names in the bucket
	mover      mover      // of slices between this node's shards
	remapping  sync.Mutex // held while the map of slices changes
	tunnelling sync.Mutex // held while amqp is set
	management *management.Server
	splitter   splitter
	mirrors    mirrors        // of the catalogue, on other nodes
	copies     *copies        // of the catalogue
	notices    *notices       // of gateways
	decoy      []byte         // see auth.Options
	own        []cluster.Door // this node's doors, which it checks itself
	pulse      pulse
	use        use
	metrics    *measure.Registry // of what this node counts and knows
	started    time.Time
	moves      moves
	recoveries *metrics.PrometheusHistogram // seconds that recovering a shard took
	shards     shards
	watching   chan struct{} // a token: held by what watches the doors
	recent     *recent.Lines // of the log
	ready      sync.Once
	standing   sync.Once               // standReady was called
	waiting    sync.WaitGroup          // of standReady
	fail       context.CancelCauseFunc // ends the node; set by Run
	lock       *os.File
	doors      []door
	closers    []func() error // in the order of opening

	certificates []*listener.Certificates // of the listeners; not changed after Open
}

// door is a part that serves until it is closed.
type door struct {
	name  string
	serve func() error
}

// Open checks that the bucket can be trusted, opens the listeners and answers on
// --http. Run does the rest.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	lines := new(recent.Lines)
	o.Log = slog.New(lines.Handler(o.Log.Handler()))
	n := &Node{o: o, started: time.Now(), recent: lines, metrics: measure.New(), unjudged: make(chan struct{}, maxUnjudged), watching: make(chan struct{}, 1), revocations: revocations{kick: make(chan struct{}, 1)}, mover: mover{turn: make(chan struct{}, 1)}, logins: login.NewSessions(), conns: budget.NewConns(budget.ConnsOptions{Total: o.Limits.Connections, Log: o.Log})}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	n.copies, n.notices = n.newCopies(), newNotices()
	if err := n.lockData(); err != nil {
		return nil, err
	}
	read, err := n.meetBucket(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.openCluster(ctx, read); err != nil {
		return nil, err
	}
	n.self = broker.Node{ID: cluster.NodeID(o.Node), Name: o.Node, Roles: o.Roles, Addresses: make(cluster.Addresses)}
	if n.self.Host, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("ask for the host's name: %w", err)
	}
	if err := n.listen(); err != nil {
		return nil, err
	}
	n.manager = n.newManager()
	return n, nil
}

// ErrShards means that this node's settings do not fit the number of shards of the
// cluster.
var ErrShards = errors.New("settings do not fit the shards of the cluster")

// openCluster reads how many shards the cluster has. It creates a cluster only if it is
// to have several: else the node that leads first does that.
func (n *Node) openCluster(ctx context.Context, read clusterRead) error {
	known, found, err := read.cluster, read.found, read.err
	if err != nil && !errors.Is(err, state.ErrFormat) { // which keeps the node from leading, and not from redirecting
		return fmt.Errorf("read the cluster's name: %w", err)
	}
	if want := shardsOf(n.o.Shards); want > 0 && err == nil && (found || want > 1) {
		if known, err = identity.Open(ctx, n.bucket, want); errors.Is(err, identity.ErrShards) {
			return fmt.Errorf("%w: %w", ErrShards, err)
		} else if err != nil {
			return fmt.Errorf("create the cluster: %w", err)
		}
		if known.Shards != want {
			n.o.Log.Warn("another node has created the cluster meanwhile, with another number of shards, which holds", "shards", known.Shards, "wanted", want)
		}
	}
	n.clusterID, n.shards = known.ID, newShards(max(1, known.Shards))
	n.sayRoles()
	if n.several() && n.o.Peer == Off {
		return fmt.Errorf("%w: --peer off needs a cluster that was created without --shards: the nodes of several shards need each other", ErrShards)
	}
	return nil
}

// shardsOf returns how many shards a cluster has that is created with --shards: one more
// if there are several, for the catalogue.
func shardsOf(data int) int {
	if data > 1 {
		return data + 1
	}
	return data
}

// lockData makes sure that no other process uses the data directory: a node takes over
// from a claim of its own name without asking.
func (n *Node) lockData() error {
	if err := os.MkdirAll(n.o.Data, 0o755); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	path := filepath.Join(n.o.Data, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	n.lock = file
	n.closers = append(n.closers, file.Close)
	switch err := flock(file); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("data directory %s is in use by another weir-cloud", n.o.Data)
	case err != nil:
		return fmt.Errorf("lock the data directory: %w", err)
	}
	return nil
}

// listen opens the listeners, and makes the doors.
func (n *Node) listen() error {
	open, err := n.listenDoors()
	if err != nil {
		return err
	}
	n.broker = broker.New(broker.Options{Self: n.self, Shards: n.shards.created, Partitions: n.o.Partitions, AutoCreate: n.o.AutoCreate, Metrics: n.metrics.Set, Takeover: n.takeover(), Drop: n.dropAt, Create: n.createAt, Told: n.mirrors.await, Members: n.others,
		Transacting: broker.Transacting{Verify: n.verifyThere, End: n.endThere}})
	n.openRecords()
	n.ingest = newIngest(n.broker, n.peers.client, n.mayWrite, n.o.Limits.orDefault(), n.o.Log)
	n.ingest.lost = n.lostRecords
	n.topics = streamqueue.New(streamqueue.Options{Broker: n.broker, Records: n.records, MaxTopics: n.o.Limits.orDefault().Topics, Metrics: n.metrics.Set, Log: n.o.Log})
	n.metrics.SetSources(n.sources())
	n.metrics.NewGauge("weir_bridge_lag_records", n.bridgeLag)
	n.measureMoves()
	n.access = access.New(access.Options{Broker: n.broker, Users: n.users, Quotas: n.quotas, Authorize: n.o.Authorize})
	return n.open(open)
}

func ignoreClosed(close func() error) func() error {
	return func() error {
		if err := close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// advertised returns the address under which others reach a listener. A listener on
// loopback has no other address.
func (n *Node) advertised(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	switch ip := net.ParseIP(host); {
	case ip != nil && ip.IsLoopback():
	case n.o.Advertise != "":
		host = n.o.Advertise
	case ip == nil || ip.IsUnspecified():
		host = n.self.Host
	}
	return net.JoinHostPort(host, port)
}

// open makes the doors. Those that are off are nil.
func (n *Node) open(l listeners) error {
	if err := n.openDoor(l.kafka); err != nil { // without listeners it performs requests for clients of other nodes
		return err
	}
	if len(l.amqp) > 0 {
		if err := n.openAMQP(l.amqp); err != nil {
			return err
		}
	}
	n.openManagement(l) // without listeners it performs requests for clients of other nodes
	if l.sync != nil {
		if err := n.openReceiver(l.sync); err != nil {
			return err
		}
	}
	if l.http != nil {
		n.openConsole(l.http)
	}
	return nil
}

// openDoor makes the Kafka door.
func (n *Node) openDoor(listeners []listener.Listener) error {
	o := kafka.Options{Listeners: listeners, Broker: n.broker, Records: n.records, Access: n.access, Sessions: n.logins, Owner: owner{n}.calls(), Relay: n.relayTo, Metrics: n.metrics, Log: n.o.Log,
		Conns: n.conns, MaxConns: n.o.Limits.PerListener, PerAddress: n.o.Limits.PerAddress,
		MemoryBytes: int(n.o.Limits.RequestMemory), AnswerBytes: int(n.o.Limits.AnswerMemory)}
	if n.o.Tokens.Keys != "" {
		var err error
		if o.Tokens, err = bearer.New(n.o.Tokens); err != nil {
			return err
		}
	}
	server, err := kafka.New(o)
	if err != nil {
		return err
	}
	n.kafka = server
	n.doors = append(n.doors, door{"kafka", server.Serve})
	n.closers = append(n.closers, server.Close)
	if !n.o.Authorize && slices.ContainsFunc(n.o.Kafka, listener.Settings.Authenticated) {
		n.o.Log.Warn("every user may do everything: set --kafka-authorize to enforce ACLs")
	}
	return nil
}

func (n *Node) openReceiver(packets net.PacketConn) error {
	config, reset, err := n.syncTLS()
	if err != nil {
		return err
	}
	bytes := cmp.Or(n.o.Limits.SyncMemory, DefaultLimits().SyncMemory)
	memory, err := n.metrics.Pool(receiver.MemoryOptions(bytes, n.o.Log))
	if err != nil {
		return fmt.Errorf("memory of the sync port: %w", err)
	}
	r, err := receiver.New(receiver.Options{
		Conn:     packets,
		TLS:      config,
		ResetKey: (*[32]byte)(reset),
		Attach:   n.ingest.door.Attach,
		Resolve:  n.ingest.Resolve,
		Join:     n.join,
		Renew:    n.renew,
		Admit:    n.admit,
		Memory:   memory,
		Left:     n.left,
		Refused:  n.refused,

		MaxGateways: n.o.Limits.Gateways,

		Cluster: func() string { return cmp.Or(n.broker.ClusterID(), n.clusterID) },
		Node:    n.o.Node,
		Metrics: n.metrics.Set,
		Logger:  n.o.Log,
	})
	if err != nil {
		return err
	}
	n.receiver = r
	n.doors = append(n.doors, door{"sync", r.Serve})
	n.metrics.Door(measure.Door{Name: "sync", Counts: r.Counts})
	n.closers = append(n.closers, r.Close)
	return nil
}

// drop makes a gateway say Hello again. It is then checked again whether it is
// admitted.
func (n *Node) drop(gateway string) {
	if n.receiver != nil {
		n.receiver.Drop(gateway)
	}
}

// Role returns owner, recovering or standby: owner if this node owns any shard.
func (n *Node) Role() string { return n.shards.role() }

// Run serves until ctx ends, which is no error, or until this node has lost the only shard
// of the cluster or a door fails, which is one. When ctx ends, other nodes get its shards
// first: see Options.Drain. Errors: ErrIdle, if that is all that has ended it.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leading, stop := context.WithCancel(context.WithoutCancel(ctx)) // it goes on while shards are handed over
	defer stop()
	n.races.ctx, n.mover.ctx, n.fail = ctx, leading, cancel
	var wg sync.WaitGroup
	for _, d := range n.doors {
		wg.Go(func() {
			if err := d.serve(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("serve %s: %w", d.name, err))
			}
		})
	}
	wg.Go(func() { n.metrics.Meter.Run(leading, n.broker) })
	wg.Go(func() { n.metrics.Loads.Run(leading, n.metrics) })
	wg.Go(func() { n.keepCopy(leading) })
	wg.Go(func() { n.expelRevoked(leading) })
	wg.Go(func() { n.renewDoor(leading) })
	if n.probed {
		wg.Go(func() { n.probeAgain(ctx) })
	}
	if n.o.IdleExit > 0 {
		wg.Go(func() {
			if n.idleness().await(ctx) {
				n.o.Log.Info("nobody uses this node: it ends, and what comes to a socket of the service manager starts it again", "idle", n.o.IdleExit)
				cancel(ErrIdle)
			}
		})
	}
	wg.Go(func() { n.tellOwner(leading) }) // with one shard too: it may be split, and until then there is nothing to tell
	err := n.manage(ctx, leading, stop)
	idle := errors.Is(context.Cause(ctx), ErrIdle)
	if cause := context.Cause(ctx); cause != nil && !idle && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	cancel(nil)
	n.waiting.Wait()
	n.races.end()
	err = errors.Join(err, n.Close())
	wg.Wait()
	if err == nil && idle {
		return ErrIdle
	}
	return err
}

// Reload checks now whether the listeners' certificates have changed, instead of at the
// next connection, and logs the result.
func (n *Node) Reload() {
	n.o.Log.Info("reading the certificates of the listeners again; all other files are read at the start only", "listeners", len(n.certificates))
	for _, c := range n.certificates {
		c.Reload()
	}
}

// Close undoes Open; Run calls it. It may be called again.
func (n *Node) Close() error {
	var errs []error
	for len(n.closers) > 0 {
		last := len(n.closers) - 1
		errs = append(errs, n.closers[last]())
		n.closers = n.closers[:last]
	}
	return errors.Join(errs...)
}
