package mqtt

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// delivery is one message on its way to one subscriber.
type delivery struct {
	message     *Message
	identifiers []int
	replay      *replay // source of retained messages, one by one; message is nil
	owed        uint64  // number in the log of what is owed; 0: the delivery is only in memory
	share       string  // filter of the shared subscription by which it came; "": none
	size        int     // of the message, in a bounded queue
	id          uint16
	qos         byte
	retain      bool
	dup         bool // it was sent on an earlier connection
	released    bool // QoS 2: PUBREC came, so PUBREL is sent
}

// cost returns what the delivery takes in addition to its message, in bytes.
func (d *delivery) cost() int64 { return deliveryCost + 8*int64(len(d.identifiers)) }

// expired reports whether the message may no longer be sent.
func (d *delivery) expired() bool {
	at, ok := d.message.expires()
	return ok && !time.Now().Before(at)
}

// amount is a number of messages, and their bytes.
type amount struct{ n, bytes int }

func (a *amount) add(size int)      { a.n++; a.bytes += size }
func (a *amount) subtract(size int) { a.n--; a.bytes -= size }

// fifo is a queue of deliveries that gives its memory back when it is empty.
type fifo struct {
	items []delivery // items[:head] are gone
	head  int
	fast  amount // of QoS 0
	sure  amount // of QoS 1 and 2
}

func (f *fifo) len() int { return len(f.items) - f.head }

// amount returns the amount that counts together with d.
func (f *fifo) amount(d *delivery) *amount {
	if d.qos == 0 {
		return &f.fast
	}
	return &f.sure
}

func (f *fifo) push(d delivery) {
	if f.head > 0 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, d)
	if d.replay == nil {
		f.amount(&d).add(d.size)
	}
}

func (f *fifo) front() *delivery { return &f.items[f.head] }

func (f *fifo) pop() delivery {
	d := f.items[f.head]
	f.items[f.head] = delivery{}
	f.head++
	if d.replay == nil {
		f.amount(&d).subtract(d.size)
	}
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 8 {
			f.items = nil
		}
	}
	return d
}

// leave removes a replay from the queue.
func (f *fifo) leave(r *replay) {
	i := slices.IndexFunc(f.items[f.head:], func(d delivery) bool { return d.replay == r })
	if i >= 0 {
		f.items = slices.Delete(f.items, f.head+i, f.head+i+1)
	}
	if f.len() == 0 {
		f.items, f.head = nil, 0
	}
}

// session is the outbound half of one client: what was sent and is not acknowledged, and what
// waits. It outlives connections. What a durable session is owed at QoS 1 and 2 is also in the
// OwedLog (resume.go).
type session struct {
	id       string
	o        *Options
	count    *counters
	log      *slog.Logger
	account  *account
	retained *retainedTree

	// Of a durable session.
	durable bool
	number  uint32 // in the log
	owed    *OwedLog
	loaders *sync.WaitGroup
	reading chan struct{} // one token for each session that reads
	changes *changes

	// Owned by the dispatcher.
	filters map[string]struct{} // nil: none

	mu            sync.Mutex
	conn          *conn      // guarded by mu; nil: offline
	inflight      []delivery // guarded by mu; oldest first, each has an id
	inflightBytes int        // guarded by mu; bytes of the messages in inflight
	sent          int        // guarded by mu; number of deliveries in inflight that were sent on this connection
	window        int        // guarded by mu; the peer's receive maximum, and ours
	waiting       fifo       // guarded by mu; not sent yet
	replays       []*replay  // guarded by mu; those in waiting
	nextID        uint16     // guarded by mu
	dropping      bool       // guarded by mu: messages are being dropped, and that was logged

	// Of a durable session, guarded by mu.
	progress   progress // how far it has got
	saved      progress // the progress in the state file
	since      uint64   // first delivery that was sent and is not in saved; 0: none
	loaded     uint64   // owed deliveries up to here are in waiting, in inflight or settled
	dispatched uint64   // owed deliveries up to here may be sent
	lagging    bool     // more is owed than is in memory
	loading    bool     // a read of the log is under way
	generation uint64   // number of that read
	doubt      int      // this many of the next deliveries may have been sent before the process died,
	doubtTo    uint64   // up to this number
	changed    bool     // progress must be written
}

func newSession(id string, o *Options, count *counters, account *account, retained *retainedTree) *session {
	return &session{id: id, o: o, count: count, log: o.Log, account: account, retained: retained}
}

