package mqtt

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// Limits of how long a new connection waits for the one that it takes over.
const (
	drainGrace = 20 * time.Millisecond // without a byte for this long, the connection counts as empty
	drainTime  = time.Second           // for the whole wait
	drainBytes = 4 << 20               // about what a kernel buffers for one socket
)

// drain is a request of a newer connection with the same client id: what the kernel has received
// of the older one is to be read first. A client that closes its connection and opens another at
// once has sent DISCONNECT, and perhaps QoS 0 messages, on the first. Without drain these would
// be lost, and its will published.
type drain struct {
	dry  chan struct{} // closed by the older connection's reader: nothing was left, or it was too much
	left int           // bytes that may still be read; the reader's
}

// succession is a connection's part in takeovers.
type succession struct {
	drain atomic.Pointer[drain] // set while a newer connection waits
	left  chan struct{}         // closed when everything that was read is on the queue, including the end of the connection
}

// succeed makes c the newest connection of its client id. It returns when everything that an
// older one had sent is on the queue, or the limits of the wait are reached.
func (c *conn) succeed() {
	s := c.s
	s.mu.Lock()
	old := s.newest[c.clientID]
	s.newest[c.clientID] = c
	s.mostClients = max(s.mostClients, len(s.newest))
	s.mu.Unlock()
	if old == nil {
		return
	}
	old.empty(s.closing)
}

// empty waits until everything that the kernel has received of the connection was read, or the
// limits of the wait are reached.
func (c *conn) empty(stop <-chan struct{}) {
	d := &drain{dry: make(chan struct{}), left: drainBytes}
	c.succession.drain.Store(d)
	c.nc.SetReadDeadline(time.Now().Add(drainGrace))
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	select {
	case <-d.dry:
	case <-c.succession.left:
	case <-limit.C:
	case <-stop:
	}
}

// leaveSuccession notes that nothing more comes from this connection.
func (c *conn) leaveSuccession() {
	c.s.mu.Lock()
	if c.s.newest[c.clientID] == c {
		delete(c.s.newest, c.clientID)
	}
	c.s.mu.Unlock()
	close(c.succession.left)
}

// setReadDeadline sets a deadline for the reader.
func (c *conn) setReadDeadline(t time.Time) error {
	c.until = t
	return c.nc.SetReadDeadline(t)
}

// readSome reads from the socket. While a newer connection waits, it reads with a short deadline,
// and tells that connection when nothing came.
func (c *conn) readSome(p []byte) (int, error) {
	for {
		if c.stopped.Load() {
			return 0, errStopped
		}
		if c.succession.drain.Load() != nil {
			at := time.Now().Add(drainGrace)
			if !c.until.IsZero() && c.until.Before(at) {
				at = c.until
			}
			c.nc.SetReadDeadline(at)
		}
		n, err := c.nc.Read(p)
		c.s.count.bytesIn.Add(n)
		d := c.succession.drain.Load()
		if d == nil {
			return n, err
		}
		d.left -= n
		silent := n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && (c.until.IsZero() || time.Now().Before(c.until))
		if silent || d.left <= 0 {
			c.succession.drain.Store(nil)
			close(d.dry)
			c.nc.SetReadDeadline(c.until)
		}
		if !silent {
			return n, err
		}
	}
}
