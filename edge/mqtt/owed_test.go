package mqtt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// disks are what outlives a process.
type disks struct {
	backend *memBackend
	store   *memStore
	dir     string
}

func newDisks(t testing.TB) *disks { return &disks{newBackend(), new(memStore), t.TempDir()} }

// image is what a crash leaves now.
func (d *disks) image(t testing.TB) *disks {
	t.Helper()
	next := &disks{newBackend(), d.store.snapshot(), t.TempDir()}
	d.backend.mu.Lock()
	next.backend.names, next.backend.stored = d.backend.names, maps.Clone(d.backend.stored)
	next.backend.messages = slices.Clone(d.backend.messages)
	d.backend.mu.Unlock()
	files, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		p, err := os.ReadFile(filepath.Join(d.dir, f.Name()))
		if os.IsNotExist(err) {
			continue // removed just now
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(next.dir, f.Name()), p, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return next
}

// run starts a server on the disks.
func (d *disks) run(t testing.TB, o Options) *testServer {
	t.Helper()
	owed, err := OpenOwed(d.dir, 64<<20, quiet())
	if err != nil {
		t.Fatal(err)
	}
	o.Backend, o.Store, o.Owed, o.Listeners = d.backend, d.store, owed, []net.Listener{newPipes()}
	return start(t, o)
}

// crash ends a server as kill -9 does, and starts the next one.
func (d *disks) crash(t testing.TB, s *testServer, o Options) (*disks, *testServer) {
	t.Helper()
	next := d.image(t)
	s.Close()
	return next, next.run(t, o)
}

// stop ends a server as SIGTERM does, and starts the next one.
func (d *disks) stop(t testing.TB, s *testServer, o Options) (*disks, *testServer) {
	t.Helper()
	s.Close()
	return d, d.run(t, o)
}

// TestOwedRestart: what sessions without connection are owed is there after
// any end of the process, once, in order, and not again when it was
// acknowledged.
func TestOwedRestart(t *testing.T) {
	for _, crash := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisks(t)
			s := d.run(t, Options{})
			again := func() {
				t.Helper()
				if crash {
					d, s = d.crash(t, s, Options{})
				} else {
					d, s = d.stop(t, s, Options{})
				}
			}
			for _, id := range []string{"one", "two"} {
				sub := join(t, s, 4, id, false)
				sub.subscribe(filter("a/#", 2))
				sub.disconnect()
			}
			pub := join(t, s, 4, "pub", true)
			for i := range 20 {
				pub.publish("a/b", fmt.Sprint(i), 1+byte(i%2), uint16(i+1))
			}
			for round := range 3 {
				again()
				sub := join(t, s, 4, "one", false)
				sub.collect(round*5, 5)
				sub.nc.Close()
				time.Sleep(2 * time.Second) // the place is written
			}
			again()
			sub := join(t, s, 4, "one", false)
			sub.collect(15, 5)
			sub.silent()
			two := join(t, s, 4, "two", false)
			two.collect(0, 20)
			two.silent()
			time.Sleep(2 * time.Second)
			again()
			if n := s.committer.state.clients["two"].account.owed.n.Load(); n != 0 {
				t.Errorf("%d messages are still owed", n)
			}
			join(t, s, 4, "two", false).silent()
		})
	}
}

// collect takes n numbered messages from first on and acknowledges them to the
// end. What comes behind them is not acknowledged.
func (c *testClient) collect(first, n int) {
	c.t.Helper()
	open := make(map[uint16]bool)
	for at := first; at < first+n || len(open) > 0; {
		pk, err := c.next(patience)
		switch {
		case err != nil:
			c.t.Fatalf("after message %d: %v", at, err)
		case pk.FixedHeader.Type == packets.Pubrel:
			c.send(ackPacket(packets.Pubcomp, pk.PacketID))
			delete(open, pk.PacketID)
		case at == first+n:
		case string(pk.Payload) != fmt.Sprint(at):
			c.t.Fatalf("got %s, want %d", pk.Payload, at)
		case pk.FixedHeader.Qos == 2:
			c.send(ackPacket(packets.Pubrec, pk.PacketID))
			open[pk.PacketID] = true
			at++
		default:
			c.send(ackPacket(packets.Puback, pk.PacketID))
			at++
		}
	}
}

