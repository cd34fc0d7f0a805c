package mqtt

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/storage/coding"
)

// The records of an OwedLog. FORMAT.md has their bytes.
const (
	owedMessage = 1 // a message, and the sessions that are owed it
	owedReplay  = 2 // a session is owed the retained messages of a subscription
)

// Bits of a recipient's flags, beside the QoS.
const (
	owedRetain = 1 << 2
	owedShared = 1 << 3
)

// encodeOwed returns the record of a message that sessions are owed. head is that of the sessions.
func encodeOwed(head []byte, m *Message) []byte {
	b := make([]byte, 0, len(head)+m.size())
	return appendMessage(append(b, head...), m)
}

// appendOwedTo appends the part of a record that says which sessions are owed the message.
func appendOwedTo(b []byte, to []recipient) []byte {
	b = append(b, owedMessage)
	n := 0
	for i := range to {
		if to[i].number > 0 {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i := range to {
		r := &to[i]
		if r.number == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(r.number))
		flags := r.qos
		if r.retain {
			flags |= owedRetain
		}
		if r.share != "" {
			flags |= owedShared
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(len(r.identifiers)))
		for _, id := range r.identifiers {
			b = binary.AppendUvarint(b, uint64(id))
		}
		if r.share != "" {
			b = appendString(b, r.share)
		}
	}
	return b
}

// encodeReplay returns the record of retained messages that a session is owed.
func encodeReplay(session uint32, sub *subscription) []byte {
	b := []byte{owedReplay}
	b = binary.AppendUvarint(b, uint64(session))
	b = appendString(b, sub.filter)
	b = append(b, sub.options())
	return binary.AppendUvarint(b, uint64(sub.identifier))
}

// owedRecord is a decoded record.
type owedRecord struct {
	message *Message     // nil: a replay
	sub     subscription // of a replay
	to      []recipient
}

func decodeOwed(p []byte) (owedRecord, error) {
	c := &decoder{coding.NewDecoder(p)}
	var r owedRecord
	kind := c.Byte()
	switch kind {
	case owedMessage:
		for range c.Uvarint() {
			if c.Bad() {
				break
			}
			r.to = append(r.to, c.recipient())
		}
		r.message = c.anyMessage()
	case owedReplay:
		r.to = []recipient{{number: uint32(c.Uvarint())}}
		r.sub.filter = c.String()
		r.sub.setOptions(c.Byte())
		r.sub.identifier = int(c.Uvarint() & 0x0fff_ffff)
		if !validFilter(r.sub.filter, len(r.sub.filter)+1) {
			c.Fail()
		}
	default:
		return owedRecord{}, fmt.Errorf("record of kind %d is not known", kind)
	}
	if !c.Done() {
		return owedRecord{}, fmt.Errorf("record of kind %d is malformed", kind)
	}
	return r, nil
}

func (c *decoder) recipient() recipient {
	r := recipient{number: uint32(c.Uvarint())}
	flags := c.Byte()
	r.qos, r.retain = flags&3, flags&owedRetain != 0
	for range c.Uvarint() {
		if c.Bad() {
			return r
		}
		r.identifiers = append(r.identifiers, int(c.Uvarint()&0x0fff_ffff))
	}
	if flags&owedShared != 0 {
		r.share = c.String()
	}
	if r.qos == 0 || r.qos > 2 {
		c.Fail()
	}
	return r
}

// size returns what the record counts for one session.
func (r *owedRecord) size() int {
	if r.message == nil {
		return replaySize
	}
	return r.message.size()
}

// replaySize is how many bytes retained messages that are still to be sent count in what a
// session is owed.
const replaySize = 1 << 10

// delivery returns what the session of that number is owed.
func (r *owedRecord) delivery(session uint32) (delivery, bool) {
	for i := range r.to {
		if t := &r.to[i]; t.number == session {
			return delivery{message: r.message, size: r.size(), qos: t.qos, retain: t.retain,
				identifiers: t.identifiers, share: t.share}, true
		}
	}
	return delivery{}, false
}
