package websocket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	maxRequest = 8 << 10         // bytes of the HTTP request
	chunk      = 4 << 10         // bytes that are copied at once
	lastWords  = 2 * time.Second // time to tell the peer that the connection ends
)

// errText: the peer sends text, but MQTT is binary.
var errText = errors.New("data frame is not binary [MQTT-6.0.0-1]")

// Conn is one connection. After Handshake, two goroutines copy bytes between the WebSocket and a
// pipe. The pipe has deadlines that the connection survives, which a WebSocket has not.
type Conn struct {
	net.Conn // the connection below: TCP or TLS
	origins  []string

	far      net.Conn // the copying goroutines' end of the pipe
	carriers sync.WaitGroup

	mu          sync.Mutex
	near        net.Conn  // guarded by mu; the server's end of the pipe, nil before the handshake
	closed      bool      // guarded by mu
	read, write time.Time // guarded by mu; the deadlines
}

// Handshake answers the HTTP request that opens a WebSocket. It has the deadline of the connection
// below. After an error the peer has been told what is wrong, and the connection cannot be used.
func (c *Conn) Handshake() error {
	limited := &io.LimitedReader{R: c.Conn, N: maxRequest}
	br := bufio.NewReaderSize(limited, chunk)
	r, err := http.ReadRequest(br)
	if err != nil {
		if limited.N <= 0 {
			err = fmt.Errorf("request has more than %d bytes", maxRequest)
		}
		return fmt.Errorf("read the HTTP request: %w", err)
	}
	limited.N = 1 << 62 // what follows the request is not limited
	w := &reply{conn: c.Conn, buffered: bufio.NewReadWriter(br, bufio.NewWriterSize(c.Conn, chunk)), header: make(http.Header)}
	if !offersMQTT(r) {
		http.Error(w, "this is MQTT over WebSocket: offer the subprotocol mqtt", http.StatusBadRequest)
		return errors.Join(errors.New("the request does not offer the subprotocol mqtt"), w.send())
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: protocols, OriginPatterns: c.origins, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return errors.Join(err, w.send())
	}
	ws.SetReadLimit(-1) // no limit, because messages are parts of a stream
	return c.carry(ws)
}

// carry starts the copying goroutines. From here on the pipe has the deadlines.
func (c *Conn) carry(ws *websocket.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(net.ErrClosed, ws.CloseNow())
	}
	near, far := net.Pipe()
	err := errors.Join(near.SetReadDeadline(c.read), near.SetWriteDeadline(c.write), c.Conn.SetDeadline(time.Time{}))
	if err != nil {
		return errors.Join(err, ws.CloseNow())
	}
	c.near, c.far = near, far
	c.carriers.Go(func() { c.carryIn(ws) })
	c.carriers.Go(func() { c.carryOut(ws) })
	return nil
}

// protocols are the names of MQTT; the second is that of 3.1 clients.
var protocols = []string{"mqtt", "mqttv3.1"}

func offersMQTT(r *http.Request) bool {
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			for _, known := range protocols {
				if strings.EqualFold(strings.TrimSpace(name), known) {
					return true
				}
			}
		}
	}
	return false
}

// carryIn copies what the peer sends, until either side ends.
func (c *Conn) carryIn(ws *websocket.Conn) {
	defer c.far.Close()
	buf := make([]byte, chunk)
	for {
		kind, r, err := ws.Reader(context.Background())
		if err != nil {
			return
		}
		if kind != websocket.MessageBinary {
			ws.Close(websocket.StatusUnsupportedData, errText.Error())
			return
		}
		if _, err := io.CopyBuffer(onlyWriter{c.far}, r, buf); err != nil {
			return
		}
	}
}

// onlyWriter hides everything but Write, so that the buffer is used.
type onlyWriter struct{ io.Writer }

// carryOut copies what the server sends. When the server has closed, it ends the WebSocket, and
// gives the peer a moment to do the same.
func (c *Conn) carryOut(ws *websocket.Conn) {
	defer c.Conn.Close()
	buf := make([]byte, chunk)
	for {
		n, err := c.far.Read(buf)
		if n > 0 {
			if err := ws.Write(context.Background(), websocket.MessageBinary, buf[:n]); err != nil {
				c.far.Close()
				ws.CloseNow()
				return
			}
		}
		if err != nil {
			ws.Close(websocket.StatusNormalClosure, "")
			return
		}
	}
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// pipe returns the server's end of the pipe, or the connection below before the handshake.
func (c *Conn) pipe() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.near != nil {
		return c.near
	}
	return c.Conn
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.pipe().Read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.pipe().Write(p) }

// Close ends the connection without waiting. What was written is still sent, for two seconds at
// most.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.near == nil {
		return c.Conn.Close()
	}
	return errors.Join(c.near.Close(), c.Conn.SetDeadline(time.Now().Add(lastWords)))
}

// Wait returns when a closed connection has ended.
func (c *Conn) Wait() { c.carriers.Wait() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	if c.near != nil {
		return c.near.SetReadDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	if c.near != nil {
		return c.near.SetWriteDeadline(t)
	}
	return c.Conn.SetWriteDeadline(t)
}
