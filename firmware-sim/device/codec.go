package device

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Control packet types [MQTT-2.1.2].
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

// maxPacket is the largest packet that a broker may send to a device, which only gets acks.
const maxPacket = 64 << 10

// errMalformed: the broker sent something that is not MQTT.
var errMalformed = errors.New("malformed packet")

// packet is an answer from the broker.
type packet struct {
	kind           byte
	id             uint16 // of the PUBLISH that it answers
	reason         byte   // MQTT 5 reason or 3.x return code
	sessionPresent bool   // CONNACK
}

// appendConnect appends a CONNECT without a will. Version is 3 (MQIsdp), 4
// (3.1.1) or 5; the session survives the connection.
func appendConnect(dst []byte, version byte, id, user, password string, keepAlive uint16) []byte {
	name := "MQTT"
	if version == 3 {
		name = "MQIsdp"
	}
	body := appendString(nil, name)
	flags := byte(0) // clean start and clean session off
	if user != "" {
		flags |= 0x80
	}
	if password != "" {
		flags |= 0x40
	}
	body = append(body, version, flags)
	body = binary.BigEndian.AppendUint16(body, keepAlive)
	if version == 5 {
		// Session Expiry Interval 0x11: keep the session for a day.
		body = append(body, 5, 0x11)
		body = binary.BigEndian.AppendUint32(body, 86400)
	}
	body = appendString(body, id)
	if user != "" {
		body = appendString(body, user)
	}
	if password != "" {
		body = appendString(body, password)
	}
	return appendPacket(dst, typeConnect<<4, body)
}

// appendPublish appends a PUBLISH. id is used for QoS 1 and 2 only.
func appendPublish(dst []byte, version byte, topic string, payload []byte, qos byte, id uint16, dup bool) []byte {
	size := 2 + len(topic) + len(payload)
	if qos > 0 {
		size += 2
	}
	if version == 5 {
		size++
	}
	first := byte(typePublish<<4) | qos<<1
	if dup {
		first |= 0x08
	}
	dst = append(dst, first)
	dst = binary.AppendUvarint(dst, uint64(size)) // for these sizes the same encoding as MQTT's
	dst = appendString(dst, topic)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	if version == 5 {
		dst = append(dst, 0)
	}
	return append(dst, payload...)
}

func appendPubrel(dst []byte, id uint16) []byte {
	return append(dst, typePubrel<<4|0x02, 2, byte(id>>8), byte(id))
}

func appendPingreq(dst []byte) []byte    { return append(dst, typePingreq<<4, 0) }
func appendDisconnect(dst []byte) []byte { return append(dst, typeDisconnect<<4, 0) }

func appendPacket(dst []byte, first byte, body []byte) []byte {
	dst = append(dst, first)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// readPacket reads one answer of the broker.
func readPacket(r *bufio.Reader) (packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return packet{}, err
	}
	if size > maxPacket {
		return packet{}, fmt.Errorf("%w: %d bytes", errMalformed, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return packet{}, err
	}
	return parse(first, body)
}

func parse(first byte, body []byte) (packet, error) {
	p := packet{kind: first >> 4}
	switch p.kind {
	case typeConnack:
		if len(body) < 2 {
			return p, fmt.Errorf("%w: CONNACK of %d bytes", errMalformed, len(body))
		}
		p.sessionPresent, p.reason = body[0]&1 == 1, body[1]
	case typePuback, typePubrec, typePubcomp:
		if len(body) < 2 {
			return p, fmt.Errorf("%w: ack of %d bytes", errMalformed, len(body))
		}
		p.id = binary.BigEndian.Uint16(body)
		if len(body) > 2 {
			p.reason = body[2]
		}
	case typeDisconnect:
		if len(body) > 0 {
			p.reason = body[0]
		}
	case typePingresp:
	default:
		return p, fmt.Errorf("%w: type %d", errMalformed, p.kind)
	}
	return p, nil
}
