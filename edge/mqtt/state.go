package mqtt

import (
	"fmt"
	"time"
)

// never is the session expiry interval that means: do not expire (§3.1.2.11.2).
const never = 0xFFFFFFFF

// state is what the server must remember beyond a connection: sessions, subscriptions,
// used QoS 2 ids, retained messages. The committer owns it. For persistent sessions and
// retained messages it is the sum of the events in the store.
type state struct {
	clients    map[string]*client
	persistent int // number of persistent clients
	subs       trie
	retained   map[string]*Message
	memory     *memoryUse

	// For what sessions that outlive their connection are owed.
	owes     bool                    // there is a log of what is owed
	numbers  map[uint32]*client      // clients that have a number
	highest  uint32                  // highest number given so far
	segments map[uint64]knownSegment // files of the log, by the number of their first record
	open     uint64                  // first number of the file that is not full
	void     map[uint64]bool         // records of the log whose messages were never stored
	owedLast uint64                  // the log has at least this record

	// List of the persistent sessions without connection, in the order in which they
	// lost it. After a restart it has the order of the state file.
	oldest, newest *client

	maxSessions           int // persistent ones
	maxSubscriptions      int // per session
	maxRetained, maxBytes int
	retainedBytes         int64
}

// client is one session's page in the state.
type client struct {
	id         string
	persistent bool                    // the page is in the store too
	expiry     uint32                  // seconds after the connection's end; never
	subs       map[string]subscription // nil: none
	inbound    map[uint16]*inbound     // nil: none
	account    *account
	index      *trie    // the state's, while the page is in it; nil: the page is not in it
	matched    hit      // of index
	adding     amount   // what the session is owed of the batch that is being settled
	progress   progress // of the session, as last written
	overflows  bool     // messages are being dropped, and that was logged
	named      bool     // there was a connection since the server began
	username   string   // of the latest one
	charged    int64    // what the state has charged to account

	conn         *conn     // nil: offline
	will         *will     // of conn, or waiting for its delay
	willDue      time.Time // zero: no will waits
	expireDue    time.Time // zero: it does not expire
	willKept     bool      // the will is in the store
	left         time.Time // when the connection was lost; zero: it is there, or the time is unknown
	older, newer *client   // neighbours among the persistent sessions without connection
}

// inbound is a QoS 2 packet id between PUBLISH and PUBREL.
type inbound struct {
	place    Place
	pending  *work  // its batch is under way
	doubtful bool   // its Store failed: only the Backend knows whether it has the message
	owed     uint64 // number of its message in the log of what is owed; 0: no session is owed it
	unowed   bool   // the Backend may have the message, but the log has not
}

func newState(o *Options, memory *memoryUse) *state {
	return &state{
		subs:    trie{may: o.readable()},
		clients: make(map[string]*client), retained: make(map[string]*Message), memory: memory,
		numbers: make(map[uint32]*client), segments: make(map[uint64]knownSegment), owes: o.Owed != nil, void: make(map[uint64]bool),
		maxSessions: o.MaxSessions, maxSubscriptions: o.MaxSubscriptions,
		maxRetained: o.MaxRetained, maxBytes: o.MaxRetainedBytes,
	}
}

func (l *state) newClient(id string, expiry uint32) *client {
	return &client{id: id, expiry: expiry, persistent: expiry > 0, account: &account{memory: l.memory}}
}

func (c *client) charge(n int64) {
	c.charged += n
	c.account.charge(n)
}

// add puts a page into the state, replacing the client's earlier one.
func (l *state) add(c *client) {
	if old := l.clients[c.id]; old != nil {
		l.remove(old)
	}
	l.clients[c.id] = c
	if c.persistent {
		l.persistent++
	}
	c.index = &l.subs
	c.charge(sessionCost + int64(len(c.id)))
}

// assignNumber gives a persistent session its number, unless it has one. last is the last
// number of the log of what is owed: the session is owed nothing up to it.
func (l *state) assignNumber(c *client, last uint64) (fresh bool) {
	if !l.owes || !c.persistent || c.account.number > 0 {
		return false
	}
	l.highest++
	l.number(c, l.highest, last)
	return true
}

func (l *state) number(c *client, number uint32, since uint64) {
	c.account.number, c.account.since = number, since
	c.progress.sentTo = max(c.progress.sentTo, since)
	l.numbers[number] = c
	l.highest = max(l.highest, number)
}

// addSegment notes a new file of the log; the one before is full then.
func (l *state) addSegment(first uint64, salt [saltSize]byte) {
	if before, found := l.segments[l.open]; found && before.end == 0 && l.open != first {
		before.end = first
		l.segments[l.open] = before
	}
	l.segments[first] = knownSegment{salt: salt}
	l.open = first
}

