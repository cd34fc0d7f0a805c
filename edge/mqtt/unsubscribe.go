package mqtt

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// handleUnsubscribe puts an UNSUBSCRIBE on the queue: UNSUBACK follows when
// the removal is durable (§3.10).
func (c *conn) handleUnsubscribe(h packets.FixedHeader, body []byte) error {
	if _, err := checkFilters(c.version, body, false); err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	if err := pk.UnsubscribeDecode(body); err != nil {
		return protocolError(err)
	}
	if pk.PacketID == 0 {
		return packets.ErrProtocolViolationNoPacketID
	}
	if len(pk.Filters) == 0 {
		return packets.ErrProtocolViolationNoFilters // [MQTT-3.10.3-2]
	}
	w := &work{kind: workUnsubscribe, conn: c, client: c.clientID, id: pk.PacketID, req: new(request)}
	for _, f := range pk.Filters {
		w.req.subs = append(w.req.subs, subscription{filter: strings.Clone(f.Filter)})
	}
	w.req.codes = make([]byte, len(w.req.subs))
	if !c.s.queue.put(w) {
		return ErrClosed
	}
	return nil
}
