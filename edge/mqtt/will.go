package mqtt

import "time"

// will is the message to publish when a connection ends without a DISCONNECT
// that removes it (§3.1.2.5).
type will struct {
	message Message
	delay   time.Duration // MQTT 5 will delay interval
}

// size returns what a page is charged for the will, which may be nil.
func (w *will) size() int64 {
	if w == nil {
		return 0
	}
	return int64(w.message.size())
}

// due returns the will's message, accepted now.
func (w *will) due() *work {
	m := w.message
	m.Accepted = time.Now()
	return &work{kind: workWill, client: m.ClientID, message: &m}
}

// keepWill gives a page the will of a new connection, nil for none, and stores the will so that
// it outlives the process.
func (k *committer) keepWill(w *work, page *client, new *will) {
	switch {
	case new != nil:
		delete(k.owing.published, page.id)
		w.event(event{kind: eventWill, client: page.id, delay: new.delay, message: &new.message})
	case page.willKept:
		w.event(event{kind: eventWillGone, client: page.id})
	}
	page.setWill(new)
	page.willKept = new != nil
	page.willDue = time.Time{}
}

// takeWill returns the page's will as work that is due. It is written that the will is gone after
// the will is stored: after a crash in between it is published again, and no will is lost.
func (k *committer) takeWill(page *client) *work {
	if page.willKept {
		page.willKept = false
		if k.owing.published == nil {
			k.owing.published = make(map[string]bool)
		}
		k.owing.published[page.id] = true
		time.AfterFunc(saveInterval, k.s.queue.wake)
	}
	return page.takeWill()
}
