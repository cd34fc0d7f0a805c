package mqtt

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestConnectDeadline: a connection that says nothing, or not enough, is gone
// after the connect timeout.
func TestConnectDeadline(t *testing.T) {
	for _, sent := range [][]byte{nil, {0x10}, {0x10, 20, 0, 4, 'M'}} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) {
			begin := time.Now()
			c := dial(t, s)
			if sent != nil {
				c.raw(sent)
			}
			c.nc.SetReadDeadline(time.Time{})
			if _, err := c.r.ReadByte(); err == nil {
				t.Fatal("got a byte")
			}
			if d := time.Since(begin); d < 5*time.Second || d > 8*time.Second {
				t.Fatalf("closed after %v", d)
			}
		})
	}
}

// TestKeepAlive: one and a half times the interval after the last packet, and
// not earlier, the connection ends [MQTT-3.1.2-22], with 0x8D for MQTT 5. A
// part of a packet is no packet.
func TestKeepAlive(t *testing.T) {
	for _, part := range []bool{false, true} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) {
			pk := connectPacket(5, "c", true)
			pk.Connect.Keepalive = 10
			c, _ := logIn(t, s, pk)
			for range 4 {
				time.Sleep(14 * time.Second)
				c.silent()
			}
			begin := time.Now()
			if part {
				time.Sleep(10 * time.Second)
				c.raw([]byte{0x30, 9, 0})
			}
			pk, err := c.next(time.Minute)
			if err != nil || pk.ReasonCode != 0x8d {
				t.Fatalf("got %+v, %v", pk, err)
			}
			if d := time.Since(begin); d != 15*time.Second {
				t.Fatalf("closed after %v", d)
			}
		})
	}
}

// TestServerKeepAlive: the server's interval counts, not the client's
// [MQTT-3.1.2-21].
func TestServerKeepAlive(t *testing.T) {
	bubble(t, Options{ServerKeepAlive: 2}, func(t *testing.T, s *testServer) {
		pk := connectPacket(5, "c", true)
		pk.Connect.Keepalive = 0
		c, _ := logIn(t, s, pk)
		begin := time.Now()
		c.closed(0x8d)
		if d := time.Since(begin).Round(time.Second / 2); d != 3*time.Second {
			t.Fatalf("closed after %v", d)
		}
	})
}

// TestMessageExpiry: what expired while it waited is not sent, what did not
// is sent with the rest of its time [MQTT-3.3.2-5] [MQTT-3.3.2-6].
func TestMessageExpiry(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		sub, _ := joinKept(t, s, "sub")
		sub.subscribe(filter("a", 1))
		sub.disconnect()
		pub := join(t, s, 5, "pub", true)
		for i, expiry := range []uint32{10, 100, 0} {
			pk := publishPacket("a", string(rune('1'+i)), 1, uint16(i+1))
			pk.Properties.MessageExpiryInterval = expiry
			pub.send(pk)
			pub.ackOf(packets.Puback, pk.PacketID)
		}
		time.Sleep(20 * time.Second)
		sub, _ = joinKept(t, s, "sub")
		if left := sub.message("2").Properties.MessageExpiryInterval; left != 80 {
			t.Fatalf("%d s left", left)
		}
		if pk := sub.message("3"); pk.Properties.MessageExpiryInterval != 0 {
			t.Fatal("a message without expiry got one")
		}
		sub.silent()
	})
}

// TestSessionExpiry: a session is there until its expiry, then gone with its
// subscriptions (§3.1.2.11.2).
func TestSessionExpiry(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		connect := func() (*testClient, packets.Packet) {
			pk := connectPacket(5, "c", false)
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, true
			return logIn(t, s, pk)
		}
		c, ack := connect()
		if ack.SessionPresent {
			t.Fatal("a session came from nowhere")
		}
		c.subscribe(filter("a", 1))
		c.disconnect()
		time.Sleep(59 * time.Second)
		if c, ack = connect(); !ack.SessionPresent {
			t.Fatal("the session went early")
		}
		c.disconnect()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := s.Stats(); n.Sessions != 0 || n.Subscriptions != 0 {
			t.Fatalf("%+v", n)
		}
		if _, ack = connect(); ack.SessionPresent {
			t.Fatal("the session is still there")
		}
		if n := len(s.store.events); n == 0 {
			t.Fatal("nothing was stored")
		}
	})
}

