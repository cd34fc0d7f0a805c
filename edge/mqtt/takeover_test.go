package mqtt

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// TestReconnectAtOnce: a client that sends, closes and connects again at once under its
// id loses nothing of it: no QoS 0 message, and no DISCONNECT, which ends its session and
// keeps its will from being published.
func TestReconnectAtOnce(t *testing.T) {
	s := start(t, Options{})
	sub := join(t, s, 4, "sub", true)
	sub.subscribe(filter("wills", 0))
	const rounds = 500
	for i := range rounds {
		pk := connectPacket(4, "c", true)
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "wills", []byte("gone")
		c, ack := logIn(t, s, pk)
		if ack.ReasonCode != 0 {
			t.Fatalf("round %d: CONNACK %#x", i, ack.ReasonCode)
		}
		c.raw(append(encode(publishPacket("a", fmt.Sprint(i), 0, 0)),
			encode(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})...))
		c.nc.Close()
	}
	eventually(t, "all connections have ended", func() bool { return s.Stats().Sessions == 1 })
	eventually(t, "all messages are stored", func() bool { return len(s.backend.payloads()) >= rounds })
	got := s.backend.payloads()
	if len(got) != rounds {
		t.Errorf("%d of %d messages", len(got), rounds)
	}
	for i, p := range got {
		if p != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, p)
		}
	}
	sub.silent()
	if n := s.count.takeovers.Get(); n != 0 {
		t.Errorf("%d takeovers of connections that had ended", n)
	}
}

// TestConnectPublishDisconnect: the same for a client that does not even wait for its
// CONNACK.
func TestConnectPublishDisconnect(t *testing.T) {
	s := start(t, Options{})
	sent := 0
	for range 20 {
		for range 2 {
			nc := dialTCP(t, s.addr)
			p := append(encode(connectPacket(4, "c", true)), encode(publishPacket("a", "x", 0, 0))...)
			p = append(p, encode(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})...)
			if _, err := nc.Write(p); err != nil {
				t.Fatal(err)
			}
			nc.(*net.TCPConn).CloseWrite()
			sent++
		}
		eventually(t, "all messages are stored", func() bool { return len(s.backend.payloads()) == sent })
	}
}

// TestTakeoverOfFlood: an older connection that never stops sending holds its successor
// up for a second at most: it has its CONNACK in time.
func TestTakeoverOfFlood(t *testing.T) {
	s := start(t, Options{})
	old := join(t, s, 4, "c", true)
	go func() {
		p := encode(publishPacket("a", string(make([]byte, 200)), 0, 0))
		for {
			if _, err := old.nc.Write(p); err != nil {
				return
			}
		}
	}()
	eventually(t, "the flood has begun", func() bool { return s.Stats().Received > 100 })
	join(t, s, 4, "c", true).silent()
}

// TestTakeoverOfHalfPacket: an older connection that stands still in a packet is taken
// over, and told.
func TestTakeoverOfHalfPacket(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		old := join(t, s, 5, "c", true)
		old.raw([]byte{0x30, 100, 0})
		began := time.Now()
		c := join(t, s, 5, "c", true)
		if d := time.Since(began); d > 2*drainGrace+connectGap {
			t.Errorf("it took %v", d)
		}
		old.closed(0x8e)
		c.silent()
	})
}

// TestKeepAliveAfterDrain: a connection that was asked for what it has left, and was not
// taken over, has its keep alive as before.
func TestKeepAliveAfterDrain(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		pk := connectPacket(5, "c", true)
		pk.Connect.Keepalive = 10
		old, _ := logIn(t, s, pk)
		d := &drain{dry: make(chan struct{}), left: drainBytes}
		s.mu.Lock()
		c := s.newest["c"]
		s.mu.Unlock()
		c.succession.drain.Store(d)
		c.nc.SetReadDeadline(time.Now().Add(drainGrace))
		<-d.dry
		began := time.Now()
		if pk, err := old.next(20 * time.Second); err != nil || pk.ReasonCode != 0x8d {
			t.Fatalf("got %+v %v", pk, err)
		}
		if took := time.Since(began); took < 14*time.Second || took > 16*time.Second {
			t.Errorf("keep alive ended after %v", took)
		}
	})
}