// TestOwedQoS2 kills the server at each step of a QoS 2 delivery: the packet id
// stays, and after PUBREL the message never comes again.
func TestOwedQoS2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisks(t)
		s := d.run(t, Options{})
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 2))
		pub := join(t, s, 4, "pub", true)
		pub.publish("a", "x", 2, 1)
		first := sub.expect(packets.Publish)
		d, s = d.crash(t, s, Options{})
		sub = join(t, s, 4, "sub", false)
		second := sub.expect(packets.Publish)
		if second.PacketID != first.PacketID || !second.FixedHeader.Dup || string(second.Payload) != "x" {
			t.Fatalf("first %+v, then %+v", first, second)
		}
		sub.send(ackPacket(packets.Pubrec, second.PacketID))
		sub.ackOf(packets.Pubrel, second.PacketID)
		d, s = d.crash(t, s, Options{})
		sub = join(t, s, 4, "sub", false)
		sub.ackOf(packets.Pubrel, second.PacketID)
		sub.send(ackPacket(packets.Pubcomp, second.PacketID))
		sub.silent()
		time.Sleep(2 * time.Second)
		_, s = d.crash(t, s, Options{})
		join(t, s, 4, "sub", false).silent()
	})
}

// TestOwedLag: a session that is owed more than the memory has gets all of it,
// in order, and takes no memory while it is away.
func TestOwedLag(t *testing.T) {
	bubbleOwed(t, Options{MaxQueuedBytes: 20 << 10}, func(t *testing.T, d *disks, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 1))
		sub.disconnect()
		synctest.Wait()
		pub := join(t, s, 4, "pub", true)
		load := strings.Repeat("x", 3000)
		const n = 2000
		for i := range n {
			pub.publish("a", fmt.Sprint(i, load), 1, uint16(i+1))
		}
		synctest.Wait()
		balanced(t, s)
		if waiting, dropped := s.memory.waiting.Load(), s.Stats().Dropped; waiting != 0 || dropped != 0 {
			t.Fatalf("%d bytes wait, %d are dropped", waiting, dropped)
		}
		sub = join(t, s, 4, "sub", false)
		for i := range n {
			sub.message(fmt.Sprint(i, load))
			if i%100 == 0 { // and new ones come behind the old ones
				pub.publish("a", fmt.Sprint(n+i/100, load), 1, uint16(i+1))
			}
			if waiting := s.memory.waiting.Load(); waiting > 300<<10 {
				t.Fatalf("%d bytes wait", waiting)
			}
		}
		for i := range n / 100 {
			sub.message(fmt.Sprint(n+i, load))
		}
		sub.silent()
		synctest.Wait()
		balanced(t, s)
		time.Sleep(3 * time.Second)
		if files, _ := os.ReadDir(d.dir); len(files) != 1 {
			t.Errorf("%d files are left", len(files))
		}
	})
}

func bubbleOwed(t *testing.T, o Options, fn func(t *testing.T, d *disks, s *testServer)) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisks(t)
		fn(t, d, d.run(t, o))
	})
}

// TestOwedReplay: retained messages that a kept session asked for come after a
// restart too, before what was published after it asked.
func TestOwedReplay(t *testing.T) {
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		pub := join(t, s, 4, "pub", true)
		for i := range 10 {
			pub.retain(fmt.Sprint("t/", i), "old")
		}
		sub := dial(t, s)
		sub.version = 5
		pk := connectPacket(5, "sub", false)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
		pk.Properties.ReceiveMaximum = 1
		sub.send(pk)
		sub.expect(packets.Connack)
		sub.subscribe(filter("t/#", 1))
		sub.expect(packets.Publish)
		pub.publish("t/3", "plain", 1, 1)
		synctest.Wait()
		_, s = d.crash(t, s, Options{})
		again, _ := joinKept(t, s, "sub")
		for i := range 10 {
			if pk := again.message("old"); pk.TopicName != fmt.Sprint("t/", i) || !pk.FixedHeader.Retain {
				t.Fatalf("%+v", pk)
			}
		}
		if pk := again.message("plain"); pk.FixedHeader.Retain {
			t.Fatalf("%+v", pk)
		}
		again.silent()
	})
}

// TestOwedBounds: a session that is owed too much loses the newest messages. When the log is
// full, the sessions that are behind lose the oldest. Other sessions lose nothing.
func TestOwedBounds(t *testing.T) {
	bubbleOwed(t, Options{MaxClientOwed: 100_000}, func(t *testing.T, d *disks, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 1))
		sub.disconnect()
		pub := join(t, s, 4, "pub", true)
		load := strings.Repeat("x", 10_000)
		for i := range 20 {
			pub.publish("a", fmt.Sprint(i, load), 1, 1)
		}
		synctest.Wait()
		if n := s.Stats().Dropped; n != 10 {
			t.Fatalf("%d are dropped", n)
		}
		s.o.Owed.limit = 3 << 20
		s.o.MaxClientOwed = 1 << 30
		live := join(t, s, 4, "live", false)
		live.subscribe(filter("b", 1))
		away := join(t, s, 4, "away", false)
		away.subscribe(filter("b", 1))
		away.disconnect()
		const n = 600
		for i := range n {
			pub.publish("b", fmt.Sprint(i, load), 1, 1)
			live.message(fmt.Sprint(i, load))
		}
		time.Sleep(3 * time.Second)
		if n := s.o.Owed.used(); n > 5<<20 {
			t.Errorf("%d bytes on the disk", n)
		}
		away = join(t, s, 4, "away", false)
		first := away.expect(packets.Publish)
		away.settle(first)
		var at int
		fmt.Sscan(string(first.Payload), &at)
		if at < 200 || at > 500 {
			t.Fatalf("the oldest that is left is %d", at)
		}
		for i := at + 1; i < n; i++ {
			away.message(fmt.Sprint(i, load))
		}
		away.silent()
	})
}

