package mqtt

import (
	"errors"
	"time"
)

// rewriteFloor is the number of bytes of garbage below which the state store is not
// rewritten.
const rewriteFloor = 1 << 20

// committer makes work durable, batch after batch, and owns the state. While it commits
// a batch, the dispatcher answers the one before, and the Backend may still be storing
// earlier ones, and the state store writing events. Each connection is answered in order.
//
// The order of the steps makes QoS 2 exact. A crash leaves behind:
//
//	after prepare, Accept   nothing
//	after the state events  packet ids whose message is not stored; the next
//	                        start asks the Backend and forgets them
//	                        (events that no message depends on are written
//	                        while Store runs, and later batches may be stored
//	                        meanwhile: each may be there without the other)
//	after done              messages that are not acknowledged: QoS 1 comes
//	                        again and is a second message; QoS 2 comes again
//	                        under an id that is known, and is not stored again
//	after the dispatcher    acks that may be lost: the same as above
type committer struct {
	s     *Server
	state *state
	out   chan<- []*work
	alarm *time.Timer // wakes the queue at next
	seq   uint64      // of the last work
	next  time.Time   // the earliest time at which a will or an expiry is due; zero: none waits

	appended int       // bytes of events since the last rewrite
	base     int       // bytes that the last rewrite wrote
	dirty    bool      // the store may hold events that were refused; only a rewrite helps
	failed   time.Time // when the last rewrite failed

	owing owing // what sessions are owed

	underWay    []*storing    // batches that are not settled, in the order of the calls of Store
	held        int           // works of these that wait though the Backend has answered
	heldBytes   int           // their size
	answers     chan struct{} // a token: an answer has come
	full        bool          // the Backend takes no further batch before its next answer
	retaining   int           // unsettled works with an event about a retained message
	roundFailed bool          // a batch of this round has failed
	round       uint64        // number of the current round

	// Scratch, reused from batch to batch.
	before []*work // wills and expiries that are due before the work that prepare looks at
	taken  []*work
	chunk  []recipient // for the recipients of messages; what has been given out is not reused
	found  int         // recipients of this batch
	latest foundRecipients
	spare  []*storing
}

func newCommitter(s *Server, l *state, loaded int) *committer {
	k := &committer{s: s, state: l, out: s.dispatcher.in, answers: make(chan struct{}, 1)}
	k.base = l.size()
	k.appended = max(0, loaded-k.base)
	k.owing.log = s.o.Owed
	now := time.Now()
	for c, n := l.oldest, l.persistent; n > 0; n-- { // leave puts each one at the end
		next := c.newer
		k.leave(c, c.lostAt(now))
		c = next
	}
	for _, c := range l.clients {
		if !c.persistent { // it is in the state only for its will
			k.leave(c, now)
		}
	}
	return k
}

// run commits until the queue is closed and empty.
func (k *committer) run() {
	defer close(k.out)
	k.alarm = time.AfterFunc(time.Hour, k.s.queue.wake)
	defer k.alarm.Stop()
	k.setAlarm()
	for {
		k.awaitRoom()
		batch, more := k.s.queue.take(k.taken[:0], k.s.o.BatchMessages, k.s.o.BatchBytes)
		if !more {
			break
		}
		if due := k.tick(time.Now()); len(due) > 0 {
			batch = append(due, batch...)
		}
		k.process(batch)
		clear(batch)
		k.taken = batch
	}
	k.finish()
}

func (k *committer) process(batch []*work) {
	for begin := true; begin || len(batch) > 0; begin = false {
		if !begin {
			k.awaitRoom()
		}
		if len(batch) > 0 || k.saveDue() {
			batch = k.commit(batch)
		}
		if k.appended > max(k.base, rewriteFloor) {
			k.rewrite()
		}
	}
	k.setAlarm()
}

// commit does the first steps for a batch. It does not wait for an answer, except for that of the
// state store if messages of the batch depend on it: then the places of these messages are in
// its events, and nothing else may be stored before them. commit returns the rest of the batch, which is for the next one.
func (k *committer) commit(batch []*work) (rest []*work) {
	if k.dirty {
		k.rewrite()
	}
	st := k.newStoring()
	st.messages.Round = k.nextRound()
	st.all, rest = k.prepare(batch)
	if st.owesAny() {
		k.awaitOwed()
	}
	st.accept()
	st.number()
	tied := st.gatherEvents()
	if len(st.events) > 0 && !k.dirty {
		k.s.o.Store.Append(st.events, k.ask(&st.state))
	}
	if tied && st.state.asked {
		k.awaitState(st)
	}
	if k.dirty || tied && st.state.err != nil {
		// Some accepted messages must not be stored now: the Backend is asked again.
		k.settleState(st)
		st.state.reset()
		st.accept()
		st.number()
	}
	st.store()
	k.settleAnswered()
	return rest
}

