package mqtt

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// bubbleLog is bubble with a memLog.
func bubbleLog(t *testing.T, o Options, fn func(t *testing.T, s *testServer, l *memLog)) {
	l := &memLog{memBackend: newBackend()}
	o.Backend = l
	bubble(t, o, func(t *testing.T, s *testServer) {
		s.backend = l.memBackend
		fn(t, s, l)
	})
}

// TestSeveralBatches: while a batch takes its time the next ones follow it, as many as
// the Backend takes; the answers come in order.
func TestSeveralBatches(t *testing.T) {
	bubbleLog(t, Options{}, func(t *testing.T, s *testServer, l *memLog) {
		a, b := join(t, s, 4, "a", true), join(t, s, 5, "b", true)
		for i := range 10 {
			a.send(publishPacket("a", fmt.Sprint("a", i), 1+byte(i%2), uint16(i+1)))
			synctest.Wait() // no time passes: each one is a batch, until there are enough
			b.send(publishPacket("b", fmt.Sprint("b", i), 1, uint16(i+1)))
			synctest.Wait()
		}
		l.mu.Lock()
		most := l.most
		l.mu.Unlock()
		if n := len(l.payloads()); most != logBatches || n != 0 {
			t.Fatalf("%d batches are under way, %d messages are stored", most, n)
		}
		begin := time.Now()
		for i := range 10 {
			a.ackOf([]byte{packets.Puback, packets.Pubrec}[i%2], uint16(i+1))
			b.ackOf(packets.Puback, uint16(i+1))
		}
		if got := s.backend.payloads(); !slices.Equal(got[:4], []string{"a0", "b0", "a1", "b1"}) || len(got) != 20 {
			t.Errorf("stored %v", got)
		}
		if d := time.Since(begin); d != 2*logLatency {
			t.Errorf("it took %v", d) // of the first four, then of all the rest
		}
	})
}

// TestBatchFails: of the batches that are under way behind one that fails nothing is
// stored, no answer comes, and what the clients send again is in order.
func TestBatchFails(t *testing.T) {
	bubbleLog(t, Options{}, func(t *testing.T, s *testServer, l *memLog) {
		failing := true
		l.before = func(batch []*Message) error {
			if failing && string(batch[0].Payload) == "2" {
				failing = false
				return errDisk
			}
			return nil
		}
		c, other := join(t, s, 4, "c", false), join(t, s, 5, "other", true)
		for i, p := range []string{"1", "2", "3"} {
			c.send(publishPacket("a", p, 2, uint16(i+1)))
			synctest.Wait()
		}
		other.send(publishPacket("b", "x", 1, 1))
		c.ackOf(packets.Pubrec, 1)
		c.closed(0)
		other.closed(0x83)
		if got := l.payloads(); !slices.Equal(got, []string{"1"}) {
			t.Fatalf("stored %v", got)
		}
		c = join(t, s, 4, "c", false)
		for id := uint16(2); id <= 3; id++ {
			pk := publishPacket("a", fmt.Sprint(id), 2, id)
			pk.FixedHeader.Dup = true
			c.send(pk)
			c.ackOf(packets.Pubrec, id)
		}
		if got := l.payloads(); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("stored %v", got)
		}
	})
}

// TestBetterPlace: the place that is known when a message is durable is the one that
// the server keeps.
func TestBetterPlace(t *testing.T) {
	bubbleLog(t, Options{}, func(t *testing.T, s *testServer, l *memLog) {
		c, _ := joinKept(t, s, "c")
		c.send(publishPacket("a", "x", 2, 7))
		c.ackOf(packets.Pubrec, 7)
		synctest.Wait()
		if in := s.committer.state.clients["c"].inbound[7]; in == nil || in.place != memPlace(1) {
			t.Errorf("%+v", in)
		}
	})
}

// held is a batch that a handBackend was given.
type held struct {
	batch *Batch // until it is done
	round uint64
	done  func(error)
}

// handBackend takes every batch, and the test answers.
type handBackend struct{ given chan held }

func (handBackend) Stored(Place) bool { return false }

func (handBackend) Accept(b *Batch) {
	for i := range b.Places {
		b.Places[i] = "by hand"
	}
}

