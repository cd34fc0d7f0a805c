package mqtt

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/mochi-mqtt/server/v2/packets"
)

// maxFrame is the largest packet that the protocol can express: one byte, four of length,
// and the largest length (§1.5.5, §2.1.4).
const maxFrame = 1 + 4 + 268_435_455

// dupFlag is the DUP bit of a fixed header.
const dupFlag = 1 << 3

// readHeader reads the fixed header of a packet. It refuses a packet of more than limit
// bytes (0x95) before anything is allocated for it.
//
// It does not use the codec's own length reader, which would follow continuation bytes
// for ever. Unless hurry is nil, it is called before readHeader waits for the rest of a
// header. With dup it accepts the DUP flag where MQTT 3.1 has it and later versions do not.
func readHeader(r *bufio.Reader, limit int, dup bool, hurry func()) (h packets.FixedHeader, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return h, err
	}
	if kind := first >> 4; dup && (kind == packets.Pubrel || kind == packets.Subscribe || kind == packets.Unsubscribe) {
		first &^= dupFlag // MQTT 3.1 §3.6, §3.8, §3.10
	}
	if err := h.Decode(first); err != nil || h.Type == packets.Reserved {
		return h, packets.ErrMalformedFlags // [MQTT-2.1.3-1] [MQTT-3.3.1-4]
	}
	used := 1
	for shift := 0; ; shift += 7 {
		if shift == 28 {
			return h, packets.ErrMalformedVariableByteInteger
		}
		if hurry != nil && r.Buffered() == 0 {
			hurry()
		}
		b, err := r.ReadByte()
		if err != nil {
			return h, unexpected(err)
		}
		used++
		h.Remaining |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	if used+h.Remaining > limit {
		return h, packets.ErrPacketTooLarge
	}
	return h, nil
}

// unexpected turns an end of the stream inside a packet into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encodePacket appends pk to b. By default the codec drops response topic and correlation
// data; the Mods prevent that.
func encodePacket(b *bytes.Buffer, pk *packets.Packet) error {
	pk.Mods.AllowResponseInfo = true
	switch pk.FixedHeader.Type {
	case packets.Connack:
		return pk.ConnackEncode(b)
	case packets.Publish:
		return pk.PublishEncode(b)
	case packets.Puback:
		return pk.PubackEncode(b)
	case packets.Pubrec:
		return pk.PubrecEncode(b)
	case packets.Pubrel:
		pk.FixedHeader.Qos = 1 // its flags are 0010 [MQTT-3.6.1-1]
		return pk.PubrelEncode(b)
	case packets.Pubcomp:
		return pk.PubcompEncode(b)
	case packets.Suback:
		return pk.SubackEncode(b)
	case packets.Unsuback:
		return pk.UnsubackEncode(b)
	case packets.Pingresp:
		return pk.PingrespEncode(b)
	case packets.Disconnect:
		return pk.DisconnectEncode(b)
	default:
		return fmt.Errorf("no encoder for packet type %d", pk.FixedHeader.Type)
	}
}
