package mqtt

import (
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// dispatcher answers what the committer has made durable, in order, and gives the
// messages to the subscribers that the committer has found. It never waits for a client: it writes to outboxes and
// session queues only. It owns sessions and retained messages.
type dispatcher struct {
	s         *Server
	in        chan []*work // batches with their outcomes
	asked     chan func()  // functions to run on its goroutine, which read what it owns
	sessions  map[string]*session
	subs      int    // subscriptions of all sessions
	owed      uint64 // the newest message that was dispatched and is owed to sessions
	retained  retainedTree
	takeovers map[string]repeatedTakeover // by client id
	system    int                         // retained messages that the server publishes about itself

	// For Stats.
	nSessions, nSubs, nRetained atomic.Int64
}

func newDispatcher(s *Server) *dispatcher {
	return &dispatcher{s: s, in: make(chan []*work, 1), asked: make(chan func()), sessions: make(map[string]*session), takeovers: make(map[string]repeatedTakeover)}
}

// restore builds sessions, subscriptions and retained messages from the state. It is
// called before run.
func (d *dispatcher) restore(l *state) {
	for _, page := range l.clients {
		s := d.newSession(page.id, page.account)
		for _, sub := range page.subs {
			d.addFilter(s, sub.filter)
		}
		if s.durable {
			s.resume(page.progress, page.left.IsZero())
		}
	}
	for _, m := range l.retained {
		d.retained.set(m)
	}
	d.publishCounts()
}

// run dispatches until the committer closes the channel.
func (d *dispatcher) run() {
	for {
		select {
		case batch, more := <-d.in:
			if !more {
				return
			}
			for _, w := range batch {
				d.dispatch(w)
			}
			d.publishCounts()
		case ask := <-d.asked:
			ask()
		}
	}
}

func (d *dispatcher) publishCounts() {
	d.nSessions.Store(int64(len(d.sessions)))
	d.nSubs.Store(int64(d.subs))
	d.nRetained.Store(int64(d.retained.len() - d.system))
}

func (d *dispatcher) dispatch(w *work) {
	d.owed = max(d.owed, w.owed)
	switch w.kind {
	case workConnect:
		d.connect(w)
	case workPublish:
		d.publish(w)
	case workWill:
		if w.err != nil {
			d.s.troubles.wills.Note("client", w.client, "topic", w.message.Topic, "err", w.err)
			w.unshare()
			return
		}
		if w.message.Refused == nil {
			d.fanOut(w)
		}
	case workSystem:
		before := d.retained.len()
		d.fanOut(w)
		d.system += d.retained.len() - before
	case workPubrel:
		d.pubrel(w)
	case workPubrec:
		if w.err != nil {
			w.conn.stop(packets.ErrImplementationSpecificError)
		} else {
			w.conn.ack(packets.Pubrel, w.id, packets.CodeSuccess)
		}
	case workMove:
		d.move(w)
	case workSubscribe:
		d.subscribe(w)
	case workUnsubscribe:
		d.unsubscribe(w)
	case workGone:
		s := d.sessions[w.client]
		if !w.known || s == nil {
			return
		}
		left, shared := s.detach(w.conn, w.end)
		if left && w.end {
			d.endSession(s)
		}
		d.moveShared(s, shared, w.end)
	case workExpire:
		if s := d.sessions[w.client]; s != nil {
			d.endSession(s)
		}
	}
}

// connect binds the connection to its session, taking it over from an older connection
// (0x8E) [MQTT-3.1.4-3], sends CONNACK, and sends what waits.
func (d *dispatcher) connect(w *work) {
	c := w.conn
	defer close(w.req.login.done)
	if errors.Is(w.err, ErrFull) {
		c.refuse(packets.ErrQuotaExceeded)
		return
	}
	s := d.sessions[w.client]
	if s != nil {
		if old := s.leave(); old != nil {
			d.takeOver(w.client, old, c)
		}
		if !w.known {
			d.endSession(s)
			s = nil
		}
	}
	if s == nil {
		s = d.newSession(w.client, w.req.login.account)
	}
	c.session = s
	s.attach(c, d.owed)
	w.req.login.joined = true
	if w.err != nil {
		c.refuse(packets.ErrServerUnavailable)
		return
	}
	c.welcome(w.req.login, w.known)
	s.pump()
}

// A client id counts as used by two clients if its connection is taken over again within
// takeoverPause. takeoverMax client ids are remembered.
const (
	takeoverPause = time.Minute
	takeoverMax   = 1024
)

// repeatedTakeover is a client id whose connection was taken over.
type repeatedTakeover struct {
	latest time.Time
	logged bool
}

// takeOver ends the older one of two connections with the same client id. The first time,
// this is a device that came back before its old connection was found dead. If it happens
// again soon, two devices end each other's connection in turns: one line names them, once
// until they stop.
func (d *dispatcher) takeOver(id string, old, c *conn) {
	d.s.count.takeovers.Inc()
	old.stop(packets.ErrSessionTakenOver)
	now := time.Now()
	one, again := d.takeovers[id]
	again = again && now.Sub(one.latest) < takeoverPause
	if again && !one.logged {
		d.s.log.Warn("two clients with the same client id disconnect each other: give each client an id of its own",
			"client", id, "address", c.peer, "other", old.peer)
	}
	if len(d.takeovers) >= takeoverMax {
		maps.DeleteFunc(d.takeovers, func(_ string, o repeatedTakeover) bool { return now.Sub(o.latest) >= takeoverPause })
	}
	if len(d.takeovers) < takeoverMax || again {
		d.takeovers[id] = repeatedTakeover{now, again}
	}
}

func (d *dispatcher) newSession(id string, a *account) *session {
	s := newSession(id, &d.s.o, d.s.count, a, &d.retained)
	if a.number > 0 {
		s.durable, s.number, s.owed = true, a.number, d.s.o.Owed
		s.loaders, s.reading, s.changes = &d.s.loaders, d.s.reading, &d.s.changes
		s.progress.sentTo = a.since
		s.saved = s.progress
		s.loaded, s.dispatched = a.since, a.since
	}
	a.session.Store(s)
	d.sessions[id] = s
	return s
}

// endSession removes a session with its subscriptions and its queue.
func (d *dispatcher) endSession(s *session) {
	d.subs -= len(s.filters)
	s.discard()
	if s.durable {
		s.owed.forget(s.number)
	}
	s.account.session.CompareAndSwap(s, nil)
	delete(d.sessions, s.id)
}

// publish acknowledges a message and then distributes it.
func (d *dispatcher) publish(w *work) {
	d.answerPublish(w)
	<-w.conn.window
	if w.err == nil && !w.duplicate && w.message.Refused == nil {
		d.fanOut(w)
	} else {
		w.unshare()
	}
}

// answerPublish sends PUBACK or PUBREC. If the Backend is full, a 3.x client gets no
// answer; after a failed Store no client does. Then the connection is closed, and the
// client sends the message again.
func (d *dispatcher) answerPublish(w *work) {
	c, qos := w.conn, w.message.QoS
	if errors.Is(w.err, ErrNotAllowed) {
		d.s.noteDenial(w.message)
	}
	if qos == 0 {
		return
	}
	if w.err == errNotStored || w.err != nil && c.version != 5 && !w.acknowledged() {
		reason := publishReason(w.err)
		if w.err == errNotStored {
			reason = packets.ErrImplementationSpecificError
		}
		c.stop(reason)
		return
	}
	kind, reason := packets.Puback, packets.CodeSuccess
	if qos == 2 {
		kind = packets.Pubrec
	}
	if w.err != nil && !w.acknowledged() {
		reason = publishReason(w.err)
	}
	if qos == 1 || reason.Code >= 0x80 {
		c.quotaBack() // before the ack, after which the client may use it
	}
	c.ack(kind, w.id, reason)
}

// pubrel sends PUBCOMP; that the id is free is durable by now.
func (d *dispatcher) pubrel(w *work) {
	if w.err != nil {
		w.conn.stop(packets.ErrImplementationSpecificError)
		return
	}
	reason := packets.CodeSuccess
	if w.known {
		w.conn.quotaBack()
	} else {
		reason = packets.ErrPacketIdentifierNotFound
	}
	w.conn.ack(packets.Pubcomp, w.id, reason)
}

// fanOut updates the retained message and gives the message to its recipients.
func (d *dispatcher) fanOut(w *work) {
	if w.retain {
		d.retained.set(w.message)
	}
	d.deliver(w)
}

// deliver gives the message to the recipients that the committer has found.
func (d *dispatcher) deliver(w *work) {
	for i := range w.to {
		r := &w.to[i]
		if r.away {
			continue
		}
		s := r.page.account.session.Load()
		if s == nil {
			continue
		}
		one := delivery{message: w.message, identifiers: r.identifiers, qos: r.qos, retain: r.retain, share: r.share}
		if r.number > 0 {
			one.owed = w.owed
		}
		s.deliver(one)
	}
}

// addFilter notes a subscription of the session, and reports whether it is new.
func (d *dispatcher) addFilter(s *session, filter string) (added bool) {
	if _, found := s.filters[filter]; found {
		return false
	}
	if s.filters == nil {
		s.filters = make(map[string]struct{})
	}
	s.filters[filter] = struct{}{}
	d.subs++
	return true
}

func (d *dispatcher) removeFilter(s *session, filter string) {
	if _, found := s.filters[filter]; found {
		delete(s.filters, filter)
		d.subs--
	}
}

// subscribe sends SUBACK, as the subscription is durable by now, and the retained messages
// that the retain handling asks for [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
func (d *dispatcher) subscribe(w *work) {
	s := w.conn.session
	added := make([]bool, len(w.req.subs))
	for i, sub := range w.req.subs {
		if w.req.codes[i] < 0x80 && d.sessions[s.id] == s {
			added[i] = d.addFilter(s, sub.filter)
		}
	}
	if w.err != nil {
		w.conn.stop(packets.ErrImplementationSpecificError)
		return
	}
	w.conn.reply(packets.Suback, w.id, w.req.codes, w.req.reason)
	for i, sub := range w.req.subs {
		if w.req.codes[i] < 0x80 && sub.replays(added[i]) {
			s.replay(sub, w.replayOf(i))
		}
	}
}

func (d *dispatcher) unsubscribe(w *work) {
	s := w.conn.session
	for i, sub := range w.req.subs {
		if w.req.codes[i] == 0 {
			d.removeFilter(s, sub.filter)
			s.endReplays(sub.filter)
		}
	}
	if w.err != nil {
		w.conn.stop(packets.ErrImplementationSpecificError)
		return
	}
	w.conn.reply(packets.Unsuback, w.id, w.req.codes, "")
}