func (h handBackend) Store(b *Batch, done func(error)) bool {
	h.given <- held{b, b.Round, done}
	return true
}

// TestFailureIsSettledFirst: after a failure nothing is given to the Backend before all
// that it had is answered: a client whose message is among that must not get a later one
// stored.
func TestFailureIsSettledFirst(t *testing.T) {
	h := handBackend{make(chan held, 9)}
	bubble(t, Options{Backend: h}, func(t *testing.T, s *testServer) {
		a, x := join(t, s, 4, "a", true), join(t, s, 4, "x", true)
		a.send(publishPacket("a", "a1", 1, 1))
		synctest.Wait()
		x.send(publishPacket("x", "x1", 1, 1))
		synctest.Wait()
		first, second := <-h.given, <-h.given
		first.done(errDisk)
		a.closed(0)
		x.send(publishPacket("x", "x2", 1, 2))
		synctest.Wait()
		if len(h.given) > 0 {
			t.Fatalf("%s was given to the Backend before the answer about x1", (<-h.given).batch.Messages[0].Payload)
		}
		second.done(errDisk)
		x.closed(0)
		synctest.Wait()
		if len(h.given) > 0 {
			t.Fatalf("%s was given to the Backend, x1 was not stored", (<-h.given).batch.Messages[0].Payload)
		}
		x = join(t, s, 4, "x", true)
		x.send(publishPacket("x", "x1", 1, 1))
		third := <-h.given
		if third.round != first.round+1 || second.round != first.round {
			t.Errorf("rounds %d, %d, %d", first.round, second.round, third.round)
		}
		third.done(nil)
		x.ackOf(packets.Puback, 1)
	})
}

// TestRewriteWaits: the state is not written anew without the packet ids of messages
// that are under way.
func TestRewriteWaits(t *testing.T) {
	h := handBackend{make(chan held, 9)}
	bubble(t, Options{Backend: h}, func(t *testing.T, s *testServer) {
		c, _ := joinKept(t, s, "c")
		other, _ := joinKept(t, s, "other")
		c.send(publishPacket("a", "x", 2, 7))
		synctest.Wait()
		s.store.mu.Lock()
		s.store.fail = func() error { return errDisk }
		s.store.mu.Unlock()
		other.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{filter("a", 1)}})
		synctest.Wait()
		s.store.mu.Lock()
		s.store.fail = nil
		s.store.mu.Unlock()
		c.send(publishPacket("a", "y", 1, 8)) // the next batch, before which the state is mended
		synctest.Wait()
		check := func(when string) {
			l := newTestLedger(Options{})
			if _, _, err := l.load(s.store.snapshot()); err != nil || l.clients["c"].inbound[7] == nil {
				t.Fatalf("%s: %v, ids %v", when, err, l.clients["c"].inbound)
			}
		}
		check("while the message is under way")
		(<-h.given).done(nil)
		c.ackOf(packets.Pubrec, 7)
		check("afterwards")
		(<-h.given).done(nil)
		c.ackOf(packets.Puback, 8)
		other.closed(0x83)
	})
}

// TestGreedyConnection: while the Backend takes no other batch, the connection that sends
// most is not read any more, and others are.
func TestGreedyConnection(t *testing.T) {
	bubbleLog(t, Options{QueueMessages: 8}, func(t *testing.T, s *testServer, l *memLog) {
		gate := make(chan struct{})
		l.before = func([]*Message) error { <-gate; return nil }
		greedy := join(t, s, 4, "greedy", true)
		modest := []*testClient{join(t, s, 4, "m0", true), join(t, s, 4, "m1", true), join(t, s, 5, "m2", true)}
		sent := 0
		for ; sent < 100; sent++ {
			greedy.nc.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := greedy.nc.Write(encode(publishPacket("a", "x", 1, uint16(sent+1)))); err != nil {
				break
			}
			synctest.Wait()
		}
		if sent == 100 {
			t.Fatal("everything was read")
		}
		for _, c := range modest {
			c.send(publishPacket("b", "x", 1, 1))
			c.silent() // its reader does not wait
			defer c.ackOf(packets.Puback, 1)
		}
		close(gate)
	})
}