// attach binds the session to a new connection. Whatever is in flight is sent
// again by pump, in its original order and before anything new
// [MQTT-4.4.0-1] [MQTT-4.6.0-1]. A durable session gets what it was owed up to the number owed
// while it was away.
func (s *session) attach(c *conn, owed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	if s.durable {
		s.dispatched = max(s.dispatched, owed)
	}
	s.sent = 0
	s.rewindLocked()
	s.window = min(s.o.MaxInflight, int(c.receiveMaximum))
	for i := range s.inflight {
		s.inflight[i].dup = true
	}
}

// detach unbinds the connection if it is still the session's. It returns what other members of
// shared subscriptions are to get. ended: the session ends too.
func (s *session) detach(c *conn, ended bool) (left bool, shared []delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return false, nil
	}
	shared = s.sharedLocked(ended)
	s.leaveLocked()
	return true, shared
}

// leave unbinds the current connection, if any, and returns it.
func (s *session) leave() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	s.leaveLocked()
	return c
}

// leaveLocked drops what is owed to a connection only: QoS 0.
func (s *session) leaveLocked() {
	s.conn = nil
	for _, r := range slices.Clone(s.replays) {
		if r.sub.qos == 0 {
			s.endReplayLocked(r)
		}
	}
	for n := s.waiting.len(); n > 0; n-- {
		d := s.waiting.pop()
		if d.replay == nil && d.qos == 0 {
			s.account.release(&d)
			s.unshareLocked(&d)
		} else {
			s.waiting.push(d)
		}
	}
	s.rewindLocked()
}

// smallInflight is how many bytes a subscriber that keeps up may have in flight when the queues
// of others have used up the memory.
const smallInflight = 4 << 10

// deliver sends a message or queues it. If the queue is full, the message is dropped: the newest
// goes, the order of the rest stays. QoS 0 messages are dropped unless the client is connected.
func (s *session) deliver(d delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.size = d.message.size()
	if d.owed > 0 {
		s.deliverOwedLocked(d)
		return
	}
	if d.qos == 0 {
		switch {
		case s.conn == nil || !s.conn.out.open():
			s.unshareLocked(&d)
			return
		case s.waiting.len() == 0 && s.conn.out.hasRoom(d.message.wireSize()):
			s.sendLocked(&d)
			s.unshareLocked(&d)
			return
		}
	}
	if !s.fitsLocked(&d) {
		s.dropLocked(d)
		return
	}
	s.account.hold(&d)
	s.waiting.push(d)
	s.pumpLocked()
}

// fitsLocked reports whether the queue has room for one more message. QoS 0 and the other
// messages have separate room, and any one message fits.
func (s *session) fitsLocked(d *delivery) bool {
	have := s.waiting.amount(d)
	waits := d.qos == 0 || s.waiting.len() > 0 || s.conn == nil || s.inflightBytes+d.size > smallInflight
	return (d.qos == 0 || have.n < s.o.MaxQueued) && (have.n == 0 || have.bytes+d.size <= s.o.MaxQueuedBytes) &&
		(!waits || s.account.memory.mayHold(d))
}

// dropLocked counts a message that this subscriber will not get. It logs the first of a series.
func (s *session) dropLocked(d delivery) {
	if d.qos == 0 {
		s.count.dropped0.Inc()
	} else {
		s.count.dropped.Inc()
	}
	s.unshareLocked(&d)
	if !s.dropping {
		s.dropping = true
		s.log.Warn("a subscriber is too slow: the newest messages for it are dropped", "client", s.id,
			"online", s.conn != nil, "waiting", s.waiting.fast.n+s.waiting.sure.n,
			"bytes", s.waiting.fast.bytes+s.waiting.sure.bytes, "topic", d.message.Topic)
	}
}

// discard empties the queue of a session that has ended.
func (s *session) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.waiting.len() > 0 {
		if d := s.waiting.pop(); d.message != nil {
			s.account.release(&d)
		}
	}
	for i := range s.inflight {
		s.dropPayloadLocked(i)
	}
	s.waiting, s.replays, s.inflight, s.inflightBytes, s.sent = fifo{}, nil, nil, 0, 0
	s.generation++
	s.lagging = false
}

// unshareLocked notes that a delivery of a shared subscription has ended.
func (s *session) unshareLocked(d *delivery) {
	if d.share != "" {
		s.account.shared.Add(-1)
	}
}
