package mqtt

import (
	"slices"
	"sync"
	"time"
)

// saveInterval is how often the progress of sessions is written, unless something asks for
// it sooner. After a crash, what was acknowledged since is sent again, with the same packet
// id.
const saveInterval = time.Second

// changes are the sessions whose progress must be written.
type changes struct {
	wake func()

	mu       sync.Mutex
	sessions []*session // guarded by mu
}

// add notes a session. The first one schedules a wake-up of the committer.
func (c *changes) add(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, s)
	if len(c.sessions) == 1 {
		time.AfterFunc(saveInterval, c.wake)
	}
}

func (c *changes) take() (out []*session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, c.sessions = c.sessions, nil
	return out
}

func (c *changes) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

// owing is the committer's part in what sessions are owed.
type owing struct {
	log         *OwedLog        // nil: nothing outlives the process
	underWay    int             // batches with records of which the outcome is not noted; at most one
	owedTo      []*client       // sessions that the batch that is being noted owes something to
	removing    []*segment      // segments whose end could not be written
	following   []*session      // sessions whose progress is written with this batch
	published   map[string]bool // clients whose will was published, not in the state file yet
	left        map[string]bool // clients that have left, likewise
	saved       time.Time       // when progress was written last
	writtenLast uint64          // last number in the state file
	closing     bool            // no batch follows
}

// owedRecords are a batch's records in the log of what is owed.
type owedRecords struct {
	records    [][]byte
	segment    *segment
	size       int64    // of segment, before them
	newSegment *segment // segment, if the batch has its event
}

func (o *owedRecords) reset() {
	clear(o.records)
	*o = owedRecords{records: o.records[:0]}
}

// savedProgress is progress that is being written.
type savedProgress struct {
	session  *session
	progress progress
}

// owesAny reports whether the batch will have records in the log of what is owed.
func (st *storing) owesAny() bool {
	return st.k.owing.log != nil && slices.ContainsFunc(st.all, func(w *work) bool {
		return w.unowed || w.owesMessage() || w.req != nil && len(w.req.asks) > 0
	})
}

// owesMessage reports whether a session is owed the message.
func (w *work) owesMessage() bool {
	return w.err == nil && w.message != nil && w.message.Refused == nil && !w.duplicate &&
		slices.ContainsFunc(w.to, func(r recipient) bool { return r.number > 0 })
}

// number numbers the batch's messages in the log of what is owed, and collects its records.
func (st *storing) number() {
	k, o := st.k, &st.owes
	clear(o.records)
	o.records = o.records[:0]
	if k.owing.log == nil {
		return
	}
	next := k.owing.log.last() + 1
	var head []byte
	var to []recipient // of head
	for _, w := range st.all {
		w.owed = 0
		if w.unowed && w.afterFailure() {
			k.refuse(w, errNotStored)
		}
		if w.owesMessage() {
			w.owed = next
			next++
			if !sameList(to, w.to) {
				head, to = appendOwedTo(head[:0], w.to), w.to
			}
			o.records = append(o.records, encodeOwed(head, w.message))
		}
		if w.err != nil || w.req == nil {
			continue
		}
		w.req.replays = w.req.replays[:0]
		for _, i := range w.req.asks {
			w.req.replays = append(w.req.replays, next)
			next++
			o.records = append(o.records, encodeReplay(w.page.account.number, &w.req.subs[i]))
		}
	}
	if len(o.records) > 0 {
		k.makeOwedRoom(st)
	}
}

// owesReplay reports whether the session is owed the retained messages of a subscription:
// whether it outlives its connection.
func (c *client) owesReplay(sub *subscription) bool { return c.account.number > 0 && sub.qos > 0 }

