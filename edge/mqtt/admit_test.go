package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// from is a connection of a bubble that comes from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// dialFrom connects to a server of bubble from host n.
func dialFrom(t testing.TB, s *testServer, n int) *testClient {
	near, far := net.Pipe()
	s.o.Listeners[0].(*pipes).conns <- from{far, peer(n)}
	t.Cleanup(func() { near.Close() })
	return &testClient{t: t, nc: near, r: newTestReaderOf(near), version: 4}
}

// gone reports whether the server has closed the connection.
func (c *testClient) gone() bool {
	c.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.r.ReadByte()
	var ne net.Error
	return err != nil && !(errors.As(err, &ne) && ne.Timeout())
}

// syncBuffer is a log that is written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func logTo(b io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// TestStrangersGiveWay: connections that send nothing never keep a client out,
// nor hold it up, and fill no log. One address cannot drive out another's.
func TestStrangersGiveWay(t *testing.T) {
	var log syncBuffer
	bubble(t, Options{MaxConnections: 40, MaxConnecting: 8, Log: logTo(&log)}, func(t *testing.T, s *testServer) {
		slow := dialFrom(t, s, 1) // takes its time, and is the only one of its address
		member := dialFrom(t, s, 2)
		member.send(connectPacket(4, "member", true))
		member.expect(packets.Connack)
		begin := time.Now()
		for i := range 300 {
			dialFrom(t, s, 3)
			if i%10 == 0 {
				c := dialFrom(t, s, 3)
				c.send(connectPacket(4, fmt.Sprint("c", i), true))
				c.expect(packets.Connack)
				c.disconnect()
			}
		}
		if d := time.Since(begin); d > 30*connectGap {
			t.Errorf("30 connections took %v", d)
		}
		synctest.Wait()
		if n := s.Stats().Connections; n > 2+8 {
			t.Errorf("%d connections", n)
		}
		slow.send(connectPacket(4, "slow", true))
		slow.expect(packets.Connack)
		member.silent()
		if n := s.count.gaveWay.Get(); n < 290 {
			t.Errorf("%d gave way", n)
		}
	})
	if got := log.String(); strings.Count(got, "\n") > lineBurst {
		t.Errorf("log:\n%s", got)
	}
}

// TestConnectsInAHurry: when many connect, a silent one has less time.
func TestConnectsInAHurry(t *testing.T) {
	bubble(t, Options{MaxConnecting: 8}, func(t *testing.T, s *testServer) {
		first := dialFrom(t, s, 1)
		for n := range 5 {
			dialFrom(t, s, n+2)
		}
		last := dialFrom(t, s, 10)
		time.Sleep(shortConnect + time.Second)
		if first.gone() || !last.gone() {
			t.Error("not the time that is left")
		}
	})
}

