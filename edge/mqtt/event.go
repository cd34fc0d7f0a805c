package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/coding"
)

// The events of the state store. FORMAT.md has their bytes.
type eventKind uint8

const (
	eventSession     eventKind = 1 // a persistent session exists, with its expiry
	eventEnd         eventKind = 2 // it ended, with everything that it had
	eventSubscribe   eventKind = 3
	eventUnsubscribe eventKind = 4
	eventInbound     eventKind = 5 // a QoS 2 packet id is used by the message at a place
	eventRelease     eventKind = 6 // PUBREL came for it
	eventRetain      eventKind = 7
	eventUnretain    eventKind = 8

	// Since version 2 of the file.
	eventWill        eventKind = 9  // a will is to be published when its client is lost
	eventWillGone    eventKind = 10 // it was published, or is not to be
	eventLeft        eventKind = 11 // the time since which a session has no connection; zero: it has one
	eventNumber      eventKind = 12 // the session's number in the log of what is owed
	eventProgress    eventKind = 13 // how far the session has got with what it is owed
	eventSegment     eventKind = 14 // a file of the log
	eventSegmentGone eventKind = 15
	eventOwedLast    eventKind = 16 // the log reached at least this number
	eventVoid        eventKind = 17 // a record of the log whose message was never stored

	eventInboundAt eventKind = 18 // eventInbound, with a place whose length is not shortPlace
)

// shortPlace is the length of places in eventInbound, in bytes.
const shortPlace = 21

func (k eventKind) known() bool { return k >= eventSession && k <= eventInboundAt }

// inboundEvent says that a QoS 2 packet id is used by the message at a place.
func inboundEvent(client string, id uint16, place Place, owed uint64) event {
	e := event{kind: eventInbound, client: client, id: id, place: place, number: owed}
	if len(place) != shortPlace {
		e.kind = eventInboundAt
	}
	return e
}

var errEvent = errors.New("event is malformed")

// event is the union of all events. kind says which fields count.
type event struct {
	kind    eventKind
	client  string
	expiry  uint32
	sub     subscription
	id      uint16
	place   Place
	message *Message // eventRetain, eventWill
	topic   string   // eventUnretain

	number   uint64         // in the log of what is owed; of an inbound event, 0: no session is owed its message
	end      uint64         // eventSegment: the number that follows its last, 0: not full
	salt     [saltSize]byte // eventSegment
	session  uint32         // eventNumber
	delay    time.Duration  // eventWill
	left     time.Time      // eventLeft
	progress progress       // eventProgress
}

func appendString[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// encode returns the event's bytes in a slice of its own.
func (e *event) encode() []byte {
	b := make([]byte, 0, 64)
	b = append(b, byte(e.kind))
	switch e.kind {
	case eventSession:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint32(b, e.expiry)
	case eventEnd:
		b = appendString(b, e.client)
	case eventSubscribe:
		b = appendString(b, e.client)
		b = appendString(b, e.sub.filter)
		b = append(b, e.sub.options())
		b = binary.AppendUvarint(b, uint64(e.sub.identifier))
	case eventUnsubscribe:
		b = appendString(b, e.client)
		b = appendString(b, e.sub.filter)
	case eventInbound:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint16(b, e.id)
		b = append(b, e.place...)
		if e.number > 0 {
			b = binary.BigEndian.AppendUint64(b, e.number)
		}
	case eventInboundAt:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint16(b, e.id)
		b = appendString(b, e.place)
		b = binary.BigEndian.AppendUint64(b, e.number)
	case eventRelease:
		b = appendString(b, e.client)
		b = binary.BigEndian.AppendUint16(b, e.id)
	case eventRetain:
		b = appendMessage(b, e.message)
	case eventUnretain:
		b = appendString(b, e.topic)
	default:
		b = e.encodeOwing(b)
	}
	return b
}

// options packs the subscription options as SUBSCRIBE does (§3.8.3.1).
func (s *subscription) options() byte {
	b := s.qos | s.retainHandling<<4
	if s.noLocal {
		b |= 1 << 2
	}
	if s.retainAsPublished {
		b |= 1 << 3
	}
	return b
}

func (s *subscription) setOptions(b byte) {
	s.qos = b & 3
	s.noLocal = b&(1<<2) != 0
	s.retainAsPublished = b&(1<<3) != 0
	s.retainHandling = b >> 4 & 3
}

// Bits of a retained message's presence byte.
const (
	hasPayloadFormat = 1 << iota
	hasExpiry
	isWill
	notRetained
	isRefused
)

func appendMessage(b []byte, m *Message) []byte {
	p := &m.Properties
	var flags byte
	if p.HasPayloadFormat {
		flags |= hasPayloadFormat
	}
	if p.HasExpiry {
		flags |= hasExpiry
	}
	if m.Will {
		flags |= isWill
	}
	if !m.Retain {
		flags |= notRetained
	}
	if m.Refused != nil {
		flags |= isRefused
	}
	b = append(b, flags, m.QoS, m.Version, p.PayloadFormat)
	b = binary.BigEndian.AppendUint32(b, p.Expiry)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Accepted.UnixMilli()))
	b = appendString(b, m.Topic)
	b = appendString(b, m.ClientID)
	b = appendString(b, m.Username)
	b = appendString(b, p.ContentType)
	b = appendString(b, p.ResponseTopic)
	b = appendString(b, p.CorrelationData)
	b = binary.AppendUvarint(b, uint64(len(p.User)))
	for _, u := range p.User {
		b = appendString(b, u.Key)
		b = appendString(b, u.Value)
	}
	return appendString(b, m.Payload)
}

