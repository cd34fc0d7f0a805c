package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

var errDisk = errors.New("disk is on fire")

// TestNoAckBeforeStore: while Store runs nothing is acknowledged, the reader
// goes on, pings are answered; then the acks come in order, PUBLISH by
// PUBLISH, and the next batch holds everything that came meanwhile.
func TestNoAckBeforeStore(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		b := newBackend()
		gate := make(chan struct{})
		b.before = func([]*Message) error { <-gate; return nil }
		s := start(t, Options{Backend: b})
		c := join(t, s, version, "c", true)
		const n = 100
		for i := range n {
			c.send(publishPacket("a", fmt.Sprint(i), 1+byte(i%2), uint16(i+1)))
		}
		c.silent()
		close(gate)
		for i := range n {
			c.ackOf([]byte{packets.Puback, packets.Pubrec}[i%2], uint16(i+1))
		}
		for i, p := range b.payloads() {
			if p != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, p)
			}
		}
		if b.batches > 10 {
			t.Errorf("%d batches for %d messages", b.batches, n)
		}
	}
}

// TestPipelined: a batch is committed while the one before is dispatched: a
// subscriber's session that cannot take anything for now holds no Store up.
func TestPipelined(t *testing.T) {
	b := newBackend()
	stored := make(chan struct{}, 2)
	b.before = func([]*Message) error { stored <- struct{}{}; return nil }
	s := start(t, Options{Backend: b})
	sub := join(t, s, 4, "sub", true)
	sub.subscribe(filter("slow", 1))
	pub := join(t, s, 4, "pub", true)

	s.Server.dispatcher.sessions["sub"].mu.Lock() // the dispatcher waits here
	pub.send(publishPacket("slow", "1", 1, 1))
	pub.ackOf(packets.Puback, 1) // the ack comes before the fan-out
	pub.send(publishPacket("a", "2", 1, 2))
	<-stored
	<-stored
	s.Server.dispatcher.sessions["sub"].mu.Unlock()
	pub.ackOf(packets.Puback, 2)
	sub.message("1")
}

// TestStoreFails: no ack for anything of the batch, the connections are
// closed, what they sent after it is not stored either, and the next attempt
// succeeds.
func TestStoreFails(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := newBackend()
		failing := true
		entered, gate := make(chan struct{}), make(chan struct{})
		b.before = func([]*Message) error {
			if !failing {
				return nil
			}
			entered <- struct{}{}
			<-gate
			failing = false
			return errDisk
		}
		s := start(t, Options{Backend: b})
		bystander := join(t, s, version, "by", true)
		c := join(t, s, version, "c", true)
		c.send(publishPacket("a", "1", 1, 1))
		<-entered
		c.send(publishPacket("a", "2", 1, 2)) // waits for the next batch
		c.silent()
		close(gate)
		if version == 5 {
			c.closed(0x83)
		} else {
			c.closed(0)
		}
		c = join(t, s, version, "c", true)
		c.publish("a", "1", 1, 1)
		c.publish("a", "2", 1, 2)
		if got := b.payloads(); !slices.Equal(got, []string{"1", "2"}) {
			t.Fatalf("stored %v", got)
		}
		bystander.silent()
	}
}

// TestFull: ErrFull is 0x97 for MQTT 5; for 3.x it is no ack and the end of
// the connection, with nothing of it stored after the refused message. QoS 0
// is dropped and counted.
func TestFull(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) { full(t, s, version) })
	}
}

func full(t *testing.T, s *testServer, version byte) {
	b := s.backend
	gate := make(chan struct{})
	b.before = func([]*Message) error { <-gate; return nil }
	b.refuse = func(m *Message) error {
		switch m.Topic {
		case "full":
			return ErrFull
		case "forbidden":
			return ErrNotAllowed
		}
		return nil
	}
	c := join(t, s, version, "c", true)
	c.send(publishPacket("a", "1", 1, 1)) // so that the rest is one batch
	synctest.Wait()
	c.send(publishPacket("full", "-", 0, 0))
	c.send(publishPacket("a", "2", 1, 2))
	c.send(publishPacket("full", "-", 1, 3))
	c.send(publishPacket("a", "3", 1, 4))
	c.send(publishPacket("full", "-", 2, 5))
	c.send(publishPacket("forbidden", "-", 1, 6))
	c.silent()
	close(gate)
	c.ackOf(packets.Puback, 1)
	c.ackOf(packets.Puback, 2)
	want := []string{"1", "2"}
	if version == 5 {
		codes := []byte{0x97, 0, 0x97, 0x87}
		for i, kind := range []byte{packets.Puback, packets.Puback, packets.Pubrec, packets.Puback} {
			if ack := c.ackOf(kind, uint16(3+i)); ack.ReasonCode != codes[i] {
				t.Fatalf("id %d: %#x, want %#x", 3+i, ack.ReasonCode, codes[i])
			}
		}
		want = append(want, "3")
		c.send(publishPacket("a", "4", 2, 5)) // the refused id is free again
		c.ackOf(packets.Pubrec, 5)
		want = append(want, "4")
	} else {
		c.closed(0)
	}
	if got := b.payloads(); !slices.Equal(got, want) {
		t.Fatalf("version %d: stored %v, want %v", version, got, want)
	}
}

