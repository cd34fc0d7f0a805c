package mqtt

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	ws "github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/weirmq/weir/edge/websocket"
)

// startWebSocket runs a server behind a WebSocket listener.
func startWebSocket(t *testing.T, o Options) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listeners = []net.Listener{websocket.NewListener(l, nil)}
	return start(t, o)
}

// dialWebSocket is dial over a WebSocket.
func dialWebSocket(t *testing.T, s *testServer, version byte) *testClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := ws.Dial(ctx, "ws://"+s.addr+"/mqtt", &ws.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	nc := ws.NetConn(context.Background(), conn, ws.MessageBinary)
	t.Cleanup(func() { nc.Close() })
	return &testClient{t: t, nc: nc, r: bufio.NewReader(nc), version: version}
}

func joinWebSocket(t *testing.T, s *testServer, version byte, id string) *testClient {
	t.Helper()
	c := dialWebSocket(t, s, version)
	c.send(connectPacket(version, id, true))
	if ack := c.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// TestWebSocketClients: MQTT over WebSocket is MQTT: messages at every QoS, protocol errors
// with their reason, shutting down with 0x8B.
func TestWebSocketClients(t *testing.T) {
	s := startWebSocket(t, Options{})
	sub := joinWebSocket(t, s, 4, "sub")
	sub.subscribe(filter("#", 2))
	pub := joinWebSocket(t, s, 5, "pub")
	for qos := range byte(3) {
		pub.publish("a", "x", qos, uint16(qos)+1)
		sub.message("x")
	}
	bad := joinWebSocket(t, s, 5, "bad")
	bad.raw([]byte{0x36, 5, 0, 1, 'a', 0, 1})
	bad.closed(0x81)
	go s.Close()
	pub.closed(0x8b)
}

// TestWebSocketStrangers: a peer that does not finish its handshake, or sends no CONNECT
// after it, has the time and the seats that a peer on TCP has.
func TestWebSocketStrangers(t *testing.T) {
	s := startWebSocket(t, Options{ConnectTimeout: time.Second})
	silent, half := dialTCP(t, s.addr), dialTCP(t, s.addr)
	if _, err := half.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	upgraded := dialWebSocket(t, s, 4)
	for name, nc := range map[string]net.Conn{"silent": silent, "half a request": half, "no CONNECT": upgraded.nc} {
		nc.SetReadDeadline(time.Now().Add(patience))
		if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got %d bytes", name, n)
		} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: the connection stays open", name)
		}
		nc.Close()
	}
	eventually(t, "all have gone", func() bool { return s.Stats().Connections == 0 })
}

// TestWebSocketSeats: connections that have not logged in are closed for newer ones. Logged-in
// connections stay.
func TestWebSocketSeats(t *testing.T) {
	s := startWebSocket(t, Options{MaxConnecting: 4, ConnectTimeout: time.Minute})
	c := joinWebSocket(t, s, 4, "c")
	for range 20 {
		nc := dialTCP(t, s.addr)
		t.Cleanup(func() { nc.Close() })
	}
	eventually(t, "strangers give way", func() bool { return s.count.gaveWay.Get() >= 16 })
	joinWebSocket(t, s, 4, "d").silent()
	c.silent()
}

// TestWebSocketReconnectAtOnce is TestReconnectAtOnce for web pages.
func TestWebSocketReconnectAtOnce(t *testing.T) {
	s := startWebSocket(t, Options{})
	const rounds = 50
	for range rounds {
		c := joinWebSocket(t, s, 4, "c")
		c.raw(append(encode(publishPacket("a", "x", 0, 0)),
			encode(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})...))
		c.nc.Close()
	}
	eventually(t, "all messages are stored", func() bool { return len(s.backend.payloads()) == rounds })
}
