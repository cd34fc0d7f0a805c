package listener

import (
	"errors"
	"net"
	"strings"
	"testing"
)

// passed returns sockets of those names, at new ports of addresses.
func passed(t *testing.T, stream, packet string) (*Sockets, net.Listener, net.PacketConn) {
	t.Helper()
	l, err := net.Listen("tcp", stream)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", packet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); c.Close() })
	s := new(Sockets)
	if err := errors.Join(s.Add("kafka", l, nil), s.Add("sync", nil, c)); err != nil {
		t.Fatal(err)
	}
	return s, l, c
}

// TestSockets: a listener takes the socket of its name, once, and one without a socket
// opens its own.
func TestSockets(t *testing.T) {
	s, l, c := passed(t, "127.0.0.1:0", "127.0.0.1:0")
	if err := s.Unused(); !errors.Is(err, ErrSocket) || !strings.Contains(err.Error(), "kafka (TCP), sync (UDP)") {
		t.Errorf("before they are used: %v", err)
	}
	if got, err := s.Listen("kafka", l.Addr().String()); err != nil || got != l {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := s.ListenPacket("sync", "127.0.0.1:0"); err != nil || got != c {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.Unused(); err != nil {
		t.Error(err)
	}
	for _, s := range []*Sockets{s, nil} {
		own, err := s.Listen("amqp", "127.0.0.1:0")
		if err != nil || own == l {
			t.Fatalf("%v, %v", own, err)
		}
		own.Close()
	}
	if a, b := SocketName("kafka", DefaultName), SocketName("kafka", "plant"); a != "kafka" || b != "kafka-plant" {
		t.Error(a, b)
	}
}

// TestSocketElsewhere: a socket that is not where its listener should be is refused: what
// is open to others would have been checked for another address.
func TestSocketElsewhere(t *testing.T) {
	s, l, c := passed(t, "0.0.0.0:0", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, err := s.Listen("kafka", "127.0.0.1:"+port); !errors.Is(err, ErrSocket) {
		t.Errorf("a socket that others reach for a listener on loopback: %v", err)
	}
	if _, err := s.ListenPacket("sync", ":0"); !errors.Is(err, ErrSocket) {
		t.Errorf("a socket on loopback for a port that others are to reach: %v", err)
	}
	if _, err := s.Listen("kafka", ":1"); !errors.Is(err, ErrSocket) {
		t.Errorf("another port: %v", err)
	}
	if got, err := s.Listen("kafka", ":"+port); err != nil || got != l {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.Add("sync", nil, c); !errors.Is(err, ErrSocket) {
		t.Errorf("two of one name: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err == nil {
		t.Error("what was not used is open")
	}
}
