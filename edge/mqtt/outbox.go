package mqtt

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

var (
	errOverflow = errors.New("peer does not read: write buffer is full")
	errTooBig   = errors.New("packet is larger than the peer accepts")
)

// lingerTime is how long a closing connection may take to get rid of its last
// bytes and to see the peer's end.
const lingerTime = 2 * time.Second

// writeChunk is how many bytes a peer must take within the write timeout.
const writeChunk = 16 << 10

// keepBuffer is the largest buffer that goes back to the pool.
const keepBuffer = 64 << 10

func newBuffer() any { return new(bytes.Buffer) }

// outbox is the bounded buffer in front of one socket. Writing to it never
// blocks. While there is something to send, one goroutine sends it; an idle
// connection has neither goroutine nor buffer.
type outbox struct {
	nc      net.Conn
	raw     net.Conn // nc without TLS: closing it never blocks
	buffers *sync.Pool
	limit   int           // bytes; more closes the connection
	timeout time.Duration // for one write to the socket
	ready   func()        // called without mu when room came back after hasRoom said no

	mu       sync.Mutex
	buf      *bytes.Buffer // guarded by mu; nil: nothing waits
	flushing bool          // guarded by mu: the goroutine runs
	closing  bool          // guarded by mu: nothing more is taken
	starved  bool          // guarded by mu: someone waits for room
	err      error         // guarded by mu: the first failure
}

// write encodes pk into the buffer. maximum is the largest packet that the
// peer takes, 0 for any: a larger one is not sent (errTooBig) and harms
// nothing. A full buffer closes the connection (errOverflow).
func (o *outbox) write(pk *packets.Packet, maximum uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	if o.closing {
		return net.ErrClosed
	}
	if o.buf == nil {
		o.buf = o.buffers.Get().(*bytes.Buffer)
	}
	before := o.buf.Len()
	if err := encodePacket(o.buf, pk); err != nil {
		o.buf.Truncate(before)
		return err
	}
	if maximum > 0 && o.buf.Len()-before > int(maximum) {
		o.buf.Truncate(before)
		o.startLocked()
		return errTooBig
	}
	if before > 0 && o.buf.Len() > o.limit {
		o.failLocked(errOverflow)
		return o.err
	}
	o.startLocked()
	return nil
}

// hasRoom reports whether a message may be added: half of the buffer is kept
// for acknowledgements. After a no, ready is called once there is room.
func (o *outbox) hasRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf != nil && o.buf.Len() > o.limit/2 {
		o.starved = true
		return false
	}
	return o.err == nil && !o.closing
}

// open reports whether packets can still be sent at all.
func (o *outbox) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err == nil && !o.closing
}

// startLocked begins to send if nobody does. It has mu.
func (o *outbox) startLocked() {
	if !o.flushing {
		o.flushing = true
		go o.flush()
	}
}

// failLocked gives the connection up. It has mu.
func (o *outbox) failLocked(err error) {
	if o.err == nil {
		o.err = err
	}
	o.raw.Close()
}

// send writes p in pieces, each with its own deadline: a slow peer has time, one
// that takes nothing is cut off. A closing outbox has the deadline of close.
func (o *outbox) send(p []byte) error {
	for len(p) > 0 {
		o.mu.Lock()
		if !o.closing {
			o.nc.SetWriteDeadline(time.Now().Add(o.timeout))
		}
		o.mu.Unlock()
		n, err := o.nc.Write(p[:min(len(p), writeChunk)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// flush sends until nothing is left, then ends.
func (o *outbox) flush() {
	o.mu.Lock()
	for o.err == nil && o.buf != nil {
		out := o.buf
		o.buf = nil
		o.mu.Unlock()
		err := o.send(out.Bytes())
		if out.Cap() <= keepBuffer {
			out.Reset()
			o.buffers.Put(out)
		}
		o.mu.Lock()
		if err != nil {
			o.failLocked(err)
			break
		}
		if o.starved && !o.closing {
			o.starved = false
			o.mu.Unlock()
			o.ready()
			o.mu.Lock()
		}
	}
	o.flushing = false
	finish := o.closing && o.err == nil
	o.mu.Unlock()
	if finish {
		o.finish()
	}
}

// close takes no more packets and lets the buffered ones go out, for at most
// lingerTime. Then it ends our half of the connection, so that the peer reads
// them to the end before it sees the close.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return
	}
	o.closing = true
	if o.err != nil {
		return
	}
	o.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	o.startLocked()
}

// finish sends the end of the stream. It may block for as long as the write
// deadline, so it runs on the flusher's goroutine.
func (o *outbox) finish() {
	half, ok := o.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		o.raw.Close()
	}
}

// cause is the first failure, nil when there was none.
func (o *outbox) cause() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
