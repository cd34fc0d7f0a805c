package mqtt

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

var (
	errOverflow = errors.New("peer does not read: write buffer is full")
	errTooBig   = errors.New("packet is larger than the peer accepts")
)

// lingerTime is how long a closing connection may take to send its last bytes and to see
// the peer's end.
const lingerTime = 2 * time.Second

// writeChunk is how many bytes a peer must take within the write timeout.
const writeChunk = 16 << 10

// maxPooledBuffer is the largest buffer that goes back to the pool.
const maxPooledBuffer = 64 << 10

func newBuffer() any { return new(bytes.Buffer) }

// smallPacket is how many bytes may wait for a socket even if all sockets together have
// used up their memory, so that a peer that reads is always served.
const smallPacket = 8 << 10

// outgoing counts the bytes that wait for all sockets, including those being written.
type outgoing struct {
	limit int64
	used  atomic.Int64

	sent, packets atomic.Int64 // bytes and packets since the start, for $SYS

	sweep func() // closes the connections that have taken nothing for stalledTime

	mu       sync.Mutex
	starved  []*outbox   // guarded by mu: outboxes that wait for memory of others
	any      atomic.Bool // len(starved) > 0
	sweeping bool        // guarded by mu: a sweep is scheduled
}

// stalledTime is how long a peer may take nothing while others wait for the memory that
// its packets occupy.
const stalledTime = 2 * time.Second

// full reports whether there is no room for n more bytes. If nothing waits, there is room
// for any packet.
func (a *outgoing) full(n int) bool {
	used := a.used.Load()
	return used > 0 && used+int64(n) > a.limit
}

// give returns n bytes, and wakes the outboxes that wait for room.
func (a *outgoing) give(n int) {
	if a.used.Add(-int64(n)) > a.limit/2 || !a.any.Load() {
		return
	}
	a.mu.Lock()
	starved := a.starved
	a.starved = nil
	a.any.Store(false)
	a.mu.Unlock()
	for _, o := range starved {
		o.ready()
	}
}

// await arranges that o.ready is called when there is room again.
func (a *outgoing) await(o *outbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.starved, o) {
		a.starved = append(a.starved, o)
		a.any.Store(true)
	}
	a.armLocked()
}

// armLocked schedules a sweep, so that a stalled peer does not hold memory for as long as a
// write may take. The caller holds mu.
func (a *outgoing) armLocked() {
	if a.sweeping || len(a.starved) == 0 {
		return
	}
	a.sweeping = true
	time.AfterFunc(stalledTime, func() {
		a.sweep()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sweeping = false
		a.armLocked()
	})
}

// outbox is the bounded buffer in front of one socket. Writing to it never
// blocks. While there is something to send, one goroutine sends it; an idle
// connection has neither goroutine nor buffer.
type outbox struct {
	nc      net.Conn
	raw     net.Conn // nc without TLS: closing it never blocks
	buffers *sync.Pool
	all     *outgoing
	running *sync.WaitGroup // counts the goroutines that send
	limit   int             // bytes; more closes the connection
	timeout time.Duration   // for one write to the socket
	ready   func()          // called without mu when there is room again after hasRoom returned false

	mu       sync.Mutex
	buf      *bytes.Buffer // guarded by mu; nil: nothing waits
	answers  int           // guarded by mu; bytes of buf that are not PUBLISH packets
	sending  int           // guarded by mu; bytes that are being written
	since    time.Time     // guarded by mu; when the current write began
	flushing bool          // guarded by mu: the goroutine runs
	closing  bool          // guarded by mu: no more packets are taken
	starved  bool          // guarded by mu: a caller of hasRoom waits for room
	err      error         // guarded by mu: the first failure
}

// write encodes pk into the buffer. maximum is the largest packet that the peer accepts, 0
// for any: a larger one is not sent (errTooBig), without further effect. If the buffer is
// full of answers that the peer does not read, the connection is closed (errOverflow).
// Before a PUBLISH, call hasRoom.
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
	n := o.buf.Len() - before
	o.all.used.Add(int64(n))
	o.all.packets.Add(1)
	if pk.FixedHeader.Type != packets.Publish {
		o.answers += n
		if before > 0 && (o.answers > o.limit || o.answers > smallPacket && o.all.full(0)) {
			o.failLocked(errOverflow)
			return o.err
		}
	}
	o.startLocked()
	return nil
}

// hasRoom reports whether a message of n bytes may be added: half of the buffer is for
// messages, or for one message of any size. If it returns false, ready is called once there
// is room.
func (o *outbox) hasRoom(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.closing {
		return false
	}
	if messages := o.bufferedLocked() - o.answers; messages > 0 && messages+n > o.limit/2 {
		o.starved = true
		return false
	}
	if waits := o.sending + o.bufferedLocked(); waits+n > smallPacket && o.all.full(n) {
		if waits > 0 {
			o.starved = true
			return false
		}
		o.all.await(o)
		return !o.all.full(n) // the last of them may just have been sent
	}
	return true
}

// bufferedLocked returns how many bytes wait in the buffer. The caller holds mu.
func (o *outbox) bufferedLocked() int {
	if o.buf == nil {
		return 0
	}
	return o.buf.Len()
}

// cutStalled closes the connection if its peer has taken nothing for stalledTime.
func (o *outbox) cutStalled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sending > smallPacket && time.Since(o.since) >= stalledTime {
		o.failLocked(errOverflow)
	}
}

// open reports whether packets can still be sent.
func (o *outbox) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err == nil && !o.closing
}

// startLocked starts the sending goroutine unless it runs. The caller holds mu.
func (o *outbox) startLocked() {
	if !o.flushing {
		o.flushing = true
		o.running.Go(o.flush)
	}
}

// failLocked closes the connection after an error. The caller holds mu.
func (o *outbox) failLocked(err error) {
	if o.err == nil {
		o.err = err
	}
	o.raw.Close()
}

// send writes p in pieces, each with its own deadline: a slow peer has time, a peer that
// takes nothing is disconnected. A closing outbox has the deadline of close.
func (o *outbox) send(p []byte) error {
	for len(p) > 0 {
		o.mu.Lock()
		o.since = time.Now()
		if !o.closing {
			o.nc.SetWriteDeadline(o.since.Add(o.timeout))
		}
		o.mu.Unlock()
		n, err := o.nc.Write(p[:min(len(p), writeChunk)])
		o.all.sent.Add(int64(n))
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
		o.buf, o.answers, o.sending = nil, 0, out.Len()
		o.mu.Unlock()
		err := o.send(out.Bytes())
		o.all.give(out.Len())
		if out.Cap() <= maxPooledBuffer {
			out.Reset()
			o.buffers.Put(out)
		}
		o.mu.Lock()
		o.sending = 0
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
	lost := 0
	if o.err != nil { // it will not be sent
		lost, o.buf = o.bufferedLocked(), nil
	}
	finish := o.closing && o.err == nil
	o.mu.Unlock()
	o.all.give(lost)
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
	err := errors.ErrUnsupported
	switch nc := o.nc.(type) {
	case *net.TCPConn:
		err = nc.CloseWrite()
	case *tls.Conn:
		err = nc.CloseWrite()
	}
	if err != nil {
		o.raw.Close()
	}
}

// cause returns the first failure, nil if there was none.
func (o *outbox) cause() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