// TestBackpressure: a 3.x client with too much under way waits; another one
// does not.
func TestBackpressure(t *testing.T) {
	bubble(t, Options{ReceiveMaximum: 4}, func(t *testing.T, s *testServer) {
		gate := make(chan struct{})
		s.backend.before = func(batch []*Message) error {
			if batch[0].ClientID == "greedy" {
				<-gate
			}
			return nil
		}
		greedy := join(t, s, 4, "greedy", true)
		for i := range 5 {
			greedy.send(publishPacket("a", "x", 1, uint16(i+1)))
		}
		synctest.Wait()
		greedy.nc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := greedy.nc.Write(encode(publishPacket("a", "x", 1, 6))); err == nil {
			t.Fatal("the sixth message was read")
		}
		close(gate)
		for i := range 5 {
			greedy.ackOf(packets.Puback, uint16(i+1))
		}
	})
}

// TestQoS2Restart kills the server at every step of a QoS 2 exchange. The
// client then does what the standard tells it, and the message is there once.
func TestQoS2Restart(t *testing.T) {
	t.Run("after the event, before the message", func(t *testing.T) {
		b, store := newBackend(), new(memStore)
		b.before = func([]*Message) error { return errDisk }
		s := start(t, Options{Backend: b, Store: store})
		c, _ := joinKept(t, s, "c")
		c.send(publishPacket("a", "x", 2, 7))
		c.closed(0x83)
		crashed := store.snapshot()
		if len(crashed.events) < 2 {
			t.Fatal("the event was not written first")
		}
		b.before = nil
		again := start(t, Options{Backend: b, Store: crashed})
		c, ack := joinKept(t, again, "c")
		if !ack.SessionPresent {
			t.Fatal("no session")
		}
		resume(c, b)
	})
	t.Run("after the message, before PUBREC", func(t *testing.T) {
		b, store := newBackend(), new(memStore)
		s := start(t, Options{Backend: b, Store: store})
		c, _ := joinKept(t, s, "c")
		c.send(publishPacket("a", "x", 2, 7))
		c.ackOf(packets.Pubrec, 7) // the client does not see it
		again := start(t, Options{Backend: b, Store: store.snapshot()})
		c, _ = joinKept(t, again, "c")
		resume(c, b)
	})
	t.Run("after PUBREL", func(t *testing.T) {
		b, store := newBackend(), new(memStore)
		s := start(t, Options{Backend: b, Store: store})
		c, _ := joinKept(t, s, "c")
		c.publish("a", "x", 2, 7)
		again := start(t, Options{Backend: b, Store: store.snapshot()})
		c, _ = joinKept(t, again, "c")
		c.send(ackPacket(packets.Pubrel, 7)) // the client did not see PUBCOMP
		if ack := c.ackOf(packets.Pubcomp, 7); ack.ReasonCode != 0x92 {
			t.Fatalf("PUBCOMP %#x", ack.ReasonCode)
		}
		c.publish("a", "y", 2, 7) // and the id is free
		if got := b.payloads(); !slices.Equal(got, []string{"x", "y"}) {
			t.Fatalf("stored %v", got)
		}
	})
	t.Run("PUBREL cannot be written", func(t *testing.T) {
		b, store := newBackend(), new(memStore)
		s := start(t, Options{Backend: b, Store: store})
		c, _ := joinKept(t, s, "c")
		c.send(publishPacket("a", "x", 2, 7))
		c.ackOf(packets.Pubrec, 7)
		store.mu.Lock()
		store.fail = func() error { return errDisk }
		store.mu.Unlock()
		c.send(ackPacket(packets.Pubrel, 7))
		c.closed(0x83) // no PUBCOMP
		store.mu.Lock()
		store.fail = nil
		store.mu.Unlock()
		again := start(t, Options{Backend: b, Store: store.snapshot()})
		c, _ = joinKept(t, again, "c")
		c.send(ackPacket(packets.Pubrel, 7))
		if ack := c.ackOf(packets.Pubcomp, 7); ack.ReasonCode != 0 {
			t.Fatalf("PUBCOMP %#x", ack.ReasonCode)
		}
	})
}

