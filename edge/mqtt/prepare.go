package mqtt

import (
	"errors"
	"time"
)

// prepare applies the batch to the state in the order of arrival and notes the events for
// that. A message changes the state only when it is stored (settle). Everything else changes
// it here, and the change stays even if the events cannot be written: then the client gets no
// answer, and the next rewrite writes the content of the state. prepare stops when the messages
// have maxRecipients, and returns the rest.
func (k *committer) prepare(batch []*work) (out, rest []*work) {
	out = make([]*work, 0, len(batch))
	k.found = 0
	k.latest.forget() // it may be decided anew which sessions are owed too much
	for i, w := range batch {
		if k.found >= maxRecipients {
			return out, batch[i:]
		}
		k.seq++
		w.seq = k.seq
		switch w.kind {
		case workPublish, workPubrel, workPubrec:
		default:
			k.latest.forget()
		}
		switch w.kind {
		case workConnect:
			if will := k.connect(w); will != nil {
				k.before = append(k.before, will)
			}
		case workPublish:
			k.publish(w)
		case workPubrel:
			k.pubrel(w)
		case workPubrec:
			k.pubrec(w)
		case workMove:
			k.move(w)
		case workSubscribe:
			k.subscribe(w)
		case workUnsubscribe:
			k.unsubscribe(w)
		case workGone:
			if will := k.gone(w); will != nil {
				k.before = append(k.before, will)
			}
		}
		k.before = append(k.before, w)
		for _, due := range k.before {
			if due.kind == workWill && !k.s.mayPublish(due.message) {
				due.err = ErrNotAllowed
			}
			if due.kind != workMove {
				k.recipients(due)
			}
		}
		out = append(out, k.before...)
		clear(k.before)
		k.before = k.before[:0]
	}
	return out, nil
}

// minInbound is how many QoS 2 ids any client may have open. There is a limit because a
// client that never sends PUBREL must not fill the memory.
const minInbound = 1024

func (w *work) event(e event) { w.events = append(w.events, e.encode()) }

// connect opens or continues the client's page. It returns the will of an earlier connection
// if the will must be published now: the old connection is taken over [MQTT-3.1.4-3] and the
// will has no delay, or its session ends (§3.1.3.2.2).
func (k *committer) connect(w *work) (due *work) {
	old := k.state.clients[w.client]
	clean := w.req.login.clean
	expiry := k.capExpiry(w.req.login.expiry)
	w.req.login.expiry = expiry
	page := old
	if w.known = old != nil && old.persistent && !clean; !w.known {
		page = k.state.newClient(w.client, expiry)
	}
	if !k.admit(page, old, w.req.login.will) {
		k.s.troubles.sessions.Note("client", w.client, "sessions", k.state.persistent, "bytes", k.s.memory.used.Load())
		w.err = ErrFull
		return nil
	}
	if old != nil && old.will != nil {
		if clean || !old.persistent || old.conn != nil && old.will.delay == 0 {
			due = k.takeWill(old)
		}
	}
	if page != old {
		if old != nil && old.willKept {
			w.event(event{kind: eventWillGone, client: w.client})
		}
		if old != nil && old.persistent {
			w.event(event{kind: eventEnd, client: w.client})
		}
		k.state.add(page)
	}
	if expiry > 0 && (page != old || page.expiry != expiry) {
		w.event(event{kind: eventSession, client: w.client, expiry: expiry})
	}
	page.expiry = expiry
	page.conn, page.named, page.username = w.conn, true, w.conn.username
	if k.owing.log != nil && k.state.assignNumber(page, k.owing.log.last()) {
		w.event(event{kind: eventNumber, client: w.client, session: page.account.number, number: page.account.since})
	}
	k.keepWill(w, page, w.req.login.will)
	page.expireDue = time.Time{}
	if !page.left.IsZero() {
		page.left = time.Time{}
		if _, unwritten := k.owing.left[w.client]; !unwritten {
			w.event(event{kind: eventLeft, client: w.client})
		}
		delete(k.owing.left, w.client)
	}
	k.follow(page)
	k.state.unlistOffline(page)
	w.page, w.req.login.account = page, page.account
	return due
}