// TestRestOfAPacket: a packet that has begun must end in time, large ones at a
// rate; one that is slow but in time is accepted. A client that sends half a packet
// occupies memory only for what it has sent, and does not keep others from sending a
// large one.
func TestRestOfAPacket(t *testing.T) {
	bubble(t, Options{MaxPacketSize: 1 << 20}, func(t *testing.T, s *testServer) {
		large := publishPacket("a", strings.Repeat("x", 900_000), 1, 1)
		large.ProtocolVersion = 5
		whole := encode(large)
		var slow []*testClient
		login := func(id string) *testClient {
			pk := connectPacket(5, id, true)
			pk.Connect.Keepalive = 0
			c, _ := logIn(t, s, pk)
			return c
		}
		for i, n := range []int{1, 3, 100, 5_000, 100_000, 800_000} {
			c := login(fmt.Sprint("slow", i))
			c.raw(whole[:n])
			slow = append(slow, c)
		}
		synctest.Wait()
		if used := s.arriving.Used(); used > 1_700_000 {
			t.Errorf("%d bytes are paid for", used)
		}
		good := login("good")
		good.publish("a", strings.Repeat("y", 900_000), 1, 1)
		begin := time.Now()
		steady := login("steady")
		steady.nc.SetWriteDeadline(time.Time{})
		go func() {
			for rest := whole; len(rest) > 0; { // 4 KiB/s
				time.Sleep(time.Second / 2)
				n := min(2048, len(rest))
				if _, err := steady.nc.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
		}()
		for i, c := range slow {
			pk, err := c.next(time.Hour)
			if d := time.Since(begin); err != nil || pk.FixedHeader.Type != packets.Disconnect || d > 35*time.Second {
				t.Errorf("%d: %+v, %v after %v", i, pk, err, d)
			}
		}
		if pk, err := steady.next(time.Hour); err != nil || pk.FixedHeader.Type != packets.Puback {
			t.Errorf("the slow but steady one: %+v, %v", pk, err)
		}
		if used := s.arriving.Used(); used != 0 {
			t.Errorf("%d bytes are held for ever", used)
		}
	})
}

// TestDuel: two devices with one client id are named in one line for as long
// as they end each other's connection. One that comes back is no duel.
func TestDuel(t *testing.T) {
	var log syncBuffer
	bubble(t, Options{Log: logTo(&log)}, func(t *testing.T, s *testServer) {
		login := func(n int) {
			c := dialFrom(t, s, n)
			c.send(connectPacket(4, "twin", true))
			c.expect(packets.Connack)
		}
		login(1)
		login(2) // moved
		if got := log.String(); got != "" {
			t.Fatalf("log:\n%s", got)
		}
		for range 20 {
			time.Sleep(5 * time.Second)
			login(1)
			login(2)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "client=twin address=192.0.2.1:1000 other=192.0.2.2:1000") {
			t.Fatalf("log:\n%s", got)
		}
		if n := s.count.takeovers.Get(); n != 41 {
			t.Errorf("%d takeovers", n)
		}
		time.Sleep(5 * time.Minute)
		login(1)
		login(2)
		if got := log.String(); strings.Count(got, "\n") != 2 {
			t.Errorf("log:\n%s", got)
		}
	})
}

// TestGarbageIsNotLogged: an address that sends garbage has some lines.
func TestGarbageIsNotLogged(t *testing.T) {
	var log syncBuffer
	bubble(t, Options{Log: logTo(&log)}, func(t *testing.T, s *testServer) {
		for range 500 {
			c := dialFrom(t, s, 1)
			c.raw([]byte{0xff, 0xff})
			c.closed(0)
			c.nc.Close()
		}
	})
	if got := log.String(); strings.Count(got, "\n") != lineBurst {
		t.Errorf("log:\n%s", got)
	}
}

// TestOutgoingIsBounded: for subscribers that do not read, only a few packets are in memory.
// Subscribers that read get everything.
func TestOutgoingIsBounded(t *testing.T) {
	bubble(t, Options{MaxOutgoing: 256 << 10}, func(t *testing.T, s *testServer) {
		subscribe := func(id string, qos byte) *testClient {
			c := join(t, s, 4, id, true)
			c.subscribe(filter("a", qos))
			return c
		}
		for i := range 30 {
			subscribe(fmt.Sprint("stuck", i), byte(i%2))
		}
		good := subscribe("good", 1)
		pub := join(t, s, 4, "pub", true)
		load := strings.Repeat("x", 50_000)
		done := make(chan bool)
		go func() {
			defer close(done)
			for range 20 {
				pk, err := good.next(time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				good.send(ackPacket(packets.Puback, pk.PacketID))
			}
		}()
		for i := range 20 {
			pub.publish("a", load, 1, uint16(i+1))
			if n := s.outgoing.used.Load(); n > 256<<10+31*(smallPacket+50_100) {
				t.Fatalf("%d bytes wait", n)
			}
		}
		<-done
		time.Sleep(time.Minute) // they are cut off
		synctest.Wait()
		if n := s.outgoing.used.Load(); n != 0 {
			t.Errorf("%d bytes are held for ever", n)
		}
	})
}
