package cloud

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// TestAdvertised: others get a name under which they reach the listener; one
// on loopback keeps its address, since it has no other.
func TestAdvertised(t *testing.T) {
	for _, c := range []struct{ advertise, addr, want string }{
		{"", "0.0.0.0:9092", "this-host:9092"},
		{"", "[::]:9092", "this-host:9092"},
		{"", "192.0.2.1:9092", "192.0.2.1:9092"},
		{"", "127.0.0.1:9092", "127.0.0.1:9092"},
		{"cloud.example", "[::]:9092", "cloud.example:9092"},
		{"cloud.example", "192.0.2.1:9092", "cloud.example:9092"},
		{"cloud.example", "127.0.0.1:9092", "127.0.0.1:9092"},
		{"cloud.example", "[::1]:9092", "[::1]:9092"},
		{"2001:db8::1", "[::]:9092", "[2001:db8::1]:9092"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{o: Options{Advertise: c.advertise}, self: broker.Node{Host: "this-host"}}
		if got := n.advertised(addr); got != c.want {
			t.Errorf("%s with --advertise %q: %s, want %s", c.addr, c.advertise, got, c.want)
		}
	}
}

// heard is a slog.Handler that passes on messages.
type heard struct {
	slog.Handler
	said chan string
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }
func (h heard) Handle(_ context.Context, r slog.Record) error {
	h.said <- r.Message
	return nil
}
func (h heard) WithAttrs([]slog.Attr) slog.Handler { return h }

// running is a node under test.
type running struct {
	*Node
	said  chan string
	ctx   context.Context
	stop  context.CancelFunc
	ended chan struct{} // closed when Run has returned
	err   *error        // what it returned
}

func startNode(t *testing.T, b storage.Bucket, name string) running {
	t.Helper()
	return startNodeIn(t, b, name, t.TempDir())
}

// startPair starts two nodes, one after the other: the first one owns everything.
func startPair(t *testing.T, b storage.Bucket) (first, second running) {
	t.Helper()
	first = startNode(t, b, "first")
	first.says(t, "ready")
	second = startNode(t, b, "second")
	second.says(t, "ready")
	return first, second
}

// bucketOf returns the bucket of a new cluster with so many shards, shard 0 included.
func bucketOf(t *testing.T, shards int) storage.Bucket {
	t.Helper()
	b := mem.New()
	if _, err := identity.Open(t.Context(), b, shards); err != nil {
		t.Fatal(err)
	}
	return b
}

// startNodeIn starts a node in a data directory.
func startNodeIn(t *testing.T, b storage.Bucket, name, data string) running {
	t.Helper()
	r := openNode(t, b, name, data)
	r.run(t)
	return r
}

// openNode opens a node in a data directory, which must be run.
func openNode(t *testing.T, b storage.Bucket, name, data string, change ...func(*Options)) running {
	t.Helper()
	said := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Bucket: b, Data: data, Node: name, Sync: "127.0.0.1:0", Kafka: []listener.Settings{{Name: "default", Listen: "127.0.0.1:0"}}, HTTP: HTTP{Listen: "127.0.0.1:0"},
		Peer:       "127.0.0.1:0",
		Partitions: 1, Takeover: 300 * time.Millisecond, Log: slog.New(heard{slog.DiscardHandler, said})}
	for _, f := range change {
		f(&o)
	}
	n, err := Open(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	return running{n, said, ctx, cancel, make(chan struct{}), new(error)}
}

func (r running) run(t *testing.T) {
	go func() {
		defer close(r.ended)
		*r.err = r.Run(r.ctx)
	}()
	t.Cleanup(func() { r.stop(); <-r.ended })
}

// says waits for a line of the node's log.
func (r running) says(t *testing.T, want string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case got := <-r.said:
			if got == want {
				return
			}
		case <-late:
			t.Fatalf("%s never said %q", r.o.Node, want)
		}
	}
}

