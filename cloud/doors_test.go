package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// testDoor is a Kafka listener that answers until it hangs: then it accepts and says
// nothing.
type testDoor struct {
	net.Listener
	hangs atomic.Bool
}

func newTestDoor(t *testing.T) *testDoor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &testDoor{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if !d.hangs.Load() {
					c.Write(make([]byte, 8))
				}
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return d
}

// asksInstead makes a node ask d in the place of its Kafka door.
func (d *testDoor) asksInstead(t *testing.T, n *Node) {
	t.Helper()
	i := slices.IndexFunc(n.own, func(o cluster.Door) bool { return strings.HasPrefix(o.Name, "kafka") })
	if i < 0 {
		t.Fatal("the node has no Kafka door")
	}
	name := n.own[i].Name
	n.own = slices.Delete(slices.Clone(n.own), i, i+1)
	n.askSelf(name, d.Addr(), talkKafka)
}

// TestSelfDoors: every door of a node answers the node itself.
func TestSelfDoors(t *testing.T) {
	n := startNode(t, mem.New(), "first")
	n.says(t, "ready")
	if len(n.own) != 4 {
		t.Errorf("%d doors, want those of Kafka, sync, http and peer", len(n.own))
	}
	for _, d := range n.own {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := d.Ask(ctx); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		cancel()
	}
	if at := n.peers.heard.Load(); at != 0 {
		t.Error("the node takes itself for a standby")
	}
	n.stop()
	<-n.ended
	for _, d := range n.own {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := d.Ask(ctx); err == nil {
			t.Errorf("%s answers although the node is closed", d.Name)
		}
		cancel()
	}
}

// TestUnheard: a door that turns the node away is at work, one that says nothing
// is not, in TLS too.
func TestUnheard(t *testing.T) {
	turnsAway := func(c net.Conn) { c.Close() }
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	hello := func(c net.Conn) {
		defer c.Close()
		if _, err := c.Read(make([]byte, 5)); err == nil {
			c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) // an alert
		}
	}
	for name, c := range map[string]struct {
		serve func(net.Conn)
		talk  func(context.Context, net.Conn) error
		well  bool
	}{
		"kafka, full":        {turnsAway, talkKafka, true},
		"kafka, silent":      {silent, talkKafka, false},
		"http, full":         {turnsAway, talkHTTP, true},
		"http, silent":       {silent, talkHTTP, false},
		"TLS, alert":         {hello, inTLS(talkKafka), true},
		"TLS, silent":        {silent, inTLS(talkKafka), false},
		"client CA, alert":   {hello, greetTLS, true},
		"client CA, silent":  {silent, greetTLS, false},
		"client CA, answers": {func(c net.Conn) { tls.Server(c, &tls.Config{}).Handshake(); c.Close() }, greetTLS, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go c.serve(conn)
				}
			}()
			var n Node
			n.askSelf("door", l.Addr(), c.talk)
			limit := 20 * time.Second
			if !c.well {
				limit = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := n.own[0].Ask(ctx); (err == nil) != c.well {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestDoorHangs: an owner one of whose doors accepts and does not answer stops
// leading, and the standby takes over. Alone, or shortly after the shard has
// moved, it would go on.
func TestDoorHangs(t *testing.T) {
	bucket := mem.New()
	door := newTestDoor(t)
	first := openNode(t, bucket, "first", t.TempDir())
	door.asksInstead(t, first.Node)
	first.run(t)
	first.says(t, "ready")
	door.hangs.Store(true)
	first.says(t, "a listener of this node does not answer the node itself, which goes on leading: no other node could do better")
	door.hangs.Store(false)
	first.says(t, "the listener answers again")
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	for first.peers.heard.Load() == 0 {
		runtime.Gosched()
	}
	began := time.Now()
	door.hangs.Store(true)
	second.says(t, "leading")
	t.Logf("replaced after %v", time.Since(began).Round(time.Millisecond))
	<-first.ended
	if err := *first.err; !errors.Is(err, cluster.ErrDoors) || !strings.Contains(err.Error(), "stopped leading") || !strings.Contains(err.Error(), "kafka listener default") {
		t.Errorf("the owner ended with %v", err)
	}

	// Its next life does not lead, and would not stop once more so soon.
	again := openNode(t, bucket, "first", first.o.Data)
	door.asksInstead(t, again.Node)
	if err := again.fit(t.Context()); !errors.Is(err, cluster.ErrDoors) || again.Role() != console.RoleStandby {
		t.Errorf("it would lead as %s: %v", again.Role(), err)
	}
	again.peers.heard.Store(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := again.watchDoors(ctx); err != nil {
		t.Errorf("it stops leading twice: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestBusySyncDoor: while gateways get in, the sync port works, although the node's own
// question is lost.
func TestBusySyncDoor(t *testing.T) {
	n := openNode(t, bucketOf(t, 1), "first", t.TempDir())
	n.run(t)
	n.says(t, "ready")
	for _, busy := range []bool{false, true} {
		silent, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		asked := &Node{receiver: n.receiver}
		asked.askSync(silent.LocalAddr())
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- asked.own[0].Ask(ctx) }()
		if _, err := silent.Read(make([]byte, 1500)); err != nil { // the question
			t.Fatal(err)
		}
		if busy {
			n.joinAt(t, n, "gw-1")
		}
		cancel()
		if err := <-answer; (err == nil) != busy {
			t.Errorf("gateways get in: %v, answer: %v", busy, err)
		}
	}
}

// TestBusyPeerDoor: while the peer port serves other nodes, it works, although the node's own
// question is not answered in time.
func TestBusyPeerDoor(t *testing.T) {
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	identity, err := join.NewNodeIdentity(ca, "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, busy := range []bool{false, true} {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		asked := &Node{o: Options{Node: "first"}}
		asked.askPeer(silent.Addr(), identity)
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- asked.own[0].Ask(ctx) }()
		c, err := silent.Accept() // the question
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if busy {
			asked.servedTo("first")
		}
		cancel()
		if err := <-answer; (err == nil) != busy {
			t.Errorf("it serves others: %v, answer: %v", busy, err)
		}
	}
}

// TestAnswering: the listener that does nothing but answer does that, until it is ended.
func TestAnswering(t *testing.T) {
	ask, end, err := answering()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := ask(t.Context()); err != nil {
			t.Error(err)
		}
	}
	end()
	if ask(t.Context()) == nil {
		t.Error("it answers when it has ended")
	}
}
