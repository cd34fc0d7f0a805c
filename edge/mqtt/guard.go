package mqtt

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// What the codec (mochi packets v2.7.9) leaves open, and this file closes by
// walking a packet before the codec sees it:
//
//   - SubscribeDecode indexes past the end when the last filter of an MQTT 5
//     SUBSCRIBE has no options byte, and ignores reserved option bits.
//   - Properties.Decode lets the last property run over the end of the
//     property block into what follows, accepts every property twice, accepts
//     values out of range, and cannot tell an expiry, receive maximum or
//     packet size of 0 from an absent one.
//   - DisconnectDecode ignores a reason code that stands alone.
//   - ConnectDecode reads an MQTT 5 body for any protocol version 5 and
//     ignores what follows the password; ConnectValidate refuses empty wills
//     and empty passwords, which are legal, and accepts wildcards in a will
//     topic and a will QoS without a will.
//   - Acknowledgements with trailing bytes and PINGREQ with a body pass.

// propertySet tells which properties were there, by identifier (all < 64).
type propertySet uint64

func (s propertySet) has(id byte) bool { return s&(1<<id) != 0 }

// scanProperties walks the property block at the start of p. It returns the
// block's whole length with its own length field. A property that occurs
// twice, or that has a value out of range, is a protocol error (0x82); one
// with a wrong length is malformed (0x81). Which properties a packet may have
// is left to the codec.
func scanProperties(p []byte) (set propertySet, n int, err error) {
	length, used, ok := varint(p)
	if !ok || length > len(p)-used {
		return 0, 0, packets.ErrMalformedProperties
	}
	n = used + length
	for block := p[used:n]; len(block) > 0; {
		id := block[0]
		size, ok := propertySize(id, block[1:])
		if !ok {
			return 0, 0, packets.ErrMalformedProperties
		}
		if set.has(id) && id != packets.PropUser && id != packets.PropSubscriptionIdentifier {
			return 0, 0, packets.ErrProtocolViolation
		}
		set |= 1 << id
		if !propertyInRange(id, block[1:1+size]) {
			return 0, 0, packets.ErrProtocolViolation
		}
		block = block[1+size:]
	}
	return set, n, nil
}

// propertySize is the length of the value of property id at the start of p
// (§2.2.2.2), false when p is too short or the identifier unknown.
func propertySize(id byte, p []byte) (int, bool) {
	size := 0
	switch id {
	case packets.PropPayloadFormat, packets.PropRequestProblemInfo, packets.PropRequestResponseInfo,
		packets.PropMaximumQos, packets.PropRetainAvailable, packets.PropWildcardSubAvailable,
		packets.PropSubIDAvailable, packets.PropSharedSubAvailable:
		size = 1
	case packets.PropServerKeepAlive, packets.PropReceiveMaximum, packets.PropTopicAliasMaximum,
		packets.PropTopicAlias:
		size = 2
	case packets.PropMessageExpiryInterval, packets.PropSessionExpiryInterval,
		packets.PropWillDelayInterval, packets.PropMaximumPacketSize:
		size = 4
	case packets.PropSubscriptionIdentifier:
		_, used, ok := varint(p)
		return used, ok
	case packets.PropUser:
		key, ok := field(p)
		if !ok {
			return 0, false
		}
		value, ok := field(p[key:])
		return key + value, ok
	case packets.PropContentType, packets.PropResponseTopic, packets.PropCorrelationData,
		packets.PropAssignedClientID, packets.PropAuthenticationMethod, packets.PropAuthenticationData,
		packets.PropResponseInfo, packets.PropServerReference, packets.PropReasonString:
		return field(p)
	default:
		return 0, false
	}
	return size, size <= len(p)
}

// propertyInRange checks the values that the standard calls a protocol error.
func propertyInRange(id byte, value []byte) bool {
	switch id {
	case packets.PropPayloadFormat, packets.PropRequestProblemInfo, packets.PropRequestResponseInfo:
		return value[0] <= 1
	case packets.PropReceiveMaximum:
		return binary.BigEndian.Uint16(value) != 0
	case packets.PropMaximumPacketSize:
		return binary.BigEndian.Uint32(value) != 0
	case packets.PropSubscriptionIdentifier:
		return value[0] != 0 || len(value) > 1
	default:
		return true
	}
}

// varint reads a variable byte integer of at most four bytes (§1.5.5).
func varint(p []byte) (value, used int, ok bool) {
	for i := 0; i < 4 && i < len(p); i++ {
		value |= int(p[i]&0x7f) << (7 * i)
		if p[i]&0x80 == 0 {
			return value, i + 1, true
		}
	}
	return 0, 0, false
}

