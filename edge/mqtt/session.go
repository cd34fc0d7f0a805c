package mqtt

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// delivery is one message on its way to one subscriber.
type delivery struct {
	message     *Message
	identifiers []int
	id          uint16
	qos         byte
	retain      bool
	dup         bool // it was sent on an earlier connection
	released    bool // QoS 2: PUBREC came, PUBREL is what is to be sent
}

// cost is what the delivery takes beside its message, in bytes.
func (d *delivery) cost() int64 { return deliveryCost + 8*int64(len(d.identifiers)) }

// fifo is a queue of deliveries that gives its memory back when it is empty.
type fifo struct {
	items []delivery // items[:head] are gone
	head  int
	bytes int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(d delivery) {
	if f.head > 0 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, d)
	f.bytes += d.message.size()
}

func (f *fifo) front() *delivery { return &f.items[f.head] }

func (f *fifo) pop() delivery {
	d := f.items[f.head]
	f.items[f.head] = delivery{}
	f.head++
	f.bytes -= d.message.size()
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 8 {
			f.items = nil
		}
	}
	return d
}

// session is one client's outbound half: what was sent and is not
// acknowledged, and what waits. It outlives connections. Everything is in
// memory: a restart keeps a persistent session's subscriptions, not its queue.
type session struct {
	id      string
	o       *Options
	count   *counters
	log     *slog.Logger
	account *account

	// Owned by the dispatcher.
	filters map[string]struct{} // nil: none
	round   uint64              // of the trie's last match that hit this session
	match   int                 // and where in its result

	mu       sync.Mutex
	conn     *conn      // guarded by mu; nil: offline
	inflight []delivery // guarded by mu; oldest first, each has an id
	flying   int        // guarded by mu; bytes of the messages in inflight
	sent     int        // guarded by mu; so many of inflight went out on this connection
	window   int        // guarded by mu; the peer's receive maximum, and ours
	waiting  fifo       // guarded by mu; not sent yet, QoS 1 and 2 only
	nextID   uint16     // guarded by mu
	dropping bool       // guarded by mu: messages are being dropped, which was logged
}

func newSession(id string, o *Options, count *counters, account *account) *session {
	return &session{id: id, o: o, count: count, log: o.Log, account: account}
}

// online reports whether a connection is there.
func (s *session) online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// idle reports whether a message would go out at once.
func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil && s.waiting.len() == 0 && len(s.inflight) < s.window
}

// attach binds the session to a new connection. Whatever is in flight is sent
// again by pump, in its original order and before anything new
// [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func (s *session) attach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	s.sent = 0
	s.window = min(s.o.MaxInflight, int(c.receiveMaximum))
	for i := range s.inflight {
		s.inflight[i].dup = true
	}
}

// detach unbinds the connection if it is still the session's.
func (s *session) detach(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return false
	}
	s.conn = nil
	return true
}

// freeFlight is how many bytes a subscriber that keeps up may have in flight
// when the queues of others have filled the memory.
const freeFlight = 4 << 10

// deliver sends a message or queues it. QoS 0 goes out at once or not at all.
// A QoS 1 or 2 message that finds the queue full is dropped: the newest goes,
// the order of the rest stays.
func (s *session) deliver(d delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.qos == 0 {
		if s.conn == nil {
			return
		}
		switch {
		case s.conn.out.hasRoom(d.message.size()):
			s.sendLocked(&d)
		case s.conn.out.open():
			s.dropLocked(d)
		}
		return
	}
	queued := s.waiting.len()
	size := d.message.size()
	waits := queued > 0 || s.conn == nil || s.flying+size > freeFlight
	if queued >= s.o.MaxQueued || queued > 0 && s.waiting.bytes+size > s.o.MaxQueuedBytes ||
		waits && !s.account.state.mayHold(&d) {
		s.dropLocked(d)
		return
	}
	s.account.hold(&d)
	s.waiting.push(d)
	s.pumpLocked()
}

// dropLocked counts a message that this subscriber will not get, and logs the
// first of a row.
func (s *session) dropLocked(d delivery) {
	if d.qos == 0 {
		s.count.dropped0.Inc()
	} else {
		s.count.dropped.Inc()
	}
	if !s.dropping {
		s.dropping = true
		s.log.Warn("subscriber does not keep up, newest messages are dropped", "client", s.id,
			"online", s.conn != nil, "waiting", s.waiting.len(), "bytes", s.waiting.bytes, "topic", d.message.Topic)
	}
}

