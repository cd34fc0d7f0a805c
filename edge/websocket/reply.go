package websocket

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
)

// reply is the answer to the HTTP request. There is one request for each connection,
// so no HTTP server is needed.
type reply struct {
	conn     net.Conn
	buffered *bufio.ReadWriter
	header   http.Header
	code     int
	body     bytes.Buffer
	err      error // of writing the answer that opens the WebSocket
}

// Header implements http.ResponseWriter.
func (w *reply) Header() http.Header { return w.header }

// Write implements http.ResponseWriter.
func (w *reply) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.body.Write(p)
}

// WriteHeader implements http.ResponseWriter. It sends the answer that opens a WebSocket at once;
// send sends any other.
func (w *reply) WriteHeader(code int) {
	if w.code != 0 {
		return
	}
	w.code = code
	if code != http.StatusSwitchingProtocols {
		return
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
	w.err = w.header.Write(&head)
	head.WriteString("\r\n")
	if w.err == nil {
		_, w.err = w.conn.Write(head.Bytes())
	}
}

// Hijack implements http.Hijacker.
func (w *reply) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, w.buffered, w.err }

// send sends an answer that does not open a WebSocket.
func (w *reply) send() error {
	if w.code == 0 || w.code == http.StatusSwitchingProtocols {
		return nil
	}
	r := http.Response{
		StatusCode: w.code, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Close: true,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	return r.Write(w.conn)
}
