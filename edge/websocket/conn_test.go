package websocket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const patience = 5 * time.Second

func listen(t *testing.T, origins ...string) *Listener {
	t.Helper()
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(below, origins)
	t.Cleanup(func() { l.Close() })
	return l
}

// serve accepts one connection, and gives it and the outcome of its handshake.
func serve(t *testing.T, l *Listener) (conn chan *Conn, outcome chan error) {
	conn, outcome = make(chan *Conn, 1), make(chan error, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			outcome <- err
			return
		}
		c := nc.(*Conn)
		t.Cleanup(func() { c.Close(); c.Wait() })
		c.SetDeadline(time.Now().Add(patience))
		err = c.Handshake()
		conn <- c
		outcome <- err
	}()
	return conn, outcome
}

func dial(t *testing.T, l *Listener, o websocket.DialOptions) (*websocket.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, r, err := websocket.Dial(ctx, "ws://"+l.Addr().String()+"/any/path", &o)
	if err == nil {
		t.Cleanup(func() { ws.CloseNow() })
		if got := r.Header.Get("Sec-WebSocket-Protocol"); got != o.Subprotocols[0] {
			t.Errorf("subprotocol %q", got)
		}
	}
	return ws, err
}

func open(t *testing.T) (*websocket.Conn, *Conn) {
	t.Helper()
	l := listen(t)
	conns, outcome := serve(t, l)
	ws, err := dial(t, l, websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	c := <-conns
	if err := <-outcome; err != nil {
		t.Fatal(err)
	}
	return ws, c
}

// TestStream: bytes pass both ways, whatever the frames that they come in.
func TestStream(t *testing.T) {
	ws, c := open(t)
	ctx := context.Background()
	sent := bytes.Repeat([]byte("0123456789"), 20_000)
	go func() {
		for p := sent; len(p) > 0; {
			n := min(len(p), 1+len(p)%7919)
			if ws.Write(ctx, websocket.MessageBinary, p[:n]) != nil {
				return
			}
			p = p[n:]
		}
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read: %v", err)
	}
	go c.Write(sent)
	ws.SetReadLimit(-1)
	var back []byte
	for len(back) < len(sent) {
		kind, p, err := ws.Read(ctx)
		if err != nil || kind != websocket.MessageBinary {
			t.Fatalf("frame %v: %v", kind, err)
		}
		back = append(back, p...)
	}
	if !bytes.Equal(back, sent) {
		t.Error("what came back differs")
	}
}

// TestDeadline: after a deadline has passed, what comes later can be read.
func TestDeadline(t *testing.T) {
	ws, c := open(t)
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: %v", err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if err := ws.Write(context.Background(), websocket.MessageBinary, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1)
	if _, err := c.Read(p); err != nil || p[0] != 'x' {
		t.Fatalf("read %q: %v", p, err)
	}
}

// TestDeadlineOfHandshakeStays: the deadline that a server sets before the handshake is in
// force after it.
func TestDeadlineOfHandshakeStays(t *testing.T) {
	l := listen(t)
	outcome := make(chan error, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			outcome <- err
			return
		}
		c := nc.(*Conn)
		defer c.Wait()
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		if err := c.Handshake(); err != nil {
			outcome <- err
			return
		}
		_, err = c.Read(make([]byte, 1))
		outcome <- err
	}()
	if _, err := dial(t, l, websocket.DialOptions{Subprotocols: []string{"mqtt"}}); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

// TestClose: what was written arrives before the end, and the peer is told of the end.
func TestClose(t *testing.T) {
	ws, c := open(t)
	if _, err := c.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, p, err := ws.Read(context.Background()); err != nil || string(p) != "last words" {
		t.Fatalf("read %q: %v", p, err)
	}
	_, _, err := ws.Read(context.Background())
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("end: %v", err)
	}
	c.Wait()
}

// TestPeerCloses: the end of the peer is the end of the stream.
func TestPeerCloses(t *testing.T) {
	ws, c := open(t)
	if err := ws.Write(context.Background(), websocket.MessageBinary, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	go ws.Close(websocket.StatusNormalClosure, "")
	c.SetReadDeadline(time.Now().Add(patience))
	if p, err := io.ReadAll(c); err != nil || string(p) != "bye" {
		t.Errorf("read %q: %v", p, err)
	}
}

// TestText: MQTT is binary, text ends the connection [MQTT-6.0.0-1].
func TestText(t *testing.T) {
	ws, c := open(t)
	if err := ws.Write(context.Background(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	_, _, err := ws.Read(context.Background())
	if websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("end: %v", err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if p, err := io.ReadAll(c); err != nil || len(p) > 0 {
		t.Errorf("read %q: %v", p, err)
	}
}

// TestOrigins: origins of other hosts must be named; clients other than browsers may always
// connect.
func TestOrigins(t *testing.T) {
	for _, test := range []struct {
		allowed []string
		origin  string
		ok      bool
	}{
		{nil, "", true},
		{nil, "http://elsewhere.example", false},
		{[]string{"panel.example"}, "https://panel.example", true},
		{[]string{"https://panel.example"}, "http://panel.example", false},
		{[]string{"*"}, "http://elsewhere.example", true},
	} {
		l := listen(t, test.allowed...)
		_, outcome := serve(t, l)
		o := websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{}}
		if test.origin != "" {
			o.HTTPHeader.Set("Origin", test.origin)
		}
		_, err := dial(t, l, o)
		if served := <-outcome; (err == nil) != test.ok || (served == nil) != test.ok {
			t.Errorf("origins %v, page of %q: %v, %v", test.allowed, test.origin, err, served)
		}
	}
}

// TestNoWebSocket: whatever else comes is answered in HTTP, and the connection ends.
func TestNoWebSocket(t *testing.T) {
	head := "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
	for name, test := range map[string]struct {
		request string
		code    int // 0: no answer
	}{
		"no subprotocol":      {"GET / HTTP/1.1\r\n" + head + "\r\n", 400},
		"another subprotocol": {"GET / HTTP/1.1\r\n" + head + "Sec-WebSocket-Protocol: amqp\r\n\r\n", 400},
		"no upgrade":          {"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", 426},
		"POST":                {"POST / HTTP/1.1\r\n" + head + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", 405},
		"no HTTP":             {"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\r\n\r\n", 0},
		"a long request":      {"GET / HTTP/1.1\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 9), 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			conns, outcome := serve(t, l)
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(nc, test.request); err != nil {
				t.Fatal(err)
			}
			if err := <-outcome; err == nil {
				t.Error("the handshake was a success")
			}
			(<-conns).Close()
			r, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if test.code == 0 && err == nil || test.code != 0 && (err != nil || r.StatusCode != test.code) {
				t.Errorf("answer %v %v, want %d", r, err, test.code)
			}
		})
	}
}
