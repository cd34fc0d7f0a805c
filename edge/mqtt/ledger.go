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
	clients    map[string]*client
	persistent int // of clients
	retained   map[string]*Message
	state      *state

	// Persistent sessions without connection, in the order in which they lost
	// it. After a restart, that of the state file.
	oldest, newest *client

	maxSessions           int // persistent ones
	maxSubscriptions      int // per session
	maxRetained, maxBytes int
	retainedBytes         int64
}

// client is one session's page in the ledger.
type client struct {
	id         string
	persistent bool                    // the page is in the store too
	expiry     uint32                  // seconds after the connection's end; never
	subs       map[string]subscription // nil: none
	inbound    map[uint16]*inbound     // nil: none
	account    *account
	charged    int64 // the ledger's part of account

	conn         *conn     // nil: offline
	will         *will     // of conn, or waiting for its delay
	willDue      time.Time // zero: no will waits
	expireDue    time.Time // zero: it does not expire
	older, newer *client   // neighbours among the persistent sessions without connection
}

// inbound is a QoS 2 packet id between PUBLISH and PUBREL.
type inbound struct {
	place    Place
	pending  *work // its batch is under way
	doubtful bool  // its Store failed: the Backend knows better
}

func newLedger(o *Options, s *state) *ledger {
	return &ledger{
		clients: make(map[string]*client), retained: make(map[string]*Message), state: s,
		maxSessions: o.MaxSessions, maxSubscriptions: o.MaxSubscriptions,
		maxRetained: o.MaxRetained, maxBytes: o.MaxRetainedBytes,
	}
}

func (l *ledger) newClient(id string, expiry uint32) *client {
	return &client{id: id, expiry: expiry, persistent: expiry > 0, account: &account{state: l.state}}
}

func (c *client) charge(n int64) {
	c.charged += n
	c.account.charge(n)
}

// open enters a page into the ledger, in the place of the client's earlier
// one.
func (l *ledger) open(c *client) {
	if old := l.clients[c.id]; old != nil {
		l.close(old)
	}
	l.clients[c.id] = c
	if c.persistent {
		l.persistent++
	}
	c.charge(sessionCost + int64(len(c.id)))
}

// close takes a page with everything on it out of the ledger.
func (l *ledger) close(c *client) {
	l.wake(c)
	delete(l.clients, c.id)
	if c.persistent {
		l.persistent--
	}
	c.charge(-c.charged)
}

// rest puts a persistent page without connection at the end of its row.
func (l *ledger) rest(c *client) {
	l.wake(c)
	if !c.persistent {
		return
	}
	c.older = l.newest
	if l.newest != nil {
		l.newest.newer = c
	} else {
		l.oldest = c
	}
	l.newest = c
}

// wake takes a page out of the row.
func (l *ledger) wake(c *client) {
	if c.older == nil && c.newer == nil && l.oldest != c {
		return
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		l.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		l.newest = c.older
	}
	c.older, c.newer = nil, nil
}

// setWill charges the page for its will, in the place of an earlier one.
func (c *client) setWill(w *will) {
	c.charge(w.size() - c.will.size())
	c.will = w
}

// takeWill returns the page's will as work that is due, and removes it.
func (c *client) takeWill() *work {
	due := c.will.due()
	c.setWill(nil)
	c.willDue = time.Time{}
	return due
}

func (c *client) subscribe(sub subscription) {
	if _, found := c.subs[sub.filter]; !found {
		c.charge(subscriptionSize(c.id, sub.filter))
	}
	if c.subs == nil {
		c.subs = make(map[string]subscription)
	}
	c.subs[sub.filter] = sub
}

// unsubscribe reports whether there was such a subscription.
func (c *client) unsubscribe(filter string) bool {
	if _, found := c.subs[filter]; !found {
		return false
	}
	delete(c.subs, filter)
	if len(c.subs) == 0 {
		c.subs = nil
	}
	c.charge(-subscriptionSize(c.id, filter))
	return true
}

// inboundSize is what one more packet id costs.
func (c *client) inboundSize() int64 { return inboundCost + int64(len(c.id)) }

func (c *client) take(id uint16, in *inbound) {
	if c.inbound[id] == nil {
		c.charge(c.inboundSize())
	}
	if c.inbound == nil {
		c.inbound = make(map[uint16]*inbound)
	}
	c.inbound[id] = in
}

func (c *client) free(id uint16) {
	if c.inbound[id] == nil {
		return
	}
	delete(c.inbound, id)
	if len(c.inbound) == 0 {
		c.inbound = nil
	}
	c.charge(-c.inboundSize())
}