// field is the length of the length-prefixed bytes at the start of p, prefix
// included.
func field(p []byte) (int, bool) {
	if len(p) < 2 {
		return 0, false
	}
	n := 2 + int(binary.BigEndian.Uint16(p))
	return n, n <= len(p)
}

// checkConnect walks a CONNECT body of a version that is known to be 3, 4 or
// 5, and returns the properties of packet and will.
func checkConnect(body []byte) (props, will propertySet, err error) {
	at, ok := field(body)
	if !ok || len(body) < at+4 {
		return 0, 0, packets.ErrMalformedProtocolName
	}
	version, flags := body[at], body[at+1]
	at += 4
	if flags&1 != 0 {
		return 0, 0, packets.ErrMalformedFlags // [MQTT-3.1.2-3]
	}
	skipProperties := func(set *propertySet) bool {
		if version != 5 {
			return true
		}
		var n int
		*set, n, err = scanProperties(body[at:])
		at += n
		return err == nil
	}
	skip := func() bool {
		n, ok := field(body[at:])
		at += n
		if !ok {
			err = packets.ErrMalformedPacket
		}
		return ok
	}
	ok = skipProperties(&props) && skip()
	if ok && flags&0x04 != 0 {
		ok = skipProperties(&will) && skip() && skip()
	}
	for _, flag := range []byte{0x80, 0x40} {
		if ok && flags&flag != 0 {
			ok = skip()
		}
	}
	if ok && at != len(body) {
		err = packets.ErrMalformedPacket
	}
	return props, will, err
}

// checkPublish walks a PUBLISH body and returns its properties.
func checkPublish(version byte, qos byte, body []byte) (propertySet, error) {
	if version != 5 {
		return 0, nil
	}
	at, ok := field(body)
	if !ok {
		return 0, packets.ErrMalformedTopic
	}
	if qos > 0 {
		at += 2
	}
	if at > len(body) {
		return 0, packets.ErrMalformedPacketID
	}
	set, _, err := scanProperties(body[at:])
	return set, err
}

// checkAck walks the body of a PUBACK, PUBREC, PUBREL or PUBCOMP.
func checkAck(version byte, body []byte) error {
	if len(body) == 2 {
		return nil
	}
	if version != 5 || len(body) < 2 {
		return packets.ErrMalformedPacket
	}
	if len(body) == 3 {
		return nil
	}
	_, n, err := scanProperties(body[3:])
	if err == nil && 3+n != len(body) {
		return packets.ErrMalformedPacket
	}
	return err
}

// checkFilters walks the body of a SUBSCRIBE, or an UNSUBSCRIBE when options
// is false.
func checkFilters(version byte, body []byte, options bool) (propertySet, error) {
	if len(body) < 2 {
		return 0, packets.ErrMalformedPacketID
	}
	var set propertySet
	rest := body[2:]
	if version == 5 {
		var n int
		var err error
		if set, n, err = scanProperties(rest); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	for len(rest) > 0 {
		n, ok := field(rest)
		if !ok {
			return 0, packets.ErrMalformedTopic
		}
		rest = rest[n:]
		if !options {
			continue
		}
		if len(rest) == 0 || !optionsValid(version, rest[0]) {
			return 0, packets.ErrMalformedQos
		}
		rest = rest[1:]
	}
	return set, nil
}

// optionsValid checks a subscription options byte: reserved bits [MQTT-3-8.3-4],
// QoS, retain handling (§3.8.3.1).
func optionsValid(version, b byte) bool {
	if b&3 == 3 {
		return false
	}
	if version != 5 {
		return b&^3 == 0
	}
	return b&0xC0 == 0 && b>>4 != 3
}

// checkDisconnect walks a DISCONNECT body and returns its reason code, also
// when it stands alone.
func checkDisconnect(version byte, body []byte) (reason byte, set propertySet, err error) {
	if len(body) == 0 {
		return 0, 0, nil
	}
	if version != 5 {
		return 0, 0, packets.ErrMalformedPacket
	}
	if len(body) == 1 {
		return body[0], 0, nil
	}
	set, n, err := scanProperties(body[1:])
	if err == nil && 1+n != len(body) {
		err = packets.ErrMalformedPacket
	}
	return body[0], set, err
}

// validString reports whether s may stand in an MQTT string: UTF-8 without
// U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func validString(p []byte) bool {
	for _, b := range p {
		if b == 0 {
			return false
		}
	}
	return utf8.Valid(p)
}
