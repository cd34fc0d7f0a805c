package mqtt

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/mochi-mqtt/server/v2/packets"
)

// maxFrame is the largest packet that the protocol can express: one byte, four
// of length, and what they can say (§1.5.5, §2.1.4).
const maxFrame = 1 + 4 + 268_435_455

// readChunk is what is allocated for a large packet before any of it came.
const readChunk = 32 << 10

// readFrame reads one packet. It refuses a packet of more than limit bytes
// from its header alone (0x95), and allocates no more than twice what really
// arrived: a header that promises a megabyte costs its sender a megabyte too.
//
// The codec's own length reader is not used: it would follow continuation
// bytes for ever.
func readFrame(r *bufio.Reader, limit int) (h packets.FixedHeader, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return h, nil, err
	}
	if err := h.Decode(first); err != nil || h.Type == packets.Reserved {
		return h, nil, packets.ErrMalformedFlags // [MQTT-2.1.3-1] [MQTT-3.3.1-4]
	}
	used := 1
	for shift := 0; ; shift += 7 {
		if shift == 28 {
			return h, nil, packets.ErrMalformedVariableByteInteger
		}
		b, err := r.ReadByte()
		if err != nil {
			return h, nil, unexpected(err)
		}
		used++
		h.Remaining |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	if used+h.Remaining > limit {
		return h, nil, packets.ErrPacketTooLarge
	}
	body = make([]byte, min(h.Remaining, readChunk))
	for have := 0; ; {
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			return h, nil, unexpected(err)
		}
		have = len(body)
		if have == h.Remaining {
			return h, body, nil
		}
		body = append(body, make([]byte, min(have, h.Remaining-have))...)
	}
}

// unexpected marks an end of the stream inside a packet.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encodePacket appends pk to b. The codec drops response topic and
// correlation data unless told otherwise, hence the Mods.
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
