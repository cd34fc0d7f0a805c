package mqtt

import (
	"slices"
	"sync"
	"time"
)

// work is one thing that changes state. Works of a connection are in the order in which they
// were read. The reader fills the first half, the committer the second; the dispatcher only
// reads. There is a work for each message, so fields of other kinds are in req.
type work struct {
	kind   workKind
	id     uint16   // packet id
	conn   *conn    // the connection that asked; nil for a delayed will, and for an expiry
	client string   // client id
	req    *request // of works that are not a message

	message *Message // workPublish, workWill, workSystem, workMove

	unowed    bool // the Backend has the message, but the log of what is owed has not
	retain    bool // the message becomes its topic's retained message
	retaining bool // the batch has an event for that
	duplicate bool // workPublish: a QoS 2 id that is known already
	known     bool // workPubrel: the id was known; workConnect: there was a session
	end       bool // workGone: the session ends with its connection

	seq    uint64  // counts the committer's work, from 1
	page   *client // the client's page in the state (committer only)
	place  Place
	events [][]byte
	to     []recipient // recipients of message that the committer knows
	owed   uint64      // number of message in the log of what is owed; 0: no session is owed it
	first  *work       // the PUBLISH that this one repeats, of the same batch or of an unsettled one
	err    error       // the answer is a refusal, or none at all
}

// request has the fields of works that are not a message.
type request struct {
	subs   []subscription // workSubscribe, workUnsubscribe (filters only)
	codes  []byte         // answers, one per filter
	reason string         // workSubscribe: why a filter is refused, as text
	login  *login         // workConnect
	ending *ending        // workGone
	moving *moving        // workMove

	asks    []int    // workSubscribe: indexes in subs of those whose retained messages are owed
	replays []uint64 // and the numbers of their records in the log
}

type workKind uint8

const (
	workConnect workKind = iota
	workPublish
	workPubrel
	workPubrec // PUBREC came for an owed message
	workSubscribe
	workUnsubscribe
	workGone   // a connection that had a session has ended
	workWill   // a will is due
	workExpire // a session has expired
	workSystem // a message of the server itself below $SYS
	workMove   // a message goes to another member of a shared subscription
)

// size returns the work's share of a batch, in bytes.
func (w *work) size() int {
	if w.message != nil {
		return w.message.size()
	}
	n := 256
	if w.req == nil {
		return n
	}
	for i := range w.req.subs {
		n += 256 + len(w.req.subs[i].filter)
	}
	if w.req.login != nil {
		n += len(w.client) + int(w.req.login.will.size())
	}
	return n
}

// connectGap is the least time between two batches of new connections. Each of these batches
// costs a sync of the state file, and the disk that does it keeps messages waiting. However many
// clients connect, there is one such sync per connectGap.
const connectGap = 20 * time.Millisecond

// queue is the one bounded queue between the readers and the committer. Connections wait beside
// it, and come after everything that was queued before them, such as what the client's last
// connection sent. Their readers wait for the answer, so there are never more of them than
// connections.
type queue struct {
	maxItems, maxBytes int

	mu      sync.Mutex
	filled  sync.Cond // work came, or wake, or close
	drained sync.Cond // room came, or close
	items   []*work   // guarded by mu
	bytes   int       // guarded by mu

	entered, taken uint64    // guarded by mu; items entered and taken so far
	connects       []*work   // guarded by mu
	connected      time.Time // guarded by mu; when connects were last taken
	woken          bool      // guarded by mu
	closed         bool      // guarded by mu
}

func newQueue(maxItems, maxBytes int) *queue {
	q := &queue{maxItems: maxItems, maxBytes: maxBytes}
	q.filled.L, q.drained.L = &q.mu, &q.mu
	return q
}

// put appends w. It blocks while the queue has no room, which slows down one reader. An item
// larger than the whole queue may enter an empty one. It returns false after close.
func (q *queue) put(w *work) bool {
	size := w.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.kind == workConnect && !q.closed {
		w.req.login.after = q.entered
		q.connects = append(q.connects, w)
		switch wait := connectGap - time.Since(q.connected); {
		case wait <= 0:
			q.filled.Signal()
		case len(q.connects) == 1:
			time.AfterFunc(wait, q.wake)
		}
		return true
	}
	for !q.closed && !q.hasRoom(w, size) {
		q.drained.Wait()
	}
	if q.closed {
		return false
	}
	q.add(w, size)
	return true
}

// hasRoom reports whether the work may enter. The second half of the queue is for connections
// that have nothing in it: if the Backend is slow, those that send most wait first. The caller
// holds mu.
func (q *queue) hasRoom(w *work, size int) bool {
	n, bytes := len(q.items), q.bytes+size
	if n >= q.maxItems || n > 0 && bytes > q.maxBytes {
		return false
	}
	return w.conn == nil || w.conn.queued == 0 || n < q.maxItems/2 && bytes <= q.maxBytes/2
}

// add appends an item. The caller holds mu.
func (q *queue) add(w *work, size int) {
	q.items = append(q.items, w)
	q.entered++
	q.bytes += size
	if w.conn != nil {
		w.conn.queued++
	}
	q.filled.Signal()
}

// again appends work that the server itself repeats, even if the queue is full.
func (q *queue) again(w *work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.add(w, w.size())
	}
}

// take moves the oldest items into batch, up to the two limits and at least one, and after them
// the connections that are due. It blocks while there are neither; after a wake it may return
// nothing. It returns false when the queue is closed and empty.
func (q *queue) take(batch []*work, items, bytes int) ([]*work, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && !q.closed && !q.woken && !q.connectsDue() {
		q.filled.Wait()
	}
	q.woken = false
	n, sum := 0, 0
	for n < len(q.items) && n < items && (n == 0 || sum < bytes) {
		sum += q.items[n].size()
		if c := q.items[n].conn; c != nil {
			c.queued--
		}
		n++
	}
	batch = append(batch, q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	q.bytes -= sum
	q.taken += uint64(n)
	q.drained.Broadcast()
	connects := 0
	if q.closed || q.connectsDue() {
		for connects < len(q.connects) && q.connects[connects].req.login.after <= q.taken {
			connects++
		}
	}
	if connects > 0 {
		batch = append(batch, q.connects[:connects]...)
		q.connects, q.connected = slices.Delete(q.connects, 0, connects), time.Now()
		if len(q.connects) > 0 {
			time.AfterFunc(connectGap, q.wake)
		}
	}
	return batch, n+connects > 0 || !q.closed
}

// connectsDue reports whether connections may be taken now. The caller holds mu.
func (q *queue) connectsDue() bool {
	return len(q.connects) > 0 && time.Since(q.connected) >= connectGap
}

// wake makes a waiting take return, so that the committer looks at its clock.
func (q *queue) wake() {
	q.mu.Lock()
	q.woken = true
	q.filled.Signal()
	q.mu.Unlock()
}

// close makes later puts fail; take still returns what is queued.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.filled.Broadcast()
	q.drained.Broadcast()
	q.mu.Unlock()
}

// depth returns the number of queued items, and of those taken so far.
func (q *queue) depth() (waiting int, taken uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.taken
}
