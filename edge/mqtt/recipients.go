package mqtt

// recipient is a client for which the committer has decided that it gets a message.
type recipient struct {
	page        *client
	number      uint32 // of a session that is owed the message; 0: the message is only in memory
	qos         byte
	retain      bool // flag of the delivery
	identifiers []int
	share       string // filter of a shared subscription; "": none
}

// maxRecipients is the most recipients that the messages of one batch have together: then the
// batch ends. One message may have more.
const maxRecipients = 16 << 10

// recipientChunk is how many recipients are allocated at once.
const recipientChunk = 64

// recipients finds the recipients of a message.
func (k *committer) recipients(w *work) {
	if w.message == nil || w.message.Refused != nil || w.err != nil || w.duplicate || k.ledger.subs.count == 0 {
		return
	}
	hits := k.ledger.subs.match(w.message.Topic, w.message.ClientID)
	k.s.count.unreadable.Add(k.ledger.subs.denied)
	if len(hits) == 0 {
		return
	}
	if cap(k.chunk)-len(k.chunk) < len(hits) {
		k.chunk = make([]recipient, 0, max(recipientChunk, len(hits)))
	}
	n := len(k.chunk)
	w.to = k.chunk[n : n : n+len(hits)]
	for _, hit := range hits {
		k.choose(w, hit)
	}
	k.chunk = k.chunk[:n+len(w.to)]
	k.found += len(w.to)
}

// choose adds a recipient, unless the message is dropped for it.
func (k *committer) choose(w *work, hit match) {
	page := hit.client
	r := recipient{page: page, qos: min(w.message.QoS, hit.qos),
		retain: w.message.Retain && hit.retainAsPublished, identifiers: hit.identifiers, share: hit.share}
	if r.qos > 0 {
		r.number = page.account.number
	}
	if r.qos == 0 && r.share == "" && page.conn == nil {
		return
	}
	if r.number > 0 {
		if page.account.owed.bytes.Load() >= int64(k.s.o.MaxClientOwed) {
			k.owedTooMuch(page)
			return
		}
		page.overflows = false
	}
	if r.share != "" {
		page.account.shared.Add(1)
	}
	w.to = append(w.to, r)
}

// owedTooMuch counts a message that a session will not get. It logs the first of a series.
func (k *committer) owedTooMuch(page *client) {
	k.s.count.dropped.Inc()
	if !page.overflows {
		page.overflows = true
		k.s.log.Warn("the messages for a session without a connection exceed --mqtt-client-owed: the newest are dropped",
			"client", page.id, "bytes", page.account.owed.bytes.Load())
	}
}

// unshare undoes the choice among the members of a shared subscription: the message does
// not reach the member.
func (w *work) unshare() {
	for i := range w.to {
		if w.to[i].share != "" {
			w.to[i].page.account.shared.Add(-1)
		}
	}
}
