package mqtt

import (
	"sync/atomic"
	"time"
)

// storing is a batch on its way. It waits for up to three answers, which may come in any order:
// from the Backend, from the state store and from the log of what is owed. Several batches may be
// under way. The committer settles them in the order in which it called Store.
type storing struct {
	k        *committer
	all      []*work // the works that are not settled; at first the whole batch
	works    []*work // those whose messages go to the Backend
	messages Batch   // of works
	began    time.Time

	backend answer
	state   answer
	owed    answer
	handed  atomic.Bool // Backend.Store has returned

	events   [][]byte        // for the state store
	writing  []savedProgress // progress in events
	removing []*segment      // segments whose end is in events
	owes     owedRecords

	stored  bool // the Backend's answer is noted
	noted   bool // that of the log of what is owed is noted
	divided bool // the works that wait for the Backend alone are settled
}

// answer is one that a batch waits for.
type answer struct {
	asked bool
	err   error       // set before given
	given atomic.Bool // from then on the committer may reuse the storing for another batch
}

// ready reports whether there is nothing to wait for any more.
func (a *answer) ready() bool { return !a.asked || a.given.Load() }

// ask returns a function that takes the answer and tells the committer.
func (k *committer) ask(a *answer) (done func(error)) {
	a.asked = true
	return func(err error) {
		a.err = err
		a.given.Store(true)
		k.wake()
	}
}

func (a *answer) reset() {
	a.asked, a.err = false, nil
	a.given.Store(false)
}

// wake makes the committer look at the answers.
func (k *committer) wake() {
	select {
	case k.answers <- struct{}{}:
	default: // a token is there already
	}
	k.s.queue.wake()
}

// newStoring returns a storing; it may reuse a settled one.
func (k *committer) newStoring() *storing {
	if n := len(k.spare); n > 0 {
		st := k.spare[n-1]
		k.spare = k.spare[:n-1]
		return st
	}
	return &storing{k: k}
}

// reuse makes a settled storing available to later batches.
func (k *committer) reuse(st *storing) {
	clear(st.works)
	clear(st.messages.Messages)
	clear(st.events)
	clear(st.writing)
	clear(st.removing)
	st.all, st.events, st.writing, st.removing = nil, st.events[:0], st.writing[:0], st.removing[:0]
	st.owes.reset()
	st.backend.reset()
	st.state.reset()
	st.owed.reset()
	st.handed.Store(false)
	st.stored, st.noted, st.divided = false, false, false
	k.spare = append(k.spare, st)
}

// gather collects the messages of the batch that are to be stored.
func (st *storing) gather() {
	st.works, st.messages.Messages = st.works[:0], st.messages.Messages[:0]
	for _, w := range st.all {
		if w.message != nil && w.err == nil && !w.duplicate && !w.unowed && !w.message.internal() {
			st.works = append(st.works, w)
			st.messages.Messages = append(st.messages.Messages, w.message)
		}
	}
}

// accept asks the Backend which messages it takes, and repeats that while the answer makes
// connections fail: a 3.x client that gets no answer sends everything from that message on
// again, so none of that may be stored. A message that the Backend refuses for good is asked for
// again as a refused letter.
func (st *storing) accept() {
	b := &st.messages
	for {
		st.gather()
		if len(st.works) == 0 {
			return
		}
		if n := len(st.works); cap(b.Errs) < n {
			b.Errs, b.Places = make([]error, n), make([]Place, n)
		}
		b.Errs, b.Places = b.Errs[:len(st.works)], b.Places[:len(st.works)]
		clear(b.Errs)
		clear(b.Places)
		st.k.s.o.Backend.Accept(b)
		again := false
		for i, w := range st.works {
			w.place = b.Places[i]
			switch err := b.Errs[i]; {
			case err != nil && w.asLetter(err):
				again = true
			case err != nil:
				st.k.refuse(w, err)
			case w.afterFailure():
				st.k.refuse(w, errNotStored)
				again = true
			}
		}
		if !again {
			st.leaveOut()
			return
		}
	}
}

// leaveOut removes the refused messages.
func (st *storing) leaveOut() {
	b, n := &st.messages, 0
	for i, w := range st.works {
		if w.err == nil {
			st.works[n], b.Messages[n], b.Places[n], b.Errs[n] = w, b.Messages[i], b.Places[i], nil
			n++
		}
	}
	clear(st.works[n:])
	clear(b.Messages[n:])
	st.works, b.Messages, b.Places, b.Errs = st.works[:n], b.Messages[:n], b.Places[:n], b.Errs[:n]
}

// store gives the messages to the Backend, and at the same time the batch's records to the log
// of what is owed.
func (st *storing) store() {
	k := st.k
	k.underWay = append(k.underWay, st)
	if records := st.owes.records; len(records) > 0 {
		k.owing.underWay++
		log, segment, done := k.owing.log, st.owes.segment, k.ask(&st.owed)
		go func() { done(log.append(segment, records)) }()
	}
	if len(st.works) == 0 {
		return
	}
	st.began = time.Now()
	st.backend.asked = true
	k.full = !k.s.o.Backend.Store(&st.messages, st.done)
	st.handed.Store(true)
}

// done takes the Backend's answer. If it comes while Store runs, the committer notices it as
// soon as Store returns.
func (st *storing) done(err error) {
	k := st.k
	k.s.count.storeSeconds.UpdateDuration(st.began)
	st.backend.err = err
	st.backend.given.Store(true)
	if st.handed.Load() {
		k.wake()
	}
}

// nextRound returns the round of a new batch. After a failure a new round begins when every batch
// of the old one is settled. By then it is known whose messages were not stored; later messages
// of these clients are not taken.
func (k *committer) nextRound() uint64 {
	if k.roundFailed {
		k.await()
		k.roundFailed = false
		k.round++
	}
	return k.round
}