// makeOwedRoom drops the oldest messages while the log is full, and opens the segment for
// the batch.
func (k *committer) makeOwedRoom(st *storing) {
	o := &k.owing
	n := int64(0)
	for _, p := range st.owes.records {
		n += int64(owedFrame + len(p))
	}
	for {
		owed, dropped := o.log.oldest(n)
		if !dropped {
			break
		}
		for number, count := range owed {
			if page := k.state.numbers[number]; page != nil {
				page.account.owed.add(-int64(count), -page.account.owed.part(count))
				k.s.count.dropped.Add(count)
				k.s.owedFull.Note("client", page.id, "messages", count)
			}
		}
	}
	s, fresh := o.log.open()
	if fresh {
		k.state.addSegment(s.first, s.salt)
		st.owes.newSegment = s
	}
	st.owes.segment, st.owes.size = s, s.size
}

// noteOwed notes the outcome of the batch's records.
func (st *storing) noteOwed() {
	if st.noted {
		return
	}
	st.noted = true
	if !st.owed.asked {
		return
	}
	k := st.k
	k.owing.underWay--
	switch {
	case st.owed.err != nil:
		k.s.troubles.owed.Note("err", st.owed.err)
		k.refuseOwed(st.all)
	case st.backend.err != nil:
		k.undoOwed(st)
	default:
		k.owe(st)
	}
}

// owe notes what sessions are owed of a durable batch.
func (k *committer) owe(st *storing) {
	o := &k.owing
	var sum amount // of messages that follow each other and have the same recipients
	var to []recipient
	for _, w := range st.all {
		if w.owed > 0 {
			if !sameList(to, w.to) {
				o.count(to, sum)
				to, sum = w.to, amount{}
			}
			sum.add(w.message.size())
		}
		for range w.replays() {
			o.countOne(w.page, amount{1, replaySize})
		}
	}
	o.count(to, sum)
	for _, page := range o.owedTo {
		o.log.owe(st.owes.segment, page.account.number, page.adding.n)
		page.account.owed.add(int64(page.adding.n), int64(page.adding.bytes))
		page.adding = amount{}
	}
	clear(o.owedTo)
	o.owedTo = o.owedTo[:0]
}

// sameList reports whether two lists of recipients are one.
func sameList(a, b []recipient) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}

// count notes messages of this batch that sessions are owed.
func (o *owing) count(to []recipient, sum amount) {
	for i := range to {
		if to[i].number > 0 {
			o.countOne(to[i].page, sum)
		}
	}
}

// countOne notes deliveries of this batch that a session is owed. Each session is looked up once
// per batch.
func (o *owing) countOne(page *client, more amount) {
	if page.adding.n == 0 {
		o.owedTo = append(o.owedTo, page)
	}
	page.adding.n += more.n
	page.adding.bytes += more.bytes
}

// undoOwed removes the batch's records: its messages were not stored.
func (k *committer) undoOwed(st *storing) {
	o := &st.owes
	if err := k.owing.log.undo(o.segment, o.size, len(o.records)); err != nil {
		k.s.troubles.owed.Note("err", err)
	}
	k.refuseOwed(st.all)
}

// refuseOwed refuses the work of which something would be owed. Its messages may be stored,
// but are not acknowledged.
func (k *committer) refuseOwed(batch []*work) {
	for _, w := range batch {
		if len(w.replays()) > 0 {
			w.err, w.req.replays = errNotStored, nil
			w.failFrom()
		}
		if w.owed == 0 {
			continue
		}
		if in := w.inbound(); in != nil && in.pending == w {
			in.place, in.doubtful, in.unowed = w.place, true, true
		}
		w.owed = 0
		if w.err == nil {
			k.refuse(w, errNotStored)
		}
	}
}

// finish writes what would otherwise be written later.
func (k *committer) finish() {
	k.owing.closing = true
	k.await()
	if k.owing.unwritten() || k.s.changes.any() || k.owing.log != nil && k.owing.log.last() != k.owing.writtenLast {
		k.commit(nil)
	}
	k.await()
}

// follow arranges that the progress of the page's session is written with this batch.
func (k *committer) follow(page *client) {
	if s := page.account.session.Load(); s != nil && s.durable {
		k.owing.following = append(k.owing.following, s)
	}
}