// admit makes room for a page, which may be the client's current one, and reports whether
// there is room. A session that ends with its connection takes memory, but does not count
// against MaxSessions.
func (k *committer) admit(page, old *client, w *will) bool {
	n := w.size()
	offline := old != nil && old.conn == nil
	if old != nil {
		k.state.unlistOffline(old) // the client's own page must not be evicted for it
	}
	ok := true
	if page != old {
		n += sessionCost + int64(len(page.id))
		more := 1
		if old != nil && old.persistent {
			more = 0
		}
		for page.persistent && ok && k.state.persistent+more > k.s.o.MaxSessions {
			ok = k.evict()
		}
	}
	ok = ok && k.makeRoom(page, n)
	if !ok && offline {
		k.state.listOffline(old)
	}
	return ok
}

// makeRoom ends sessions without connection, the oldest first, until the page may have n more
// bytes. It reports whether it may.
func (k *committer) makeRoom(page *client, n int64) bool {
	if !page.account.fits(n) {
		return false
	}
	// The memory in the queues of evicted sessions is free once the dispatcher has ended
	// them. That is soon enough, so do not wait for it.
	var soon int64
	for page.account.shortage(n) > soon {
		if k.state.oldest == nil {
			return false
		}
		soon += k.state.oldest.account.queued.Load()
		k.evict()
	}
	return true
}

// evict ends the session that has been without connection for longest, and
// reports whether there was one.
func (k *committer) evict() bool {
	page := k.state.oldest
	if page == nil {
		return false
	}
	k.s.count.evicted.Inc()
	k.s.stateFull.Note("client", page.id, "sessions", k.state.persistent, "bytes", k.s.memory.used.Load())
	if page.will != nil {
		k.before = append(k.before, k.takeWill(page))
	}
	w := &work{kind: workExpire, client: page.id}
	k.endSession(w, page)
	k.before = append(k.before, w)
	return true
}

// capExpiry applies MaxSessionExpiry.
func (k *committer) capExpiry(expiry uint32) uint32 {
	if limit := k.s.o.MaxSessionExpiry; limit > 0 && limit/time.Second < never {
		return min(expiry, max(1, uint32(limit/time.Second)))
	}
	return expiry
}

// page returns the client's page, or nil if the connection is no longer the client's: what it
// sent before it was taken over gets no answer.
func (k *committer) page(w *work) *client {
	if page := k.state.clients[w.client]; page != nil && page.conn == w.conn {
		return page
	}
	return nil
}

// publish finds out whether a QoS 2 message is known already. It leaves out messages that a
// client sent after something that got no answer.
func (k *committer) publish(w *work) {
	if w.page = k.page(w); w.page == nil || w.afterFailure() {
		w.err = errNotStored
	}
	if w.err != nil {
		k.refuse(w, w.err)
		return
	}
	if w.message.QoS != 2 {
		return
	}
	in := w.page.inbound[w.id]
	if in != nil && in.pending == nil && in.doubtful {
		in.doubtful = !k.s.o.Backend.Stored(in.place)
	}
	switch {
	case in == nil && (len(w.page.inbound) >= max(minInbound, int(k.s.o.ReceiveMaximum)) ||
		!k.makeRoom(w.page, w.page.inboundSize())):
		k.s.troubles.ids.Note("client", w.client, "ids", len(w.page.inbound))
		k.refuse(w, ErrFull)
	case in == nil:
		w.page.addInbound(w.id, &inbound{pending: w})
	case in.pending != nil:
		w.duplicate, w.first = true, in.pending
	case in.doubtful:
		in.pending = w
	case in.unowed:
		w.unowed, w.place, in.pending = true, in.place, w
	default:
		w.duplicate = true
	}
}

// pubrel frees the packet id. The event is durable before the PUBCOMP. Otherwise, after a
// restart, the next message under this id would be taken for the old one and be lost.
func (k *committer) pubrel(w *work) {
	page := k.page(w)
	if page == nil {
		w.err = errNotStored
		return
	}
	in := page.inbound[w.id]
	if in == nil || in.pending != nil {
		return
	}
	w.known = true
	page.removeInbound(w.id)
	if page.persistent {
		w.event(event{kind: eventRelease, client: w.client, id: w.id})
	}
}

// pubrec arranges that the progress of the session, with what it has received at QoS 2, is
// written before the PUBREL. Otherwise a restart would send the message again to a client
// that has forgotten its packet id.
func (k *committer) pubrec(w *work) {
	page := k.page(w)
	if page == nil {
		w.err = errNotStored
		return
	}
	k.follow(page)
}

