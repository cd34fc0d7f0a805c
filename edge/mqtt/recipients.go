package mqtt

import "slices"

// recipient is a client for which the committer has decided that it gets a message.
type recipient struct {
	page        *client
	number      uint32 // of a session that is owed the message; 0: the message is only in memory
	qos         byte
	retain      bool // flag of the delivery
	away        bool // it is owed the message and has no connection: it reads the message from the log
	identifiers []int
	share       string // filter of a shared subscription; "": none
}

// maxRecipients is the most recipients that the messages of one batch have together: then the
// batch ends. One message may have more.
const maxRecipients = 16 << 10

// recipientChunk is how many recipients are allocated at once.
const recipientChunk = 64

// recipients finds the recipients of a message. If it finds the same subscriptions as for an
// earlier message, the two have one list of recipients.
func (k *committer) recipients(w *work) {
	if w.message == nil || w.message.Refused != nil || w.err != nil || w.duplicate || k.state.subs.count == 0 {
		return
	}
	m, subs := w.message, &k.state.subs
	nodes := subs.find(m.Topic)
	if len(nodes) == 0 {
		return
	}
	if k.latest.match(m, nodes, subs.changes) {
		w.to = k.latest.to
		return
	}
	hits := subs.match(m.Topic, m.ClientID)
	k.s.count.unreadable.Add(subs.denied)
	if cap(k.chunk)-len(k.chunk) < len(hits) {
		k.chunk = make([]recipient, 0, max(recipientChunk, len(hits)))
	}
	n, same := len(k.chunk), subs.same
	w.to = k.chunk[n : n : n+len(hits)]
	for _, hit := range hits {
		if !k.choose(w, hit) {
			same = false // each message that is dropped is counted
		}
	}
	k.chunk = k.chunk[:n+len(w.to)]
	k.found += len(w.to)
	if same {
		k.latest = foundRecipients{append(k.latest.nodes[:0], nodes...), subs.changes, m.QoS, m.Retain, w.to}
	}
}

// foundRecipients is a list of recipients, and what it depends on, apart from who has a connection.
type foundRecipients struct {
	nodes   []*trieNode
	changes uint64 // of the trie
	qos     byte
	retain  bool
	to      []recipient
}

// match reports whether the list is that of a message for which nodes of the trie were found.
func (f *foundRecipients) match(m *Message, nodes []*trieNode, changes uint64) bool {
	return f.changes == changes && f.qos == m.QoS && f.retain == m.Retain && slices.Equal(f.nodes, nodes)
}

// forget makes the list useless: other clients may have a connection.
func (f *foundRecipients) forget() {
	clear(f.nodes)
	f.nodes, f.to = f.nodes[:0], nil
}

// choose adds a recipient. It reports whether the message is not dropped for it.
func (k *committer) choose(w *work, hit match) bool {
	page := hit.client
	r := recipient{page: page, qos: min(w.message.QoS, hit.qos),
		retain: w.message.Retain && hit.retainAsPublished, identifiers: hit.identifiers, share: hit.share}
	if r.qos > 0 {
		r.number = page.account.number
	}
	if r.qos == 0 && r.share == "" && page.conn == nil {
		return true
	}
	if r.number > 0 {
		if page.account.owed.bytes.Load() >= int64(k.s.o.MaxClientOwed) {
			k.owedTooMuch(page)
			return false
		}
		page.overflows = false
		r.away = page.conn == nil
	}
	if r.share != "" {
		page.account.shared.Add(1)
	}
	w.to = append(w.to, r)
	return true
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
