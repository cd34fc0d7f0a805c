package mqtt

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// applyOwing replays the events of version 2.
func (l *state) applyOwing(c *client, e *event, over *trimmed) {
	switch e.kind {
	case eventSegment:
		l.addSegment(e.number, e.salt)
		if e.end > 0 {
			l.segments[e.number] = knownSegment{end: e.end, salt: e.salt}
		}
	case eventSegmentGone:
		delete(l.segments, e.number)
	case eventOwedLast:
		l.owedLast = max(l.owedLast, e.number)
	case eventVoid:
		l.void[e.number] = true
	case eventWill:
		l.applyWill(c, e, over)
	}
	if c == nil {
		return
	}
	switch e.kind {
	case eventWillGone:
		c.setWill(nil)
		c.willKept = false
		if !c.persistent {
			l.remove(c)
		}
	case eventLeft:
		c.left = e.left
		l.listOffline(c) // the session that lost its connection first is evicted first
	case eventNumber:
		l.number(c, e.session, e.number)
	case eventProgress:
		c.progress = e.progress
	}
}

// applyWill sets a will. A client without session gets a page for it.
func (l *state) applyWill(c *client, e *event, over *trimmed) {
	if c == nil {
		c = l.newClient(e.client, 0)
		if !l.fit(c, sessionCost+int64(len(c.id)), over) {
			over.wills++
			return
		}
		l.add(c)
	}
	w := &will{message: *e.message, delay: e.delay}
	if !l.fit(c, max(0, w.size()-c.will.size()), over) {
		over.wills++
		return
	}
	c.setWill(w)
	c.willKept = true
}

// forget drops the QoS 2 ids whose message is not durable: the crash came between the event
// and the message, so no PUBREC was sent, and the client will send the message again. If
// the log of what is owed has a record of such a message, the record becomes void. forget
// reports whether a record is newly void.
func (l *state) forget(stored func(Place) bool) (changed bool) {
	for _, c := range l.clients {
		for id, in := range c.inbound {
			if stored(in.place) {
				continue
			}
			if in.owed > 0 && !l.void[in.owed] {
				l.void[in.owed] = true
				changed = true
			}
			c.removeInbound(id)
		}
	}
	return changed
}

// compare marks the QoS 2 ids whose message the Backend has and the log of what is owed has
// not: it must still be written there. reached is the log's last record.
func (l *state) compare(last uint64) {
	for _, c := range l.clients {
		for _, in := range c.inbound {
			in.unowed = in.owed > last
		}
	}
}

// reached returns the highest record number of the log of what is owed that the state
// mentions.
func (l *state) reached() uint64 {
	last := l.owedLast
	for number := range l.void {
		last = max(last, number)
	}
	for _, c := range l.clients {
		last = max(last, c.progress.sentTo, c.account.since)
		for _, in := range c.inbound {
			last = max(last, in.owed)
		}
	}
	return last
}

// events yields the shortest sequence of events whose sum is the state. Sessions that have
// been without connection for longest come first.
func (l *state) events() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		put := func(e event) bool { return yield(e.encode()) }
		for c := l.oldest; c != nil; c = c.newer {
			if !c.events(put) {
				return
			}
		}
		for _, c := range l.clients {
			if (c.conn != nil || !c.persistent) && !c.events(put) {
				return
			}
		}
		for _, m := range l.retained {
			if m.internal() {
				continue
			}
			if !put(event{kind: eventRetain, message: m}) {
				return
			}
		}
		for _, first := range slices.Sorted(maps.Keys(l.segments)) {
			s := l.segments[first]
			if !put(event{kind: eventSegment, number: first, end: s.end, salt: s.salt}) {
				return
			}
		}
		for number := range l.void {
			if !put(event{kind: eventVoid, number: number}) {
				return
			}
		}
		if l.owedLast > 0 {
			put(event{kind: eventOwedLast, number: l.owedLast})
		}
	}
}

func (c *client) events(put func(event) bool) bool {
	if c.willKept && c.will != nil && !c.persistent {
		return put(c.willEvent())
	}
	if !c.persistent {
		return true
	}
	ok := put(event{kind: eventSession, client: c.id, expiry: c.expiry})
	if ok && c.account.number > 0 {
		ok = put(event{kind: eventNumber, client: c.id, session: c.account.number, number: c.account.since})
	}
	for _, sub := range c.subs {
		ok = ok && put(event{kind: eventSubscribe, client: c.id, sub: sub})
	}
	for id, in := range c.inbound {
		if in.pending == nil {
			ok = ok && put(inboundEvent(c.id, id, in.place, in.owed))
		}
	}
	if ok && c.account.number > 0 {
		ok = put(event{kind: eventProgress, client: c.id, progress: c.progress})
	}
	if ok && c.willKept && c.will != nil {
		ok = put(c.willEvent())
	}
	if ok && c.conn == nil && !c.left.IsZero() {
		ok = put(event{kind: eventLeft, client: c.id, left: c.left})
	}
	return ok
}

func (c *client) willEvent() event {
	return event{kind: eventWill, client: c.id, delay: c.will.delay, message: &c.will.message}
}

// size returns the bytes of the events.
func (l *state) size() (n int) {
	for p := range l.events() {
		n += len(p)
	}
	return n
}

// clockWorks is a time that every clock that was ever set has passed: an earlier time is
// that of a clock that was not set.
var clockWorks = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// lostAt returns when the connection of an earlier process's page was lost: the noted time,
// unless one of the clocks was not set.
func (c *client) lostAt(now time.Time) time.Time {
	if c.left.Before(clockWorks) || c.left.After(now) {
		return now
	}
	return c.left
}