// TestExpiryAtDisconnect: DISCONNECT may shorten the session (§3.14.2.2.2).
func TestExpiryAtDisconnect(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		c, _ := joinKept(t, s, "c")
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			Properties:  packets.Properties{SessionExpiryIntervalFlag: true},
		})
		settled()
		if n := s.Stats().Sessions; n != 0 {
			t.Fatalf("%d sessions", n)
		}
	})
}

// TestSessionEndsWithConnection: MQTT 5 without expiry, and 3.1.1 clean.
func TestSessionEndsWithConnection(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) {
			c := join(t, s, version, "c", true)
			c.subscribe(filter("a", 1))
			c.nc.Close()
			synctest.Wait()
			if n := s.Stats(); n.Sessions != 0 || n.Subscriptions != 0 || len(s.store.events) != 0 {
				t.Fatalf("%+v", n)
			}
		})
	}
}

func withWillOf(pk packets.Packet, delay uint32) packets.Packet {
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, "will", []byte("gone"), 1
	pk.Connect.WillProperties.WillDelayInterval = delay
	return pk
}

// TestWill: when a will is published, and when it is not [MQTT-3.1.2-8]
// [MQTT-3.1.2-10] [MQTT-3.14.4-3] §3.1.3.2.2. It is stored like a message.
func TestWill(t *testing.T) {
	kept := connectPacket(5, "c", false)
	kept.Properties.SessionExpiryInterval, kept.Properties.SessionExpiryIntervalFlag = 60, true
	tests := []struct {
		name  string
		login packets.Packet
		end   func(t *testing.T, s *testServer, c *testClient)
		after time.Duration // -1: never
	}{
		{"connection lost", withWillOf(connectPacket(4, "c", true), 0), lose, 0},
		{"connection lost, 5", withWillOf(connectPacket(5, "c", true), 0), lose, 0},
		{"DISCONNECT", withWillOf(connectPacket(4, "c", true), 0), bye(0), -1},
		{"DISCONNECT, 5", withWillOf(connectPacket(5, "c", true), 0), bye(0), -1},
		{"DISCONNECT with will", withWillOf(connectPacket(5, "c", true), 0), bye(4), 0},
		{"protocol error", withWillOf(connectPacket(5, "c", true), 0), func(_ *testing.T, _ *testServer, c *testClient) {
			c.raw([]byte{0xc0, 1, 0})
			c.closed(0x81)
		}, 0},
		{"silence", withWillOf(connectPacket(4, "c", true), 0), func(*testing.T, *testServer, *testClient) {}, 90 * time.Second},
		{"delay", withWillOf(kept, 20), lose, 20 * time.Second},
		{"delay longer than the session", withWillOf(kept, 100), lose, 60 * time.Second},
		{"delay without session", withWillOf(connectPacket(5, "c", true), 20), lose, 0},
		{"delay, back in time", withWillOf(kept, 20), func(t *testing.T, s *testServer, c *testClient) {
			lose(t, s, c)
			time.Sleep(10 * time.Second)
			joinKept(t, s, "c")
		}, -1},
		{"delay, back with clean start", withWillOf(kept, 20), func(t *testing.T, s *testServer, c *testClient) {
			lose(t, s, c)
			join(t, s, 5, "c", true)
		}, 0},
		{"taken over", withWillOf(kept, 0), func(t *testing.T, s *testServer, c *testClient) { joinKept(t, s, "c") }, 0},
		{"taken over with delay", withWillOf(kept, 20), func(t *testing.T, s *testServer, c *testClient) { joinKept(t, s, "c") }, -1},
		{"taken over, clean start", withWillOf(kept, 20), func(t *testing.T, s *testServer, c *testClient) {
			join(t, s, 5, "c", true)
		}, 0},
		{"server closes", withWillOf(kept, 20), func(t *testing.T, s *testServer, c *testClient) {
			synctest.Wait() // until the CONNACK has been written a client gets no DISCONNECT
			go s.Close()
			c.closed(0x8b)
			c.nc.Close()
			<-s.served
		}, -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, s *testServer) {
				c, _ := logIn(t, s, test.login)
				test.end(t, s, c)
				synctest.Wait()
				if test.after > 0 {
					time.Sleep(test.after - time.Millisecond)
					synctest.Wait()
					if got := s.backend.payloads(); len(got) != 0 {
						t.Fatal("published early")
					}
					time.Sleep(10 * time.Millisecond)
				}
				if test.after < 0 {
					time.Sleep(50 * time.Second)
				}
				settled()
				got := fmt.Sprint(s.backend.payloads())
				if want := map[bool]string{true: "[]", false: "[gone]"}[test.after < 0]; got != want {
					t.Fatalf("stored %s, want %s", got, want)
				}
				if test.after >= 0 && !s.backend.messages[0].Will {
					t.Fatal("not marked as a will")
				}
			})
		})
	}
}