// trimmed counts what was in the store and is over the limits.
type trimmed struct{ sessions, subscriptions, ids, retained int }

// load applies every event of the store, and returns their bytes. What is over
// the limits is left out, event by event: however large the store is, the
// ledger never is.
func (l *ledger) load(s Store) (size int, over trimmed, err error) {
	err = s.Load(func(p []byte) error {
		e, err := decodeEvent(p)
		if err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		l.apply(&e, &over)
		size += len(p)
		return nil
	})
	return size, over, err
}

// apply replays one event. One about a session that is not there is void: it
// was written in the batch that ended the session.
func (l *ledger) apply(e *event, over *trimmed) {
	c := l.clients[e.client]
	switch e.kind {
	case eventSession:
		l.applySession(c, e, over)
	case eventRetain:
		if !l.mayRetain(e.message) {
			over.retained++
			return
		}
		l.retain(e.message)
	case eventUnretain:
		l.retain(&Message{Topic: e.topic})
	}
	if c == nil {
		return
	}
	switch e.kind {
	case eventEnd:
		l.close(c)
	case eventSubscribe:
		_, found := c.subs[e.sub.filter]
		if !found && (len(c.subs) >= l.maxSubscriptions || !l.fit(c, subscriptionSize(c.id, e.sub.filter), over)) {
			over.subscriptions++
			return
		}
		c.subscribe(e.sub)
	case eventUnsubscribe:
		c.unsubscribe(e.sub.filter)
	case eventInbound:
		if c.inbound[e.id] == nil && !l.fit(c, c.inboundSize(), over) {
			over.ids++
			return
		}
		c.take(e.id, &inbound{place: e.place})
	case eventRelease:
		c.free(e.id)
	}
}

func (l *ledger) applySession(c *client, e *event, over *trimmed) {
	if c == nil {
		if c = l.newClient(e.client, e.expiry); !c.persistent {
			return
		}
		for l.persistent >= l.maxSessions && l.oldest != nil {
			l.close(l.oldest)
			over.sessions++
		}
		if !l.fit(c, sessionCost+int64(len(c.id)), over) {
			over.sessions++
			return
		}
		l.open(c)
	}
	c.expiry = e.expiry
	l.rest(c)
}

// fit makes room for n bytes more of a client during load: older sessions give
// way. It reports whether there is room.
func (l *ledger) fit(c *client, n int64, over *trimmed) bool {
	if !c.account.fits(n) {
		return false
	}
	for c.account.shortage(n) > 0 && l.oldest != nil && l.oldest != c {
		l.close(l.oldest)
		over.sessions++
	}
	return c.account.shortage(n) == 0
}

// forget drops the QoS 2 ids whose message is not durable: the crash came
// between the event and the message, no PUBREC was sent, and the client will
// send again.
func (l *ledger) forget(stored func(Place) bool) {
	for _, c := range l.clients {
		for id, in := range c.inbound {
			if !stored(in.place) {
				c.free(id)
			}
		}
	}
}

// retain sets or, without payload, removes a retained message.
func (l *ledger) retain(m *Message) {
	if old := l.retained[m.Topic]; old != nil {
		l.addRetained(-retainedSize(old))
		delete(l.retained, m.Topic)
	}
	if len(m.Payload) > 0 {
		l.addRetained(retainedSize(m))
		l.retained[m.Topic] = m
	}
}

func (l *ledger) addRetained(n int64) {
	l.retainedBytes += n
	l.state.used.Add(n)
}

// mayRetain reports whether there is room for m. A message that replaces
// another one of its size always finds room.
func (l *ledger) mayRetain(m *Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	n, more := len(l.retained)+1, retainedSize(m)
	if old := l.retained[m.Topic]; old != nil {
		n--
		more -= retainedSize(old)
	}
	return n <= l.maxRetained && (more <= 0 ||
		l.retainedBytes+more <= int64(l.maxBytes) && l.state.shortage(more, 0) == 0)
}

// events yields the shortest sequence of events with the ledger as its sum,
// the sessions that have been without connection for longest first.
func (l *ledger) events() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for c := l.oldest; c != nil; c = c.newer {
			if !c.events(yield) {
				return
			}
		}
		for _, c := range l.clients {
			if c.persistent && c.conn != nil && !c.events(yield) {
				return
			}
		}
		for _, m := range l.retained {
			if m.internal() {
				continue
			}
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