// resume is a client that goes on with id 7 after a reconnect.
func resume(c *testClient, b *memBackend) {
	c.t.Helper()
	pk := publishPacket("a", "x", 2, 7)
	pk.FixedHeader.Dup = true
	c.send(pk)
	c.ackOf(packets.Pubrec, 7)
	c.send(ackPacket(packets.Pubrel, 7))
	c.ackOf(packets.Pubcomp, 7)
	if got := b.payloads(); !slices.Equal(got, []string{"x"}) {
		c.t.Fatalf("stored %v", got)
	}
}

// TestQoS2StoreLied: Store fails, and yet the message turns out to be there.
// The client sends it again, and it is there once.
func TestQoS2StoreLied(t *testing.T) {
	for _, lied := range []bool{true, false} {
		b := newBackend()
		b.before = func([]*Message) error { return errDisk }
		b.keep = func([]*Message, error) bool { return lied }
		s := start(t, Options{Backend: b})
		c, _ := joinKept(t, s, "c")
		c.send(publishPacket("a", "x", 2, 7))
		c.closed(0x83)
		b.before = nil
		c, _ = joinKept(t, s, "c")
		resume(c, b)
	}
}

// TestQoS2Twice: the same id twice in one batch is one message.
func TestQoS2Twice(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		b := s.backend
		gate := make(chan struct{})
		b.before = func([]*Message) error { <-gate; return nil }
		c := join(t, s, 4, "c", false)
		c.send(publishPacket("b", "first", 1, 1))
		synctest.Wait()
		c.send(publishPacket("a", "x", 2, 7))
		c.send(publishPacket("a", "x", 2, 7))
		c.silent()
		close(gate)
		c.ackOf(packets.Puback, 1)
		c.ackOf(packets.Pubrec, 7)
		c.ackOf(packets.Pubrec, 7)
		if got := b.payloads(); !slices.Equal(got, []string{"first", "x"}) {
			t.Fatalf("stored %v", got)
		}
	})
}

// TestStateStoreFails: work with state gets no success while the state cannot
// be written; plain QoS 1 goes on; when the disk is back a rewrite heals all.
func TestStateStoreFails(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		kept, _ := joinKept(t, s, "kept")
		plain := join(t, s, 5, "plain", true)
		s.store.mu.Lock()
		s.store.fail = func() error { return errDisk }
		s.store.mu.Unlock()

		kept.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{filter("a", 1)},
		})
		kept.closed(0x83) // no SUBACK
		kept.nc.Close()
		plain.publish("a", "1", 1, 1)
		pk := publishPacket("r", "2", 1, 2)
		pk.FixedHeader.Retain = true
		plain.send(pk)
		plain.closed(0x83)
		if _, ack := joinKept(t, s, "new"); ack.ReasonCode != 0x88 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
		if got := s.backend.payloads(); !slices.Equal(got, []string{"1"}) {
			t.Fatalf("stored %v", got)
		}

		s.store.mu.Lock()
		s.store.fail = nil
		s.store.mu.Unlock()
		time.Sleep(2 * time.Second)
		kept, _ = joinKept(t, s, "kept")
		kept.message("1") // the subscription was made, only not confirmed
		kept.subscribe(filter("a", 1))
		again := newTestLedger(Options{})
		if _, _, err := again.load(s.store); err != nil || len(again.clients["kept"].subs) != 1 {
			t.Fatalf("%v, %+v", err, again.clients["kept"])
		}
	})
}

// TestStateRestart: sessions, subscriptions and retained messages survive.
func TestStateRestart(t *testing.T) {
	b, store := newBackend(), new(memStore)
	s := start(t, Options{Backend: b, Store: store})
	c := join(t, s, 4, "c", false)
	c.subscribe(filter("a/#", 2), filter("$share/g/b", 1), filter("gone", 0))
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 2, Filters: packets.Subscriptions{filter("gone", 0)}})
	c.ackOf(packets.Unsuback, 2)
	pub := join(t, s, 5, "pub", true)
	pk := publishPacket("r", "kept", 1, 1)
	pk.FixedHeader.Retain = true
	pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
	pk.Properties.MessageExpiryInterval = 1000
	pub.send(pk)
	pub.ackOf(packets.Puback, 1)
	join(t, s, 4, "cleaned", false).disconnect()
	join(t, s, 4, "cleaned", true).disconnect()

	again := start(t, Options{Backend: b, Store: store.snapshot()})
	if n := again.Stats(); n.Sessions != 1 || n.Subscriptions != 2 || n.Retained != 1 {
		t.Fatalf("%+v", n)
	}
	c, ack := logIn(t, again, connectPacket(4, "c", false))
	if !ack.SessionPresent {
		t.Fatal("no session")
	}
	c.publish("b", "1", 1, 1)
	c.message("1")
	five := join(t, again, 5, "five", true)
	five.subscribe(filter("r", 1))
	if got := five.message("kept").Properties; len(got.User) != 1 || got.MessageExpiryInterval < 990 {
		t.Fatalf("%+v", got)
	}
}

