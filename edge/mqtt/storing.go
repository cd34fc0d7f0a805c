package mqtt

import (
	"sync/atomic"
	"time"
)

// storing is a batch on its way through the Backend. Several may be under way; the
// committer settles them in the order in which it gave them to Store, each when it
// is done.
type storing struct {
	k        *committer
	all      []*work // the whole batch
	works    []*work // those whose messages the Backend is given
	messages Batch   // of works

	owed  chan error // answer of the log of what is owed; nil: it was not asked
	began time.Time

	err      error // of Store; set before answered
	answered atomic.Bool
	handed   atomic.Bool // Store has returned
}

// newStoring returns a storing, which may be one that was settled.
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

// accept asks the Backend which messages it takes, again and again while that
// fails connections: a 3.x client that gets no answer sends everything from
// there on again, so none of it may be stored. What the Backend refuses for good
// is asked for anew as a refused letter.
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

// leaveOut takes what was refused out of the messages.
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

// store gives the messages to the Backend, and the batch's records to the log of
// what is owed, side by side.
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

// done is the Backend's answer. The committer hears of one that comes while Store
// runs as soon as that returns.
func (st *storing) done(err error) {
	k := st.k
	st.err = err
	k.s.count.storeSeconds.UpdateDuration(st.began)
	st.answered.Store(true) // the committer may use st for another batch from here on
	if !st.handed.Load() {
		return
	}
	select {
	case k.answers <- struct{}{}:
	default: // it is to look anyway
	}
	k.s.queue.wake()
}

// nextRound returns the round of a new batch. After a failure it is another one, when
// every batch of the old one is settled: by then it is known whose messages were not
// stored, and of these clients nothing is taken.
func (k *committer) nextRound() uint64 {
	if k.roundFailed {
		k.await(0)
		k.roundFailed = false
		k.round++
	}
	return k.round
}

// await settles the batches that the Backend has answered for, and waits until no
// more than n are under way.
func (k *committer) await(n int) {
	for k.settleAnswered(); len(k.underWay) > n; k.settleAnswered() {
		<-k.answers
	}
}

// settleAnswered settles batches, in order, and hands them to the dispatcher.
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

// settle notes what became of a batch: from here on its messages may be acknowledged.
// When Store has failed none is, and their clients are cut off so that they send
// again.
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
		w.place = st.messages.Places[i] // it may have a better one by now
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
