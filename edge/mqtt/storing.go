package mqtt

import (
	"sync/atomic"
	"time"
)

// storing is a batch on its way through the Backend. Several may be under way. Once they are
// done, the committer settles them in the order in which it called Store.
type storing struct {
	k        *committer
	all      []*work // the whole batch
	works    []*work // those whose messages go to the Backend
	messages Batch   // of works

	owed  chan error // answer of the log of what is owed; nil: nothing to write there
	began time.Time

	err      error // of Store; set before answered
	answered atomic.Bool
	handed   atomic.Bool // Store has returned
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

// gather collects the messages of the batch that are to be stored.
func (st *storing) gather() {
	st.works, st.messages.Messages = st.works[:0], st.messages.Messages[:0]
	for _, w := range st.all {
		if w.message != nil && w.err == nil && !w.duplicate && !w.half && !w.message.internal() {
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
	if o := &k.owing; len(o.records) > 0 {
		st.owed = make(chan error, 1)
		go func() { st.owed <- o.log.append(o.segment, o.records) }()
	}
	if len(st.works) == 0 {
		st.answered.Store(true)
		return
	}
	st.began = time.Now()
	k.full = !k.s.o.Backend.Store(&st.messages, st.done)
	st.handed.Store(true)
}

// done receives the Backend's answer. If it comes while Store runs, the committer notices it as
// soon as Store returns.
func (st *storing) done(err error) {
	k := st.k
	st.err = err
	k.s.count.storeSeconds.UpdateDuration(st.began)
	st.answered.Store(true) // from here on the committer may reuse st for another batch
	if !st.handed.Load() {
		return
	}
	select {
	case k.answers <- struct{}{}:
	default: // a token is there already
	}
	k.s.queue.wake()
}

// nextRound returns the round of a new batch. After a failure a new round begins when every batch
// of the old one is settled. By then it is known whose messages were not stored; later messages
// of these clients are not taken.
func (k *committer) nextRound() uint64 {
	if k.roundFailed {
		k.await(0)
		k.roundFailed = false
		k.round++
	}
	return k.round
}

// await settles the batches that the Backend has answered for, and waits until at most n are
// under way.
func (k *committer) await(n int) {
	for k.settleAnswered(); len(k.underWay) > n; k.settleAnswered() {
		<-k.answers
	}
}

// settleAnswered settles answered batches, in order, and passes them to the dispatcher.
func (k *committer) settleAnswered() {
	for len(k.underWay) > 0 && k.underWay[0].answered.Load() {
		st := k.underWay[0]
		k.underWay = append(k.underWay[:0], k.underWay[1:]...)
		k.full = false
		st.settle()
		batch := st.all
		clear(st.works)
		clear(st.messages.Messages)
		st.all, st.owed, st.err = nil, nil, nil
		st.handed.Store(false)
		st.answered.Store(false)
		k.spare = append(k.spare, st)
		k.out <- batch
	}
}

// settle notes the outcome of a batch: from here on its messages may be acknowledged. If Store
// has failed, none is, and their clients are disconnected so that they send again.
func (st *storing) settle() {
	k := st.k
	var owedErr error
	if st.owed != nil {
		owedErr = <-st.owed
	}
	if st.err == nil {
		k.s.count.stored.Add(len(st.works))
	} else {
		k.roundFailed = true
		k.s.troubles.storing.Note("messages", len(st.works), "err", st.err)
	}
	for i, w := range st.works {
		w.place = st.messages.Places[i] // Store may have improved it
		if st.err == nil {
			continue
		}
		if in := w.inbound(); in != nil && in.pending == w {
			in.place, in.doubtful, in.unowed = w.place, true, w.owed > 0
		}
		k.refuse(w, errNotStored)
	}
	k.settleOwed(st.all, st.err, owedErr)
	k.settle(st.all)
}