func (k *committer) subscribe(w *work) {
	page := k.page(w)
	w.page = page
	if page == nil {
		w.err = errNotStored
		return
	}
	for i, sub := range w.req.subs {
		if w.req.codes[i] >= 0x80 {
			continue
		}
		old, found := page.subs[sub.filter]
		if !found && (len(page.subs) >= k.s.o.MaxSubscriptions || !k.makeRoom(page, subscriptionSize(page.id, sub.filter))) {
			k.s.count.notSubscribed.Inc()
			k.s.troubles.subscriptions.Note("client", w.client, "filter", sub.filter, "subscriptions", len(page.subs))
			w.req.codes[i] = subackCode(w.conn.version, ErrFull)
			continue
		}
		page.subscribe(sub)
		if page.owesReplay(&sub) && sub.replays(!found) {
			w.req.asks = append(w.req.asks, i)
		}
		if page.persistent && (!found || old != sub) {
			w.event(event{kind: eventSubscribe, client: w.client, sub: sub})
		}
	}
}

func (k *committer) unsubscribe(w *work) {
	page := k.page(w)
	if page == nil {
		w.err = errNotStored
		return
	}
	for i, sub := range w.req.subs {
		if !page.unsubscribe(sub.filter) {
			w.req.codes[i] = 0x11 // no subscription existed
			continue
		}
		if page.persistent {
			w.event(event{kind: eventUnsubscribe, client: w.client, sub: sub})
		}
	}
}

// gone removes a connection from its page. It returns the will if that is due at once. It does
// nothing for a connection that was taken over.
func (k *committer) gone(w *work) (due *work) {
	page := k.page(w)
	if page == nil {
		return nil
	}
	w.known = true
	page.conn = nil
	if w.req.ending.clean {
		k.keepWill(w, page, nil) // [MQTT-3.14.4-3]
	}
	if w.req.ending.hasExpiry {
		expiry := k.capExpiry(w.req.ending.expiry)
		if page.persistent && expiry > 0 && expiry != page.expiry {
			w.event(event{kind: eventSession, client: w.client, expiry: expiry})
		}
		page.expiry = expiry
	}
	if page.will != nil && (page.will.delay == 0 || page.expiry == 0) {
		due = k.takeWill(page)
	}
	if page.expiry == 0 {
		k.endSession(w, page)
		return due
	}
	k.leave(page, time.Now())
	if len(w.events) > 0 {
		w.event(event{kind: eventLeft, client: page.id, left: page.left})
	} else {
		k.noteLeft(page)
	}
	return due
}

// leave starts the timers of a page without connection.
func (k *committer) leave(page *client, now time.Time) {
	if page.will != nil {
		page.willDue = now.Add(page.will.delay)
	}
	if expiry := k.capExpiry(page.expiry); expiry != never {
		page.expireDue = now.Add(time.Duration(expiry) * time.Second)
	}
	page.left = now
	k.state.listOffline(page)
	for _, at := range [2]time.Time{page.willDue, page.expireDue} {
		if !at.IsZero() && (k.next.IsZero() || at.Before(k.next)) {
			k.next = at
		}
	}
}

func (k *committer) endSession(w *work, page *client) {
	w.end = true
	k.state.remove(page)
	if page.persistent {
		w.event(event{kind: eventEnd, client: page.id})
	}
}

// tick returns the wills and expiries that are due.
func (k *committer) tick(now time.Time) (batch []*work) {
	if k.next.IsZero() || now.Before(k.next) {
		return nil
	}
	for _, page := range k.state.clients {
		expired := !page.expireDue.IsZero() && !now.Before(page.expireDue)
		if !page.willDue.IsZero() && (expired || !now.Before(page.willDue)) {
			will := k.takeWill(page)
			batch = append(batch, will)
		}
		if expired {
			k.s.count.expiredSessions.Inc()
			w := &work{kind: workExpire, client: page.id}
			k.endSession(w, page)
			batch = append(batch, w)
		}
	}
	k.next = k.state.due()
	return batch
}

// setAlarm arranges that tick is called in time. An alarm that is not needed any more does no
// harm.
func (k *committer) setAlarm() {
	if !k.next.IsZero() {
		k.alarm.Reset(max(0, time.Until(k.next)))
	}
}

// notGranted is the return code, in every version, for a filter that the client may not
// subscribe to: Eclipse Paho's interoperability tests expect it. MQTT 5 also has 0x87, which
// says a little more; the reason string says all of it.
const notGranted = 0x80

// subackCode returns the return code for a refused filter (§3.9.3).
func subackCode(version byte, err error) byte {
	switch {
	case version != 5:
		return 0x80
	case errors.Is(err, ErrFull):
		return 0x97
	case errors.Is(err, ErrNotAllowed):
		return notGranted
	default:
		return 0x8F // topic filter invalid
	}
}
