package mqtt

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// handleSubscribe checks every filter of a SUBSCRIBE and puts it on the queue. SUBACK follows
// when the subscription is durable, in order with what the client published before.
func (c *conn) handleSubscribe(h packets.FixedHeader, body []byte) error {
	set, err := checkFilters(c.version, body, true)
	if err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	if err := pk.SubscribeDecode(body); err != nil {
		return protocolError(err)
	}
	if pk.PacketID == 0 {
		return packets.ErrProtocolViolationNoPacketID // [MQTT-2.2.1-3]
	}
	if len(pk.Filters) == 0 {
		return packets.ErrProtocolViolationNoFilters // [MQTT-3.8.3-2]
	}
	identifier := 0
	if set.has(packets.PropSubscriptionIdentifier) {
		if len(pk.Properties.SubscriptionIdentifier) != 1 {
			return packets.ErrProtocolViolation // §3.8.2.1.2
		}
		identifier = pk.Properties.SubscriptionIdentifier[0]
	}
	w := &work{kind: workSubscribe, conn: c, client: c.clientID, id: pk.PacketID, req: new(request)}
	for _, f := range pk.Filters {
		sub := subscription{
			filter: strings.Clone(f.Filter), qos: f.Qos, noLocal: f.NoLocal,
			retainAsPublished: f.RetainAsPublished, retainHandling: f.RetainHandling, identifier: identifier,
		}
		if c.bridge {
			// The other broker does not get back what it sent, and sees which messages are
			// retained, as its own clients would.
			share, _, _ := shareName(sub.filter)
			sub.noLocal, sub.retainAsPublished = share == "", true
		}
		code, err := c.checkFilter(sub)
		if err != nil {
			return err
		}
		if code == notGranted && c.version == 5 {
			w.req.reason = "not authorized to subscribe to " + strings.ToValidUTF8(sub.filter[:min(len(sub.filter), 200)], "")
		}
		w.req.subs = append(w.req.subs, sub)
		w.req.codes = append(w.req.codes, code)
	}
	if !c.s.queue.put(w) {
		return ErrClosed
	}
	return nil
}

// checkFilter returns the SUBACK code of one filter: the granted QoS or an
// error.
func (c *conn) checkFilter(sub subscription) (byte, error) {
	share, filter, ok := shareName(sub.filter)
	if !ok || !validFilter(filter, c.s.o.MaxTopicLevels) {
		return subackCode(c.version, packets.ErrTopicFilterInvalid), nil
	}
	if share != "" && sub.noLocal {
		return 0, packets.ErrProtocolViolationInvalidSharedNoLocal // [MQTT-3.8.3-4]
	}
	if may := c.s.o.May.Subscribe; may != nil && !may(c.clientID, c.username, sub.filter) {
		return subackCode(c.version, ErrNotAllowed), nil
	}
	return sub.qos, nil
}

// replays reports whether the subscription, which may be new, causes retained messages to be sent
// [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
func (s *subscription) replays(added bool) bool {
	share, _, _ := shareName(s.filter)
	return share == "" && (s.retainHandling == 0 || s.retainHandling == 1 && added)
}
