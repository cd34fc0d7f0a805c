package mqtt

import "time"

// will is the message to publish when a connection ends without a DISCONNECT
// that removes it (§3.1.2.5).
type will struct {
	message Message
	delay   time.Duration // MQTT 5 will delay interval
}

// size is what a page is charged for the will; there may be none.
func (w *will) size() int64 {
	if w == nil {
		return 0
	}
	return int64(w.message.size())
}

// due makes the will's message, accepted now.
func (w *will) due() *work {
	m := w.message
	m.Accepted = time.Now()
	return &work{kind: workWill, client: m.ClientID, message: &m}
}
