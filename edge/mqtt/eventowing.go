package mqtt

import (
	"encoding/binary"
	"time"
)

// encodeOwing adds the body of an event of version 2.
func (e *event) encodeOwing(b []byte) []byte {
	switch e.kind {
	case eventWill:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint32(b, uint32(e.delay/time.Second))
		b = appendMessage(b, e.message)
	case eventWillGone:
		b = appendString(b, e.client)
	case eventLeft:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint64(b, milliseconds(e.left))
	case eventNumber:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint32(b, e.session)
		b = binary.BigEndian.AppendUint64(b, e.number)
	case eventProgress:
		b = appendString(b, e.client)
		b = appendProgress(b, &e.progress)
	case eventSegment:
		b = binary.BigEndian.AppendUint64(b, e.number)
		b = binary.BigEndian.AppendUint64(b, e.end)
		b = append(b, e.salt[:]...)
	case eventSegmentGone, eventOwedLast, eventVoid:
		b = binary.BigEndian.AppendUint64(b, e.number)
	}
	return b
}

// owing reads the body of an event of version 2.
func (c *decoder) owing(e *event) {
	switch e.kind {
	case eventWill:
		e.client = c.String()
		e.delay = time.Duration(c.Uint32()) * time.Second
		e.message = c.anyMessage()
	case eventWillGone:
		e.client = c.String()
	case eventLeft:
		e.client = c.String()
		if ms := c.Uint64(); ms > 0 {
			e.left = time.UnixMilli(int64(ms))
		}
	case eventNumber:
		e.client, e.session, e.number = c.String(), c.Uint32(), c.Uint64()
	case eventProgress:
		e.client = c.String()
		e.progress = c.progress()
	case eventSegment:
		e.number, e.end = c.Uint64(), c.Uint64()
		copy(e.salt[:], c.Take(saltSize))
	case eventSegmentGone, eventOwedLast, eventVoid:
		e.number = c.Uint64()
	}
}

// milliseconds returns t in ms since 1970, 0 for the zero time.
func milliseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

// appendProgress writes a session's progress. Open deliveries are written as twice their
// distance from the one before, plus 1 if PUBREC came.
func appendProgress(b []byte, p *progress) []byte {
	b = binary.BigEndian.AppendUint64(b, p.sentTo)
	b = binary.AppendUvarint(b, uint64(len(p.open)))
	before := uint64(0)
	for _, o := range p.open {
		v := (o.number - before) << 1
		if o.released {
			v |= 1
		}
		b = binary.AppendUvarint(b, v)
		before = o.number
	}
	return b
}

func (c *decoder) progress() (p progress) {
	p.sentTo = c.Uint64()
	before := uint64(0)
	for range c.Uvarint() {
		v := c.Uvarint()
		if c.Bad() || v>>1 == 0 {
			c.Fail()
			return p
		}
		before += v >> 1
		p.open = append(p.open, openDelivery{before, v&1 != 0})
	}
	return p
}