// refuse notes that a message will not be stored, and frees its QoS 2 id.
func (k *committer) refuse(w *work, err error) {
	w.err = err
	if in := w.inbound(); in != nil && in.pending == w {
		if in.doubtful || in.unowed {
			in.pending = nil
		} else {
			w.page.removeInbound(w.id)
		}
	}
	if w.conn != nil && w.message.QoS > 0 && !w.acknowledged() && (w.conn.version != 5 || err == errNotStored) {
		w.failFrom()
	}
}

// failFrom notes that this work of the connection fails: it gets no answer, and nothing
// that was sent after it is stored.
func (w *work) failFrom() {
	if w.conn.failedFrom == 0 || w.seq < w.conn.failedFrom {
		w.conn.failedFrom = w.seq
	}
}

// afterFailure reports whether the work came after one that got no answer.
func (w *work) afterFailure() bool {
	return w.conn != nil && w.conn.failedFrom != 0 && w.seq > w.conn.failedFrom
}

// inbound is the state's entry for the packet id of a QoS 2 PUBLISH.
func (w *work) inbound() *inbound {
	if w.kind != workPublish || w.message.QoS != 2 || w.page == nil {
		return nil
	}
	return w.page.inbound[w.id]
}

// gatherEvents collects the batch's state events, and reports whether some of them must
// be durable before the batch's messages.
func (st *storing) gatherEvents() (tied bool) {
	for _, w := range st.all {
		st.k.messageEvents(w)
		st.events = append(st.events, w.events...)
		tied = tied || w.message != nil && len(w.events) > 0
	}
	st.k.progressEvents(st)
	return tied
}

// settleState notes the outcome of writing the batch's state events. After a failure the
// state is ahead of the store until a rewrite succeeds; until then all work with state
// fails.
func (k *committer) settleState(st *storing) {
	if st.state.err == nil && !k.dirty {
		for _, p := range st.events {
			k.appended += len(p)
		}
		k.progressWritten(st, true)
		return
	}
	k.progressWritten(st, false)
	if st.state.err != nil {
		k.dirty = true
		k.s.troubles.state.Note("err", st.state.err)
	}
	for _, w := range st.all {
		// While the store is behind, the release of an id that the state does not know
		// may not be durable either: send no PUBCOMP for it.
		if w.err != nil || len(w.events) == 0 && w.kind != workPubrel && w.kind != workPubrec {
			continue
		}
		w.err = errNotStored
		if w.message != nil {
			k.refuse(w, errNotStored)
		}
		if w.conn != nil {
			w.failFrom()
		}
	}
}

// messageEvents adds the events that need the place of their message.
func (k *committer) messageEvents(w *work) {
	if w.message == nil || w.err != nil || w.duplicate || w.kind == workMove {
		return
	}
	if w.message.QoS == 2 && w.kind == workPublish && w.page.persistent {
		e := inboundEvent(w.client, w.id, w.place, w.owed)
		w.events = append(w.events, e.encode())
	}
	if !w.message.Retain || w.message.Refused != nil || w.kind == workSystem {
		return
	}
	if w.retain = k.state.mayRetain(w.message); !w.retain {
		k.s.count.notRetained.Inc()
		k.s.troubles.retained.Note("client", w.client, "topic", w.message.Topic, "retained", len(k.state.retained))
		return
	}
	if w.message.internal() {
		return // in memory only
	}
	e := event{kind: eventRetain, message: w.message}
	if len(w.message.Payload) == 0 {
		if k.state.retained[w.message.Topic] == nil && k.retaining == 0 {
			return
		}
		e = event{kind: eventUnretain, topic: w.message.Topic}
	}
	w.retaining = true
	k.retaining++
	w.events = append(w.events, e.encode())
}

// settle writes the outcomes into the state, in order.
func (k *committer) settle(batch []*work) {
	for _, w := range batch {
		if w.message == nil {
			continue
		}
		if w.retaining {
			k.retaining--
		}
		if w.first != nil && w.first.err != nil {
			w.err = w.first.err
		}
		if w.err != nil {
			k.s.count.refusedMessages.Inc()
			continue
		}
		if w.duplicate {
			continue
		}
		if w.message.Refused != nil {
			k.s.count.letters.Inc()
		}
		if in := w.inbound(); in != nil && in.pending == w {
			in.place, in.pending, in.doubtful = w.place, nil, false
			in.owed, in.unowed = w.owed, false
		}
		if w.retain && w.kind != workSystem {
			k.state.retain(w.message)
		}
	}
}

// rewrite replaces the content of the store by the state, which has nothing that is
// under way. After a failure it is not tried again for a second.
func (k *committer) rewrite() {
	if time.Since(k.failed) < time.Second {
		return
	}
	k.await()
	if err := k.s.o.Store.Rewrite(k.state.events()); err != nil {
		k.s.troubles.state.Note("err", err)
		k.failed = time.Now()
		// A file that only grows would exceed its part of the disk.
		k.dirty = k.dirty || errors.Is(err, ErrPoisoned) || k.base+k.appended > 2*k.s.o.MaxState
		return
	}
	k.dirty = false
	k.base, k.appended = k.state.size(), 0
}