// TestCrashesOverLog: a client with several QoS 2 messages under way, a log that fails at
// random, and a process that dies. In the end each message was stored once, and in order.
func TestCrashesOverLog(t *testing.T) {
	for range 40 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) { crashesOverLog(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func crashesOverLog(t *testing.T, seed uint64) {
	r, faults := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	b, disk := newBackend(), new(memStore)
	b.before = func([]*Message) error {
		if faults.IntN(8) == 0 {
			return errDisk
		}
		return nil
	}
	b.keep = func([]*Message, error) bool { return faults.IntN(2) == 0 }
	var log *memLog
	run := func() *testServer {
		log = &memLog{memBackend: b}
		return start(t, Options{Backend: log, Store: disk, Listeners: []net.Listener{newPipes()}})
	}
	s := run()
	const n = 40
	c := pipelining{n: n, released: make(map[int]bool)}
	for c.done < n {
		if r.IntN(8) == 0 {
			// What was given to the log may still be stored, nothing else is.
			log.mu.Lock()
			log.dead = true
			log.mu.Unlock()
			image := disk.snapshot()
			s.Close()
			disk = image
			s = run()
		}
		nc := dial(t, s)
		nc.version = 4
		nc.send(connectPacket(4, "c", false))
		if ack, err := nc.next(patience); err == nil && ack.ReasonCode == 0 {
			c.exchange(nc, r)
		}
		nc.nc.Close()
		synctest.Wait()
	}
	s.Close()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	if got := b.payloads(); !slices.Equal(got, want) {
		t.Errorf("stored %v", got)
	}
}

// pipelining is a client that publishes n numbered messages at QoS 2, some at a time.
type pipelining struct {
	n, next, done int
	released      map[int]bool // PUBREC came
}

// exchange sends again what is under way, in order, and goes on until the connection
// breaks or everything is done.
func (p *pipelining) exchange(c *testClient, r *rand.Rand) {
	const window = 6
	write := func(i int, released bool) bool {
		pk := publishPacket("a", fmt.Sprint(i), 2, uint16(i+1))
		if released {
			pk = ackPacket(packets.Pubrel, uint16(i+1))
		}
		_, err := c.nc.Write(encode(pk))
		return err == nil && r.IntN(25) > 0
	}
	for i := p.done; i < p.next; i++ {
		if !write(i, p.released[i]) {
			return
		}
	}
	for p.done < p.n {
		for ; p.next < min(p.n, p.done+window); p.next++ {
			if !write(p.next, false) {
				p.next++ // it may have been read
				return
			}
		}
		ack, err := c.next(patience)
		if err != nil {
			return
		}
		switch i := int(ack.PacketID) - 1; ack.FixedHeader.Type {
		case packets.Pubrec:
			p.released[i] = true
			if !write(i, true) {
				return
			}
		case packets.Pubcomp:
			if i == p.done {
				p.done++
			}
		default:
			return
		}
	}
}

// TestRetainedAndCleared: a retained message that is cleared before it is settled, in the
// same batch or while its batch is under way, is not there after a restart.
func TestRetainedAndCleared(t *testing.T) {
	publish := func(c *testClient) {
		for i, payload := range []string{"x", ""} {
			pk := publishPacket("r", payload, 1, uint16(i+2))
			pk.FixedHeader.Retain = true
			c.send(pk)
			synctest.Wait()
		}
	}
	check := func(t *testing.T, s *testServer, c *testClient) {
		c.ackOf(packets.Puback, 2)
		c.ackOf(packets.Puback, 3)
		l := newTestLedger(Options{})
		if _, _, err := l.load(s.store.snapshot()); err != nil || len(l.retained) != 0 {
			t.Fatalf("%v, %d retained", err, len(l.retained))
		}
	}
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		gate := make(chan struct{})
		s.backend.before = func([]*Message) error { <-gate; return nil }
		c := join(t, s, 4, "c", true)
		c.send(publishPacket("first", "x", 1, 1)) // so that the rest is one batch
		synctest.Wait()
		publish(c)
		close(gate)
		c.ackOf(packets.Puback, 1)
		check(t, s, c)
	})
	bubbleLog(t, Options{}, func(t *testing.T, s *testServer, _ *memLog) {
		c := join(t, s, 4, "c", true)
		publish(c) // two batches
		check(t, s, c)
	})
}
