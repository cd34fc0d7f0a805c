package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// handleAck handles PUBACK, PUBREC and PUBCOMP for what this client received,
// and PUBREL for what it published with QoS 2 (§3.4 to §3.7).
func (c *conn) handleAck(h packets.FixedHeader, body []byte) error {
	if err := checkAck(c.version, body); err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	var err error
	switch h.Type {
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	}
	if err != nil {
		return protocolError(err)
	}
	if pk.PacketID == 0 {
		return packets.ErrProtocolViolationNoPacketID
	}
	switch h.Type {
	case packets.Puback:
		c.session.complete(c, pk.PacketID, 1)
	case packets.Pubcomp:
		c.session.complete(c, pk.PacketID, 2)
	case packets.Pubrec:
		return c.handlePubrec(pk.PacketID, pk.ReasonCode)
	case packets.Pubrel:
		// [MQTT-4.3.3-12]: PUBCOMP follows when the removal is durable.
		if !c.s.queue.put(&work{kind: workPubrel, conn: c, client: c.clientID, id: pk.PacketID}) {
			return ErrClosed
		}
	}
	return nil
}

// handlePubrec answers PUBREL [MQTT-4.3.3-4]. A PUBREC with an error ends the delivery.
func (c *conn) handlePubrec(id uint16, reason byte) error {
	if reason >= 0x80 {
		c.session.complete(c, id, 2)
		return nil
	}
	switch c.session.release(c, id) {
	case releasedNow:
		c.ack(packets.Pubrel, id, packets.CodeSuccess)
	case releasedUnknown:
		c.ack(packets.Pubrel, id, packets.ErrPacketIdentifierNotFound)
	case releasedDurable:
		if !c.s.queue.put(&work{kind: workPubrec, conn: c, client: c.clientID, id: id}) {
			return ErrClosed
		}
	case releasedLater:
	}
	return nil
}
