package peer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Paths of the streams for connections whose client is at another node, by protocol.
const (
	amqpPath  = "/peer/v1/amqp"
	relayPath = "/peer/v1/kafka/stream"
)

const (
	maxPreamble  = 16 << 10         // bytes of what describes a stream
	preambleTime = 5 * time.Second  // for it to arrive
	streamPing   = 5 * time.Second  // without anything read, after which the other end is asked
	streamGrace  = 10 * time.Second // for the answer
)

// ErrElsewhere means that the other node is not the one that has what the stream is for.
var ErrElsewhere = errors.New("node does not have it")

// OpenAMQP opens a stream to a node, by its name and host:port. description, in JSON, is
// what Options.AMQP of the other node gets. ctx bounds the opening only. Closing the
// stream, or the end of the other node, ends reads and writes. Errors: ErrElsewhere,
// ErrUnknownVerb, and that no answer came.
func (c *Client) OpenAMQP(ctx context.Context, node, address string, description any) (io.ReadWriteCloser, error) {
	return c.openStream(ctx, amqpPath, node, address, description)
}

// OpenKafka is OpenAMQP for Kafka's protocol: Options.Relay gets the description.
func (c *Client) OpenKafka(ctx context.Context, node, address string, description any) (io.ReadWriteCloser, error) {
	return c.openStream(ctx, relayPath, node, address, description)
}

func (c *Client) openStream(ctx context.Context, path, node, address string, description any) (io.ReadWriteCloser, error) {
	head, err := preamble(description)
	if err != nil {
		return nil, err
	}
	key := node + "\n" + address + "\n" + path
	l := c.link(key, node, address)
	lifetime, cancel := context.WithCancel(l.ctx)
	body, out := io.Pipe()
	req, err := http.NewRequestWithContext(lifetime, http.MethodPost, "http://node"+path, body)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() { _, _ = out.Write(head) }() // an error shows in the answer
	giveUp := context.AfterFunc(ctx, cancel)
	res, err := l.http.Do(req)
	if !giveUp() && err == nil {
		res.Body.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		out.Close()
		if ctx.Err() == nil {
			c.drop(key, l)
		}
		return nil, fmt.Errorf("open a stream to node %q at %s: %w", node, address, err)
	}
	if res.StatusCode != http.StatusOK {
		cancel()
		out.Close()
		res.Body.Close()
		switch res.StatusCode {
		case http.StatusNotFound:
			return nil, ErrUnknownVerb
		case http.StatusMisdirectedRequest:
			return nil, ErrElsewhere
		}
		return nil, fmt.Errorf("open a stream to node %q at %s: status %s", node, address, res.Status)
	}
	return &clientStream{res.Body, out, cancel}, nil
}

// preamble encodes a description with its length before it.
func preamble(description any) ([]byte, error) {
	text, err := json.Marshal(description)
	if err != nil {
		return nil, err
	}
	if len(text) > maxPreamble {
		return nil, fmt.Errorf("%w: %d bytes describe the stream", ErrTooLarge, len(text))
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...), nil
}

// clientStream is the end of the node that opened the stream.
type clientStream struct {
	io.ReadCloser // of what the other node sends
	out           *io.PipeWriter
	cancel        context.CancelFunc
}

func (s *clientStream) Write(p []byte) (int, error) { return s.out.Write(p) }

func (s *clientStream) Close() error {
	err := s.out.Close()
	s.cancel()
	return errors.Join(err, s.ReadCloser.Close())
}

// stream returns what serves a stream that another node opens; a nil serve is a verb that
// this node does not know.
func stream(serve func(description []byte, stream io.ReadWriteCloser) error) http.HandlerFunc {
	if serve == nil {
		return http.NotFound
	}
	return func(w http.ResponseWriter, r *http.Request) { serveStream(w, r, serve) }
}

func serveStream(w http.ResponseWriter, r *http.Request, serve func(description []byte, stream io.ReadWriteCloser) error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(preambleTime))
	description, err := readPreamble(r.Body)
	if err != nil {
		http.Error(w, "read what the stream is for: "+err.Error(), http.StatusBadRequest)
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	x := &serverStream{ReadCloser: r.Body, w: w, control: control}
	err = serve(description, x)
	x.leave()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	switch {
	case x.begun:
	case errors.Is(err, ErrElsewhere):
		http.Error(w, err.Error(), http.StatusMisdirectedRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func readPreamble(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxPreamble {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return text, err
}

// serverStream is the end of the node that has what the stream is for.
type serverStream struct {
	io.ReadCloser // of what the other node sends

	ending  sync.Mutex               // not held during a write, which may take long
	control *http.ResponseController // nil: the handler has ended, and must not be used any more; guarded by ending

	mu     sync.Mutex
	w      http.ResponseWriter // guarded by mu
	begun  bool                // guarded by mu: the status was sent
	closed bool                // guarded by mu
}

func (x *serverStream) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return 0, io.ErrClosedPipe
	}
	if !x.begun {
		x.begun = true
		x.w.WriteHeader(http.StatusOK)
	}
	n, err := x.w.Write(p)
	if err == nil {
		err = http.NewResponseController(x.w).Flush()
	}
	return n, err
}

// leave waits for a Close under way; a later one does nothing.
func (x *serverStream) leave() {
	x.ending.Lock()
	defer x.ending.Unlock()
	x.control = nil
}

// Close ends reads and writes at once. It may be called at any time, also when the stream
// has ended.
func (x *serverStream) Close() error {
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.control == nil {
		return nil
	}
	past := time.Unix(1, 0)
	return errors.Join(x.control.SetReadDeadline(past), x.control.SetWriteDeadline(past))
}