// receiver is a subscriber with a session, as the standard describes it.
type receiver struct {
	have map[uint16]bool // QoS 2 ids between PUBREC and PUBREL
	got  []string
}

// read takes what comes until the connection ends.
func (r *receiver) read(c *testClient, random func(int) int) {
	for random(40) > 0 {
		pk, err := c.next(patience)
		if err != nil {
			return
		}
		answer := ackPacket(packets.Puback, pk.PacketID)
		switch {
		case pk.FixedHeader.Type == packets.Pubrel:
			delete(r.have, pk.PacketID)
			answer = ackPacket(packets.Pubcomp, pk.PacketID)
		case pk.FixedHeader.Qos == 2:
			if !r.have[pk.PacketID] {
				r.got = append(r.got, string(pk.Payload))
			}
			r.have[pk.PacketID] = true
			answer = ackPacket(packets.Pubrec, pk.PacketID)
		default:
			r.got = append(r.got, string(pk.Payload))
		}
		if random(40) == 0 {
			return // the answer is lost
		}
		if _, err := c.nc.Write(encode(answer)); err != nil {
			return
		}
	}
}

// TestOwedCrashes: numbered QoS 2 messages go from one client to another with
// a session, through a server that is killed again and again, most often in
// the middle of storing, and whose disks fail. Each arrives once, in order.
func TestOwedCrashes(t *testing.T) {
	for range 30 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			owedCrashes(t, seed)
		})
	}
}

func owedCrashes(t *testing.T, seed uint64) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
	d := newDisks(t)
	var images chan *disks
	prepare := func() {
		images = make(chan *disks, 1)
		here, out := d, images
		die := make(chan struct{})
		here.backend.before = func([]*Message) error {
			if random(12) == 0 {
				if random(2) == 0 {
					time.Sleep(time.Millisecond) // the other disks are ready
				}
				here.store.mu.Lock()
				here.store.fail = func() error { return errDisk }
				here.store.mu.Unlock()
				image := here.image(t)
				select {
				case out <- image:
				default:
				}
				return errDisk
			}
			if random(10) == 0 {
				return errDisk
			}
			return nil
		}
		_ = die
		here.backend.keep = func([]*Message, error) bool { return len(out) == 0 && random(2) == 0 }
	}
	prepare()
	s := d.run(t, Options{MaxInflight: 3, MaxQueued: 5})
	setup := func() bool {
		c := dial(t, s)
		defer c.nc.Close()
		c.version = 4
		c.send(connectPacket(4, "sub", false))
		if ack, err := c.next(patience); err != nil || ack.ReasonCode != 0 {
			return false
		}
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{filter("a", 2)}})
		ack, err := c.next(patience)
		return err == nil && ack.FixedHeader.Type == packets.Suback
	}
	if !setup() {
		t.Fatal("no subscription")
	}
	const n = 60
	sub := &receiver{have: make(map[uint16]bool)}
	next, released := 0, false
	for rounds := 0; next < n || len(sub.got) < n; rounds++ {
		if rounds > 3000 {
			t.Errorf("%d published, received %v", next, sub.got)
			break
		}
		select {
		case image := <-images:
			s.Close()
			d = image
			prepare()
			s = d.run(t, Options{MaxInflight: 3, MaxQueued: 5})
		default:
		}
		var wg sync.WaitGroup
		if random(3) > 0 {
			wg.Go(func() {
				c := dial(t, s)
				defer c.nc.Close()
				c.version = 4
				c.send(connectPacket(4, "sub", false))
				if ack, err := c.next(patience); err == nil && ack.ReasonCode == 0 {
					sub.read(c, random)
				}
			})
		}
		if next < n {
			c := dial(t, s)
			c.version = 4
			c.send(connectPacket(4, "pub", false))
			if ack, err := c.next(patience); err == nil && ack.ReasonCode == 0 {
				own := rand.New(rand.NewPCG(seed, uint64(rounds)))
				next, released = exchange(c, own, next, released, n)
			}
			c.nc.Close()
		}
		wg.Wait()
		time.Sleep(time.Duration(random(1500)) * time.Millisecond)
	}
	for i, p := range sub.got {
		if p != fmt.Sprint(i) {
			t.Errorf("message %d is %s: %v", i, p, sub.got)
			break
		}
	}
	s.Close()
}
