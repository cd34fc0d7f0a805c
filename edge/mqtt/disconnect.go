package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// withWill is the reason code of a DISCONNECT that asks for the will.
const withWill = 0x04

// handleDisconnect ends the connection at the client's request (§3.14). It removes the
// will unless the client asks for it. MQTT 5 clients may change the session expiry, but
// not from "ends with the connection" to anything else (§3.14.2.2.2).
func (c *conn) handleDisconnect(h packets.FixedHeader, body []byte) error {
	reason, set, err := checkDisconnect(c.version, body)
	if err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	if err := pk.DisconnectDecode(body); err != nil {
		return protocolError(err)
	}
	if set.has(packets.PropSessionExpiryInterval) {
		c.ending.hasExpiry, c.ending.expiry = true, pk.Properties.SessionExpiryInterval
		if c.expiry == 0 && c.ending.expiry != 0 {
			c.ending.hasExpiry = false
			return packets.ErrProtocolViolationZeroNonZeroExpiry
		}
	}
	c.ending.clean = reason != withWill && reason < 0x80
	return errDisconnect
}