// TestRedelivery: what was in flight comes again in its order, PUBLISH with
// DUP, PUBREL for what was received [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestRedelivery(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 2))
		pub := join(t, s, 4, "pub", true)
		for i := range 6 {
			pub.publish("a", fmt.Sprint(i), 1+byte(i%2), uint16(i+1))
		}
		ids := map[string]uint16{}
		for i := range 6 {
			pk := sub.expect(packets.Publish)
			ids[string(pk.Payload)] = pk.PacketID
			if i == 3 {
				sub.send(ackPacket(packets.Pubrec, pk.PacketID))
			}
			if i == 4 {
				sub.send(ackPacket(packets.Puback, pk.PacketID))
			}
		}
		sub.ackOf(packets.Pubrel, ids["3"])
		sub.silent()
		sub.disconnect()
		synctest.Wait()
		pub.publish("a", "6", 1, 7)

		sub = join(t, s, 4, "sub", false)
		for _, want := range []string{"0", "1", "2", "rel", "5", "6"} {
			if want == "rel" {
				sub.ackOf(packets.Pubrel, ids["3"])
				continue
			}
			pk := sub.expect(packets.Publish)
			if string(pk.Payload) != want || pk.FixedHeader.Dup != (want != "6") || want != "6" && pk.PacketID != ids[want] {
				t.Fatalf("want %s, got %s dup=%v id=%d", want, pk.Payload, pk.FixedHeader.Dup, pk.PacketID)
			}
		}
		sub.silent()
	})
}

// TestTakeoverInFlight: the publisher reconnects while its messages are being
// stored. They are stored; the new connection is answered after them.
func TestTakeoverInFlight(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		b := s.backend
		gate, entered := make(chan struct{}), make(chan struct{}, 16)
		b.before = func([]*Message) error { entered <- struct{}{}; <-gate; return nil }
		old, _ := joinKept(t, s, "c")
		old.send(publishPacket("a", "1", 2, 1))
		<-entered
		old.send(publishPacket("a", "2", 2, 2))
		old.silent()
		fresh := dial(t, s)
		fresh.version = 5
		pk := connectPacket(5, "c", false)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
		fresh.send(pk)
		synctest.Wait()
		close(gate)
		old.ackOf(packets.Pubrec, 1)
		old.ackOf(packets.Pubrec, 2)
		old.closed(0x8e)
		if ack := fresh.expect(packets.Connack); !ack.SessionPresent {
			t.Fatal("no session")
		}
		for id := uint16(1); id <= 2; id++ {
			pk := publishPacket("a", fmt.Sprint(id), 2, id)
			pk.FixedHeader.Dup = true
			fresh.send(pk)
			fresh.ackOf(packets.Pubrec, id)
			fresh.send(ackPacket(packets.Pubrel, id))
			fresh.ackOf(packets.Pubcomp, id)
		}
		if got := b.payloads(); !slices.Equal(got, []string{"1", "2"}) {
			t.Fatalf("stored %v", got)
		}
	})
}

// TestOfflineQueue: a kept session collects QoS 1 and 2, up to its bound, the
// oldest; QoS 0 is not kept.
func TestOfflineQueue(t *testing.T) {
	bubble(t, Options{MaxQueued: 3}, func(t *testing.T, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 2))
		sub.disconnect()
		synctest.Wait()
		pub := join(t, s, 4, "pub", true)
		pub.publish("a", "zero", 0, 0)
		for i := range 5 {
			pub.publish("a", fmt.Sprint(i), 1, uint16(i+1))
		}
		synctest.Wait() // the last message goes to its subscribers after its PUBACK
		if n := s.Stats().Dropped; n != 2 {
			t.Fatalf("%d dropped", n)
		}
		sub = join(t, s, 4, "sub", false)
		for i := range 3 {
			if pk := sub.message(fmt.Sprint(i)); pk.FixedHeader.Dup {
				t.Fatal("DUP on a first delivery")
			}
		}
		sub.silent()
	})
}
