package mqtt

// awaitRoom waits until another batch may be begun; the queue fills meanwhile. As much as one batch
// may wait for the state store, so that a slow one costs no memory.
func (k *committer) awaitRoom() {
	for k.settleAnswered(); k.full || k.held >= k.s.o.BatchMessages || k.heldBytes >= k.s.o.BatchBytes; k.settleAnswered() {
		<-k.answers
	}
}

// await settles the batches that are answered for, and waits until none is under way.
func (k *committer) await() {
	for k.settleAnswered(); len(k.underWay) > 0; k.settleAnswered() {
		<-k.answers
	}
}

// awaitState waits for the answer of the state store to a batch, and settles earlier batches
// meanwhile.
func (k *committer) awaitState(st *storing) {
	for k.settleAnswered(); !st.state.ready(); k.settleAnswered() {
		<-k.answers
	}
}

// awaitOwed waits until no batch with records in the log of what is owed is without outcome: the
// records of a batch are the last ones there when they are removed again.
func (k *committer) awaitOwed() {
	for k.settleAnswered(); k.owing.underWay > 0; k.settleAnswered() {
		<-k.answers
	}
}

// settleAnswered notes the answers that have come, and passes works that need no other one to the
// dispatcher. Batches are settled in order. But a message that waits for the Backend alone does
// not wait for the answers of the state store and of the log of what is owed to other works: it
// is acknowledged when the Backend has answered, unless its connection has sent one of these works
// before.
func (k *committer) settleAnswered() {
	for _, st := range k.underWay {
		if !st.backend.ready() {
			break
		}
		st.noteStored()
	}
	for _, st := range k.underWay {
		if !st.stored || !st.owed.ready() {
			break
		}
		st.noteOwed()
	}
	for len(k.underWay) > 0 {
		st := k.underWay[0]
		if !st.stored || !st.noted || !st.state.ready() {
			break
		}
		k.underWay = append(k.underWay[:0], k.underWay[1:]...)
		st.settle()
	}
	for _, st := range k.underWay {
		if !st.stored {
			break
		}
		st.settleFree()
	}
}

// noteStored notes the answer of the Backend. If Store has failed, no message of the batch is
// acknowledged, and their clients are disconnected so that they send again.
func (st *storing) noteStored() {
	if st.stored {
		return
	}
	st.stored = true
	k, err := st.k, st.backend.err
	k.full = false
	if err == nil {
		k.s.count.stored.Add(len(st.works))
	} else {
		k.roundFailed = true
		k.s.troubles.storing.Note("messages", len(st.works), "err", err)
	}
	for i, w := range st.works {
		w.place = st.messages.Places[i] // Store may have improved it
		if err == nil {
			continue
		}
		if in := w.inbound(); in != nil && in.pending == w {
			in.place, in.doubtful, in.unowed = w.place, true, w.owed > 0
		}
		k.refuse(w, errNotStored)
	}
}

// settleFree settles the messages that wait for nothing but the Backend. The others are held.
func (st *storing) settleFree() {
	if st.divided {
		return
	}
	st.divided = true
	k := st.k
	var free []*work
	held := st.all[:0]
	for _, w := range st.all {
		if w.needsBackendOnly() {
			free = append(free, w)
			continue
		}
		held = append(held, w)
		if w.conn != nil {
			w.conn.held++
		}
		k.held++
		k.heldBytes += w.size()
	}
	clear(st.all[len(held):])
	st.all = held
	if len(free) > 0 {
		k.settle(free)
		k.out <- free
	}
}

// needsBackendOnly reports whether the work is an ordinary message that was stored, and everything
// that its connection sent before is settled.
func (w *work) needsBackendOnly() bool {
	return w.kind == workPublish && w.err == nil && w.message.QoS < 2 && len(w.events) == 0 &&
		w.owed == 0 && !w.retain && w.conn.held == 0
}

// settle notes the outcome of what is left of a batch: from here on it may be acknowledged.
func (st *storing) settle() {
	k := st.k
	if st.divided {
		for _, w := range st.all {
			if w.conn != nil {
				w.conn.held--
			}
			k.held--
			k.heldBytes -= w.size()
		}
	}
	k.settleState(st)
	k.settle(st.all)
	batch := st.all
	k.reuse(st)
	k.out <- batch
}
