package edge

import (
	"encoding/binary"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/storage/weir"
)

// place is where a message lies on this gateway. It is known before the message is
// stored. The MQTT server stores its bytes (edge/mqtt/FORMAT.md): 12 of the buffer, 1 of
// the lane, 8 of the sequence, big-endian.
type place struct {
	buffer weir.BufferID
	lane   uint8 // letterLane: seq is the number of a refused letter
	seq    uint64
}

// stays is the place of a message that stays on the gateway: nothing of it has to
// become durable.
var stays place

const staysPlace mqtt.Place = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

const placeSize = len(staysPlace)

func (p place) encode() mqtt.Place {
	b := make([]byte, 0, placeSize)
	b = append(b, p.buffer[:]...)
	b = append(b, p.lane)
	return mqtt.Place(binary.BigEndian.AppendUint64(b, p.seq))
}

// decodePlace is the inverse of encode; it returns false if the bytes are not a place.
func decodePlace(at mqtt.Place) (p place, ok bool) {
	if len(at) != placeSize {
		return p, false
	}
	n := copy(p.buffer[:], at)
	p.lane, p.seq = at[n], binary.BigEndian.Uint64([]byte(at[n+1:]))
	return p, true
}