// pump sends whatever the windows allow.
func (s *session) pump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pumpLocked()
}

// pumpLocked sends first what is in flight from an earlier connection, then
// what waits. The quota is never counted up or down, it is what the window
// leaves beside the packets in flight: nothing can leak [MQTT-4.9.0-1].
func (s *session) pumpLocked() {
	for s.conn != nil && s.sent < s.window && s.conn.out.hasRoom(s.nextSizeLocked()) {
		if s.sent == len(s.inflight) && !s.nextLocked() {
			return
		}
		s.sent++
		if s.sendLocked(&s.inflight[s.sent-1]) == errTooBig {
			s.removeLocked(s.sent - 1)
		}
	}
}

// nextSizeLocked is the size of what pumpLocked sends next.
func (s *session) nextSizeLocked() int {
	var next *delivery
	switch {
	case s.sent < len(s.inflight):
		next = &s.inflight[s.sent]
	case s.waiting.len() > 0:
		next = s.waiting.front()
	}
	if next == nil || next.message == nil {
		return 0
	}
	return next.message.size()
}

// nextLocked moves the oldest waiting message that has not expired to the end
// of inflight, with a packet id, and reports whether there was one.
func (s *session) nextLocked() bool {
	for s.waiting.len() > 0 {
		size := s.waiting.front().message.size()
		if s.flying > 0 && s.flying+size > s.o.MaxQueuedBytes {
			return false
		}
		d := s.waiting.pop()
		if at, ok := d.message.expires(); ok && !time.Now().Before(at) {
			s.account.release(&d)
			s.count.expired.Inc()
			continue
		}
		d.id = s.freeIDLocked()
		s.inflight = append(s.inflight, d)
		s.flying += size
		return true
	}
	s.dropping = false
	return false
}

// sendLocked writes one PUBLISH, or the PUBREL that has taken its place. A
// message that is larger than the peer accepts counts as delivered
// [MQTT-3.1.2-25].
func (s *session) sendLocked(d *delivery) error {
	var err error
	if d.released {
		err = s.conn.ack(packets.Pubrel, d.id, packets.CodeSuccess)
	} else {
		err = s.conn.publish(d)
	}
	if err == errTooBig {
		s.count.tooBig.Inc()
	}
	return err
}

// freeIDLocked returns a packet id that is not in flight. There is one:
// fewer than 65535 are.
func (s *session) freeIDLocked() uint16 {
	for {
		s.nextID++
		if s.nextID != 0 && s.indexLocked(s.nextID) < 0 {
			return s.nextID
		}
	}
}

func (s *session) indexLocked(id uint16) int {
	return slices.IndexFunc(s.inflight, func(d delivery) bool { return d.id == id })
}

func (s *session) removeLocked(i int) {
	s.landedLocked(i)
	s.inflight = slices.Delete(s.inflight, i, i+1)
	if i < s.sent {
		s.sent--
	}
	if len(s.inflight) == 0 {
		s.inflight = nil
	}
}

// landedLocked lets go of the message of inflight[i]: it is not sent again.
func (s *session) landedLocked(i int) {
	d := &s.inflight[i]
	if d.message == nil {
		return
	}
	s.flying -= d.message.size()
	s.account.release(d)
	d.message = nil
}

// complete ends the delivery with this id after a PUBACK, a PUBCOMP or a
// refusing PUBREC on connection c, and reports whether there was one.
func (s *session) complete(c *conn, id uint16, qos byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(id)
	if s.conn != c || i < 0 || s.inflight[i].qos != qos {
		return false
	}
	s.removeLocked(i)
	s.pumpLocked()
	return true
}

// release notes a PUBREC: from now on PUBREL is sent for this id, never the
// message again [MQTT-4.3.3-6]. It reports whether the id is known.
func (s *session) release(c *conn, id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(id)
	if s.conn != c || i < 0 || s.inflight[i].qos != 2 {
		return false
	}
	s.inflight[i].released = true
	s.landedLocked(i)
	return true
}

// discard empties the queue of a session that has ended.
func (s *session) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.waiting.len() > 0 {
		d := s.waiting.pop()
		s.account.release(&d)
	}
	for i := range s.inflight {
		s.landedLocked(i)
	}
	s.waiting, s.inflight, s.flying, s.sent = fifo{}, nil, 0, 0
}