// decoder reads an event, or what a session is owed.
type decoder struct{ coding.Decoder }

// decodeEvent is the inverse of encode. The event shares nothing with p.
func decodeEvent(p []byte) (event, error) {
	c := &decoder{coding.NewDecoder(p)}
	e := event{kind: eventKind(c.Byte())}
	switch e.kind {
	case eventSession:
		e.client, e.expiry = c.String(), c.Uint32()
	case eventEnd:
		e.client = c.String()
	case eventSubscribe:
		e.client, e.sub.filter = c.String(), c.String()
		e.sub.setOptions(c.Byte())
		e.sub.identifier = int(c.Uvarint() & 0x0fff_ffff)
		if _, filter, ok := shareName(e.sub.filter); !ok || !validFilter(filter, len(filter)+1) {
			c.Fail()
		}
	case eventUnsubscribe:
		e.client, e.sub.filter = c.String(), c.String()
	case eventInbound:
		e.client, e.id = c.String(), c.Uint16()
		e.place = Place(c.Take(shortPlace))
		if c.Len() > 0 {
			e.number = c.Uint64()
		}
	case eventInboundAt:
		e.client, e.id = c.String(), c.Uint16()
		e.place, e.number = Place(c.Bytes()), c.Uint64()
	case eventRelease:
		e.client, e.id = c.String(), c.Uint16()
	case eventRetain:
		e.message = c.message()
	case eventUnretain:
		e.topic = c.String()
	default:
		if !e.kind.known() {
			return event{}, fmt.Errorf("%w: kind %d", errEvent, e.kind)
		}
		c.owing(&e)
	}
	if !c.Done() {
		return event{}, fmt.Errorf("%w: kind %d", errEvent, e.kind)
	}
	return e, nil
}

// message reads a retained message, which is never empty.
func (c *decoder) message() *Message {
	m := c.anyMessage()
	if len(m.Payload) == 0 || !m.Retain {
		c.Fail()
	}
	return m
}

func (c *decoder) anyMessage() *Message {
	flags := c.Byte()
	m := &Message{Retain: flags&notRetained == 0, QoS: c.Byte(), Version: c.Byte(), Will: flags&isWill != 0}
	p := &m.Properties
	p.HasPayloadFormat, p.HasExpiry = flags&hasPayloadFormat != 0, flags&hasExpiry != 0
	p.PayloadFormat, p.Expiry = c.Byte(), c.Uint32()
	m.Accepted = time.UnixMilli(int64(c.Uint64()))
	m.Topic, m.ClientID, m.Username = c.String(), c.String(), c.String()
	p.ContentType, p.ResponseTopic = c.String(), c.String()
	if data := c.Bytes(); len(data) > 0 {
		p.CorrelationData = append([]byte(nil), data...)
	}
	for range c.Uvarint() {
		if c.Bad() {
			break
		}
		p.User = append(p.User, UserProperty{c.String(), c.String()})
	}
	m.Payload = append([]byte(nil), c.Bytes()...)
	if flags&isRefused != 0 {
		m.Refused = &Refusal{Reason: "the topic name of a will from before a restart is not allowed", Size: int64(len(m.Payload))}
	}
	if m.QoS > 2 || m.Topic == "" {
		c.Fail()
	}
	return m
}
