package peer

import (
	"io"
	"sync"
)

// outgoing is what one direction of a stream has yet to send. Its writers never block;
// who makes them is bounded elsewhere.
type outgoing struct {
	mu      sync.Mutex
	more    sync.Cond
	waiting []byte // guarded by mu
	reading []byte // what Read gives out; guarded by mu
	at      int    // of reading: what is before it has been given out; guarded by mu
	closed  bool   // guarded by mu
}

func newOutgoing() *outgoing {
	o := &outgoing{}
	o.more.L = &o.mu
	return o
}

// put adds a message. After Close it is dropped.
func (o *outgoing) put(kind byte, link, request uint32, body func([]byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.waiting = appendMessage(o.waiting, kind, link, request, body)
	o.more.Signal()
}

// keepMemory is how many bytes of memory outgoing keeps for later messages.
const keepMemory = 1 << 20

// Read implements io.Reader: it waits until there is something to send. After Close it
// returns io.EOF.
func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == len(o.reading) {
		for len(o.waiting) == 0 && !o.closed {
			o.more.Wait()
		}
		if cap(o.reading) > keepMemory {
			o.reading = nil
		}
		o.reading, o.waiting, o.at = o.waiting, o.reading[:0], 0
	}
	if o.closed {
		return 0, io.EOF
	}
	n := copy(p, o.reading[o.at:])
	o.at += n
	return n, nil
}

// Close ends Read.
func (o *outgoing) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.waiting, o.reading, o.at = nil, nil, 0
	o.more.Broadcast()
	return nil
}