func lose(_ *testing.T, _ *testServer, c *testClient) { c.nc.Close() }

func bye(reason byte) func(*testing.T, *testServer, *testClient) {
	return func(_ *testing.T, _ *testServer, c *testClient) {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: reason})
	}
}

// TestStalledPeer: a subscriber that reads nothing never holds a publisher
// up, keeps messages up to the bounds, and is cut off when nothing went out for the write timeout.
func TestStalledPeer(t *testing.T) {
	bubble(t, Options{WriteBuffer: 5000, MaxInflight: 10, MaxQueued: 20, MaxQueuedBytes: 8000}, func(t *testing.T, s *testServer) {
		pk := connectPacket(5, "sub", false)
		pk.Connect.Keepalive = 0
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
		sub, _ := logIn(t, s, pk)
		sub.subscribe(filter("#", 1))
		pub := join(t, s, 4, "pub", true)
		load := string(make([]byte, 100))
		begin := time.Now()
		for i := range 100 {
			pub.publish("a", load, 0, 0)
			pub.publish("a", fmt.Sprintf("%02d%s", i, load), 1, uint16(i+1))
		}
		if d := time.Since(begin); d > 100*s.latency {
			t.Fatalf("the publisher waited %v", d)
		}
		if n := s.Stats().Dropped; n < 100 || n > 180 {
			t.Fatalf("%d dropped", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		sub.nc.Close()
		synctest.Wait()
		if n := s.Stats().Connections; n != 1 {
			t.Fatalf("%d connections", n)
		}
		// What is there comes in order, the oldest first, with DUP for what
		// was sent before.
		sub, _ = joinKept(t, s, "sub")
		for i := range 30 {
			pk := sub.expect(packets.Publish)
			if want := fmt.Sprintf("%02d", i); string(pk.Payload[:2]) != want {
				t.Fatalf("message %d is %s", i, pk.Payload[:2])
			}
			if pk.FixedHeader.Dup != (i < 10) {
				t.Fatalf("message %d: DUP %v", i, pk.FixedHeader.Dup)
			}
			sub.settle(pk)
		}
		sub.silent()
	})
}

// TestOverflow: a peer that asks and never reads is cut off when its answers
// fill the buffer.
func TestOverflow(t *testing.T) {
	bubble(t, Options{WriteBuffer: 1024}, func(t *testing.T, s *testServer) {
		c := join(t, s, 5, "c", true)
		ping := make([]byte, 0, 4000)
		for range 2000 {
			ping = append(ping, 0xc0, 0)
		}
		c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		c.nc.Write(ping)
		synctest.Wait()
		if n := s.Stats().Connections; n != 0 {
			t.Fatalf("%d connections", n)
		}
	})
}
