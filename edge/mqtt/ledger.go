package mqtt

import (
	"fmt"
	"iter"
	"time"
)

// never is the session expiry interval that means: keep it (§3.1.2.11.2).
const never = 0xFFFFFFFF

// ledger is what the server must remember beyond a connection: who is there,
// what is subscribed, which QoS 2 ids are taken, what is retained. The
// committer owns it. For persistent sessions and retained messages it is the
// sum of the events in the store.
type ledger struct {
	clients  map[string]*client
	retained map[string]*Message

	maxRetained, maxBytes int
	retainedBytes         int
}

// client is one session's page in the ledger.
type client struct {
	id         string
	persistent bool   // the page is in the store too
	expiry     uint32 // seconds after the connection's end; never
	subs       map[string]subscription
	inbound    map[uint16]*inbound

	conn      *conn     // nil: offline
	will      *will     // of conn, or waiting for its delay
	willDue   time.Time // zero: no will waits
	expireDue time.Time // zero: it does not expire
}

// inbound is a QoS 2 packet id between PUBLISH and PUBREL.
type inbound struct {
	place    Place
	pending  *work // its batch is under way
	doubtful bool  // its Store failed: the Backend knows better
}

func newLedger(maxRetained, maxBytes int) *ledger {
	return &ledger{
		clients:     make(map[string]*client),
		retained:    make(map[string]*Message),
		maxRetained: maxRetained, maxBytes: maxBytes,
	}
}

func newClient(id string, expiry uint32) *client {
	return &client{
		id: id, expiry: expiry, persistent: expiry > 0,
		subs: make(map[string]subscription), inbound: make(map[uint16]*inbound),
	}
}

// load applies every event of the store, and returns their bytes.
func (l *ledger) load(s Store) (size int, err error) {
	err = s.Load(func(p []byte) error {
		e, err := decodeEvent(p)
		if err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		l.apply(&e)
		size += len(p)
		return nil
	})
	return size, err
}

// apply replays one event. One about a session that is not there is void: it
// was written in the batch that ended the session.
func (l *ledger) apply(e *event) {
	c := l.clients[e.client]
	switch e.kind {
	case eventSession:
		if c == nil {
			c = newClient(e.client, e.expiry)
			l.clients[e.client] = c
		}
		c.expiry = e.expiry
	case eventEnd:
		delete(l.clients, e.client)
	case eventRetain:
		l.retain(e.message)
	case eventUnretain:
		l.retain(&Message{Topic: e.topic})
	}
	if c == nil {
		return
	}
	switch e.kind {
	case eventSubscribe:
		c.subs[e.sub.filter] = e.sub
	case eventUnsubscribe:
		delete(c.subs, e.sub.filter)
	case eventInbound:
		c.inbound[e.id] = &inbound{place: e.place}
	case eventRelease:
		delete(c.inbound, e.id)
	}
}

// forget drops the QoS 2 ids whose message is not durable: the crash came
// between the event and the message, no PUBREC was sent, and the client will
// send again.
func (l *ledger) forget(stored func(Place) bool) {
	for _, c := range l.clients {
		for id, in := range c.inbound {
			if !stored(in.place) {
				delete(c.inbound, id)
			}
		}
	}
}

// retain sets or, without payload, removes a retained message.
func (l *ledger) retain(m *Message) {
	if old := l.retained[m.Topic]; old != nil {
		l.retainedBytes -= old.size()
		delete(l.retained, m.Topic)
	}
	if len(m.Payload) > 0 {
		l.retainedBytes += m.size()
		l.retained[m.Topic] = m
	}
}

// mayRetain reports whether there is room for m. A message that replaces
// another one of its size always finds room.
func (l *ledger) mayRetain(m *Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	n, bytes := len(l.retained)+1, l.retainedBytes+m.size()
	if old := l.retained[m.Topic]; old != nil {
		n--
		bytes -= old.size()
	}
	return n <= l.maxRetained && bytes <= l.maxBytes
}

// events yields the shortest sequence of events with the ledger as its sum.
func (l *ledger) events() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, c := range l.clients {
			if c.persistent && !c.events(yield) {
				return
			}
		}
		for _, m := range l.retained {
			e := event{kind: eventRetain, message: m}
			if !yield(e.encode()) {
				return
			}
		}
	}
}

func (c *client) events(yield func([]byte) bool) bool {
	e := event{kind: eventSession, client: c.id, expiry: c.expiry}
	if !yield(e.encode()) {
		return false
	}
	for _, sub := range c.subs {
		e := event{kind: eventSubscribe, client: c.id, sub: sub}
		if !yield(e.encode()) {
			return false
		}
	}
	for id, in := range c.inbound {
		if in.pending != nil {
			continue
		}
		e := event{kind: eventInbound, client: c.id, id: id, place: in.place}
		if !yield(e.encode()) {
			return false
		}
	}
	return true
}

// size is the bytes of events.
func (l *ledger) size() (n int) {
	for p := range l.events() {
		n += len(p)
	}
	return n
}

// due is the earliest instant at which a will or an expiry waits, zero when
// nothing does.
func (l *ledger) due() (at time.Time) {
	for _, c := range l.clients {
		for _, t := range [2]time.Time{c.willDue, c.expireDue} {
			if !t.IsZero() && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
	}
	return at
}
