package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// handlePingreq answers at once, even if the disk is slow [MQTT-3.12.4-1].
func (c *conn) handlePingreq(body []byte) error {
	if len(body) != 0 {
		return packets.ErrMalformedPacket
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}}
	c.out.write(&pk, 0)
	return nil
}
