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

// window bounds the bytes of batches under way. No shard has more of them than are left
// for the others, so that one whose log takes nothing does not hold up the others.
type window struct {
	mu     sync.Mutex
	freed  sync.Cond
	free   int64            // guarded by mu
	taken  map[uint32]int64 // by shard; guarded by mu
	size   int64
	closed bool // guarded by mu
}

func newWindow(size int64) *window {
	w := &window{free: size, size: size, taken: make(map[uint32]int64)}
	w.freed.L = &w.mu
	return w
}

// take waits for n bytes for a shard, or for the whole window if n is more. It returns how
// many it has taken; none after close.
func (w *window) take(shard uint32, n int64) int64 {
	n = min(n, w.size)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.taken[shard]+n > w.free && !w.closed {
		w.freed.Wait()
	}
	if w.closed {
		return 0
	}
	w.free -= n
	w.taken[shard] += n
	return n
}

func (w *window) give(shard uint32, n int64) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
	if w.taken[shard] -= n; w.taken[shard] == 0 {
		delete(w.taken, shard)
	}
	w.freed.Broadcast()
}

// close ends waiting.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.freed.Broadcast()
}