// remove removes a page and everything on it from the state.
func (l *state) remove(c *client) {
	l.unlistOffline(c)
	delete(l.clients, c.id)
	delete(l.numbers, c.account.number)
	if c.persistent {
		l.persistent--
	}
	for filter := range c.subs {
		c.index.unsubscribe(c, filter)
	}
	c.index = nil
	c.charge(-c.charged)
}

// listOffline appends a persistent page without connection to the list of such pages.
func (l *state) listOffline(c *client) {
	l.unlistOffline(c)
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

// unlistOffline removes a page from that list.
func (l *state) unlistOffline(c *client) {
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

// setWill replaces the will of the page, and charges the page for the new one.
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
	if c.index != nil {
		c.index.subscribe(c, sub)
	}
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
	if c.index != nil {
		c.index.unsubscribe(c, filter)
	}
	return true
}

// inboundSize is what one more packet id costs.
func (c *client) inboundSize() int64 { return inboundCost + int64(len(c.id)) }

func (c *client) addInbound(id uint16, in *inbound) {
	if c.inbound[id] == nil {
		c.charge(c.inboundSize())
	}
	if c.inbound == nil {
		c.inbound = make(map[uint16]*inbound)
	}
	c.inbound[id] = in
}

func (c *client) removeInbound(id uint16) {
	if c.inbound[id] == nil {
		return
	}
	delete(c.inbound, id)
	if len(c.inbound) == 0 {
		c.inbound = nil
	}
	c.charge(-c.inboundSize())
}

// trimmed counts what was in the store but exceeds the limits.
type trimmed struct{ sessions, subscriptions, ids, retained, wills int }

// load applies every event of the store, and returns their bytes. It leaves out what
// exceeds the limits, event by event, so that the state never exceeds them.
func (l *state) load(s Store) (size int, over trimmed, err error) {
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

// apply replays one event. An event about a session that does not exist is void: it was
// written in the batch that ended the session.
func (l *state) apply(e *event, over *trimmed) {
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
	l.applyOwing(c, e, over)
	if c == nil {
		return
	}
	switch e.kind {
	case eventEnd:
		l.remove(c)
	case eventSubscribe:
		_, found := c.subs[e.sub.filter]
		if !found && (len(c.subs) >= l.maxSubscriptions || !l.fit(c, subscriptionSize(c.id, e.sub.filter), over)) {
			over.subscriptions++
			return
		}
		c.subscribe(e.sub)
	case eventUnsubscribe:
		c.unsubscribe(e.sub.filter)
	case eventInbound, eventInboundAt:
		if c.inbound[e.id] == nil && !l.fit(c, c.inboundSize(), over) {
			over.ids++
			return
		}
		c.addInbound(e.id, &inbound{place: e.place, owed: e.number})
	case eventRelease:
		c.removeInbound(e.id)
	}
}

func (l *state) applySession(c *client, e *event, over *trimmed) {
	if c == nil {
		if c = l.newClient(e.client, e.expiry); !c.persistent {
			return
		}
		for l.persistent >= l.maxSessions && l.oldest != nil {
			l.remove(l.oldest)
			over.sessions++
		}
		if !l.fit(c, sessionCost+int64(len(c.id)), over) {
			over.sessions++
			return
		}
		l.add(c)
	}
	c.expiry = e.expiry
	l.listOffline(c)
}

// fit makes room for n more bytes of a client during load, by ending older sessions. It
// reports whether there is room.
func (l *state) fit(c *client, n int64, over *trimmed) bool {
	if !c.account.fits(n) {
		return false
	}
	for c.account.shortage(n) > 0 && l.oldest != nil && l.oldest != c {
		l.remove(l.oldest)
		over.sessions++
	}
	return c.account.shortage(n) == 0
}

// retain sets a retained message, or removes it if m has no payload.
func (l *state) retain(m *Message) {
	if old := l.retained[m.Topic]; old != nil {
		l.addRetained(-retainedSize(old))
		delete(l.retained, m.Topic)
	}
	if len(m.Payload) > 0 {
		l.addRetained(retainedSize(m))
		l.retained[m.Topic] = m
	}
}

func (l *state) addRetained(n int64) {
	l.retainedBytes += n
	l.memory.used.Add(n)
}

// mayRetain reports whether there is room for m. A message that replaces one of the same
// size always has room.
func (l *state) mayRetain(m *Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	n, more := len(l.retained)+1, retainedSize(m)
	if old := l.retained[m.Topic]; old != nil {
		n--
		more -= retainedSize(old)
	}
	return n <= l.maxRetained && (more <= 0 ||
		l.retainedBytes+more <= int64(l.maxBytes) && l.memory.shortage(more, 0) == 0)
}

// due returns the earliest time at which a will or an expiry is due; zero if there is none.
func (l *state) due() (at time.Time) {
	for _, c := range l.clients {
		for _, t := range [2]time.Time{c.willDue, c.expireDue} {
			if !t.IsZero() && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
	}
	return at
}