// noteLeft arranges that it is written soon that a client has left. It is not written at
// once, because each disconnect would cost a sync. A crash before the write leaves a session
// whose expiry counts from the next start.
func (k *committer) noteLeft(page *client) {
	if k.owing.left == nil {
		k.owing.left = make(map[string]bool)
	}
	k.owing.left[page.id] = true
	if len(k.owing.left) == 1 {
		time.AfterFunc(saveInterval, k.s.queue.wake)
	}
}

// unwritten reports whether there is something to write that no answer waits for.
func (o *owing) unwritten() bool { return len(o.published)+len(o.left) > 0 }

// saveDue reports whether progress of sessions, or ends of files, must be written even if
// there is nothing else to write.
func (k *committer) saveDue() bool {
	return time.Since(k.owing.saved) >= saveInterval && (k.owing.unwritten() || k.s.changes.any())
}

func (st *storing) event(e event) { st.events = append(st.events, e.encode()) }

// progressEvents adds the events of the sessions' progress to the batch and, from time to
// time, those that no answer waits for.
func (k *committer) progressEvents(st *storing) {
	o := &k.owing
	if s := st.owes.newSegment; s != nil {
		st.event(event{kind: eventSegment, number: s.first, salt: s.salt})
	}
	if o.closing || time.Since(o.saved) >= saveInterval {
		o.saved = time.Now()
		for client := range o.published {
			st.event(event{kind: eventWillGone, client: client})
		}
		clear(o.published)
		for client := range o.left {
			if page := k.state.clients[client]; page != nil && page.persistent && page.conn == nil {
				st.event(event{kind: eventLeft, client: client, left: page.left})
			}
		}
		clear(o.left)
		o.following = append(o.following, k.s.changes.take()...)
		if o.log != nil && o.underWay == 0 { // a segment may have records of a batch under way
			k.segmentEvents(st)
		}
	}
	if len(o.following) == 0 {
		return
	}
	seen := make(map[*session]bool, len(o.following))
	for _, s := range o.following {
		page := k.state.numbers[s.number]
		if seen[s] || page == nil {
			continue
		}
		seen[s] = true
		page.progress = s.snapshot()
		st.writing = append(st.writing, savedProgress{s, page.progress})
		st.event(event{kind: eventProgress, client: page.id, progress: page.progress})
	}
	clear(o.following)
	o.following = o.following[:0]
}

// segmentEvents adds the ends of files of which nothing is owed any more, after the number
// that the next file begins with.
func (k *committer) segmentEvents(st *storing) {
	o := &k.owing
	st.removing = append(append(st.removing, o.removing...), o.log.settled()...)
	clear(o.removing)
	o.removing = o.removing[:0]
	if last := o.log.last(); last != o.writtenLast {
		o.writtenLast = last
		k.state.owedLast = last
		st.event(event{kind: eventOwedLast, number: last})
	}
	for _, s := range st.removing {
		delete(k.state.segments, s.first)
		st.event(event{kind: eventSegmentGone, number: s.first})
	}
}

// progressWritten completes what progressEvents began.
func (k *committer) progressWritten(st *storing, durable bool) {
	for _, w := range st.writing {
		if durable {
			w.session.written(w.progress)
		} else {
			w.session.markChanged()
		}
	}
	for _, s := range st.removing {
		if !durable { // a rewrite leaves the files out, and then they are removed
			k.owing.removing = append(k.owing.removing, s)
		} else if err := k.owing.log.remove(s); err != nil {
			k.s.log.Warn("a file cannot be removed", "err", err)
		}
	}
	clear(st.writing)
	clear(st.removing)
	st.writing, st.removing = st.writing[:0], st.removing[:0]
}

// replays returns the numbers of the records for owed retained messages.
func (w *work) replays() []uint64 {
	if w.req == nil {
		return nil
	}
	return w.req.replays
}

// replayOf returns the number of the record for the owed retained messages of subs[i], 0 if
// there is none.
func (w *work) replayOf(i int) uint64 {
	if at := slices.Index(w.req.asks, i); at >= 0 && at < len(w.req.replays) {
		return w.req.replays[at]
	}
	return 0
}
