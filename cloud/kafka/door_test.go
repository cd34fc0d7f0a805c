package kafka

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

const (
	Plain       = login.Plain
	ScramSHA256 = login.ScramSHA256
	ScramSHA512 = login.ScramSHA512
	OAuthBearer = login.OAuthBearer
)

type Listener = listener.Listener

// door is a whole node: a door on a broker that owns a log in a bucket.
type door struct {
	*Server
	addr   string
	own    *shard.Shard
	lost   *atomic.Bool // the door thinks that the shard is not its node's
	served chan error
}

type setup struct {
	options Options
	bucket  storage.Bucket
	now     func() time.Time // for what clients may use; time.Now
	listen  func(net.Listener) net.Listener
	manual  bool          // topics are not created because a request names them
	pulse   time.Duration // how often members of consumer groups send heartbeats
}

func open(t testing.TB, o setup) *door {
	t.Helper()
	if o.bucket == nil {
		o.bucket = mem.New()
	}
	quiet := slog.New(slog.DiscardHandler)
	dynamic := settings.New()
	var b *broker.Broker
	var d *door
	changed := func(user string) {
		if d != nil { // not while the log is opened
			d.o.Sessions.Drop(user)
		}
	}
	own := shard.New(shard.Options{
		Log:      quiet,
		Settings: dynamic,
		Groups:   group.Options{ConsumerHeartbeat: o.pulse, Timeouts: broker.GroupTimeouts(func() *settings.Settings { return dynamic })},
		Shares:   share.Options{Settings: broker.ShareSettings(func() *settings.Settings { return dynamic }, 7)},
		Txns:     txn.Options{Ended: func(how txn.Ending) { b.TransactionEnded(how) }},
		Users:    auth.Options{SuperUsers: []string{"User:root"}, Changed: changed},
		Quotas:   quota.Options{Now: o.now},
	})
	if err := own.Open(t.Context(), commitlog.Options{
		Bucket: o.bucket, Node: "a", Log: quiet,
		Defaults: func() map[string]string { return broker.TopicDefaults(dynamic, 7) },
	}); err != nil {
		t.Fatalf("open log: %v", err)
	}
	lost := new(atomic.Bool)
	users := func() *auth.Auth {
		if lost.Load() {
			return nil
		}
		return own.Users
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.listen != nil {
		l = o.listen(l)
	}
	o.options.Metrics = measure.New()
	b = broker.New(broker.Options{
		Self:       broker.Node{ID: 7, Name: "a", Addresses: cluster.Addresses{cluster.Kafka: {"": l.Addr().String()}}},
		Partitions: 4, AutoCreate: !o.manual, Metrics: o.options.Metrics.Set,
	})
	b.Lead(own)
	o.options.Metrics.SetSources(measure.Sources{Coordination: b.Coordination})
	d = serve(t, o.options, access.Options{Users: users, Quotas: func() *quota.Quotas { return own.Quotas }}, l, b)
	d.own, d.lost = own, lost
	t.Cleanup(func() { // in the order of a node that stops
		if err := d.Close(); err != nil {
			t.Errorf("close door: %v", err)
		}
		if err := <-d.served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := own.Close(); err != nil {
			t.Errorf("close the shard: %v", err)
		}
	})
	return d
}

// standby is a door of a node that owns nothing and knows the owner.
func standby(t testing.TB, owner *broker.Node) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Options{Self: broker.Node{ID: 8, Name: "b", Addresses: cluster.Addresses{cluster.Kafka: {"": l.Addr().String()}}}, AutoCreate: true})
	if owner != nil {
		b.Follow(0, *owner, "cluster")
	}
	d := serve(t, Options{}, access.Options{}, l, b)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// authorized is an Options.Access that makes serve ask for ACLs.
func authorized() *access.Access { return access.New(access.Options{Authorize: true}) }

// serve opens a door. ACLs count if a or o.Access says so.
func serve(t testing.TB, o Options, a access.Options, l net.Listener, b *broker.Broker) *door {
	t.Helper()
	a.Broker, a.Authorize = b, a.Authorize || o.Access != nil && o.Access.Authorizes()
	o.Access = access.New(a)
	if o.Broker = b; o.Listeners == nil {
		o.Listeners = []Listener{{}}
	}
	o.Listeners[0].Listener = l
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Server: s, addr: l.Addr().String(), served: make(chan error, 1)}
	go func() { d.served <- s.Serve() }()
	return d
}

func (d *door) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(d.addr), kgo.AllowAutoTopicCreation()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (d *door) topic(t testing.TB, name string, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(d.client(t)).CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

func within30s(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// poll reads n records.
func poll(t testing.TB, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := within30s(t)
	var all []*kgo.Record
	for len(all) < n {
		f := cl.PollFetches(ctx)
		for _, e := range f.Errors() {
			t.Fatalf("fetch after %d of %d records: %v", len(all), n, e.Err)
		}
		all = append(all, f.Records()...)
	}
	if len(all) > n {
		t.Fatalf("%d records, want %d", len(all), n)
	}
	return all
}