// TestTwoNodes: the second node stands by, and leads when the first is gone.
func TestTwoNodes(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	token, err := os.Stat(filepath.Join(first.o.Data, "join-token"))
	if err != nil || token.Mode().Perm() != 0o600 {
		t.Errorf("the join token: %v %v", token, err)
	}
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	owner, _ := second.broker.Controller()
	owner.Member = 0 // a number of its own each time
	if second.Role() != console.RoleStandby || !reflect.DeepEqual(owner.Node, first.self) || first.Role() != console.RoleOwner {
		t.Errorf("second is %s of %+v, first is %s", second.Role(), owner, first.Role())
	}
	if second.clusterID != first.broker.ClusterID() || second.clusterID == "" {
		t.Errorf("clusters %q and %q", second.clusterID, first.broker.ClusterID())
	}
	if err := second.admit("gw", nil); err != nil {
		t.Errorf("a standby turns a gateway away instead of sending it on: %v", err)
	}
	if has, err := first.asks(t, second.self, 0); err != nil || has != nil {
		t.Error("a standby passes for an owner")
	}
	if has, err := second.asks(t, first.self, 0); err != nil || has == nil || has.State != cluster.Owning || has.Epoch != 1 || has.Slot == 0 {
		t.Errorf("the owner: %+v, %v", has, err)
	}
	if first.self.Address(cluster.Peer) == "" || first.self.Boot == "" || first.self.Boot == second.self.Boot {
		t.Errorf("the claim names %+v", first.self)
	}
	asHTTP := first.self
	asHTTP.Addresses = maps.Clone(asHTTP.Addresses)
	delete(asHTTP.Addresses, cluster.Peer) // as nodes of earlier versions claim
	if has, err := second.asks(t, asHTTP, 0); err != nil || has == nil || has.State != cluster.Owning || has.Slot != 0 {
		t.Errorf("the owner over --http: %+v, %v", has, err)
	}
	for _, other := range []broker.Node{{Name: "other", Addresses: cluster.Addresses{cluster.HTTP: {"": first.self.Address(cluster.HTTP)}}},
		{Name: "other", Addresses: cluster.Addresses{cluster.Peer: {"": first.self.Address(cluster.Peer)}}}} {
		if _, err := second.asks(t, other, 0); err == nil || errors.Is(err, cluster.ErrRefused) {
			t.Errorf("one node passes for another: %v", err)
		}
	}
	first.stop()
	if <-first.ended; *first.err != nil {
		t.Errorf("stop the owner: %v", *first.err)
	}
	second.says(t, "leading")
	for _, gone := range []broker.Node{first.self, asHTTP} {
		if _, err := second.asks(t, gone, 0); !errors.Is(err, cluster.ErrRefused) {
			t.Errorf("a node that is gone: %v", err)
		}
	}
}

// TestFenced: a node that lost its shard ends with an error that says so, and
// serves nothing any more.
func TestFenced(t *testing.T) {
	bucket := mem.New()
	n := startNode(t, bucket, "first")
	n.says(t, "ready")
	log, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: "thief", Log: slog.New(slog.DiscardHandler),
		Machines: shard.New(shard.Options{}).Machines()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	<-n.ended
	if err := *n.err; err == nil || !strings.Contains(err.Error(), "lost the shard") || !errors.Is(err, commitlog.ErrFenced) || strings.Contains(err.Error(), "\n") {
		t.Errorf("ended with %v, want one sentence", err)
	}
	if _, err := n.broker.Topics(); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("it still answers: %v", err)
	}
}

// TestAdmit: a node that is about to lead admits no gateway that it cannot check.
func TestAdmit(t *testing.T) {
	n := &Node{broker: broker.New(broker.Options{}), shards: newShards(1)}
	if err := n.admit("gw", nil); !errors.Is(err, join.ErrUnavailable) || errors.Is(err, join.ErrRevoked) {
		t.Errorf("without an owner: %v", err)
	}
	n.shards.set(0, &owned{Shard: shard.New(shard.Options{})})
	if err := n.admit("gw", nil); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a gateway that is no member: %v", err)
	}
}

// TestDataInUse: two processes never share a data directory.
func TestDataInUse(t *testing.T) {
	o := Options{Bucket: mem.New(), Data: t.TempDir(), Node: "a", Sync: Off, HTTP: HTTP{Listen: Off}, Peer: Off, Log: slog.New(slog.DiscardHandler)}
	first, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "in use by another weir-cloud") {
		t.Errorf("got %v", err)
	}
}
