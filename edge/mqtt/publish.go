package mqtt

import (
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// handlePublish checks a PUBLISH and puts it on the queue. The reader continues at once,
// unless too many messages of the client are under way.
func (c *conn) handlePublish(h packets.FixedHeader, body []byte) error {
	set, err := checkPublish(c.version, h.Qos, body)
	if err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	if err := pk.PublishDecode(body); err != nil {
		return protocolError(err)
	}
	if h.Qos > 0 && pk.PacketID == 0 {
		return packets.ErrProtocolViolationNoPacketID // [MQTT-2.2.1-3]
	}
	if set.has(packets.PropSubscriptionIdentifier) {
		return packets.ErrProtocolViolationSurplusSubID // [MQTT-3.3.4-6]
	}
	topic, err := c.resolveAlias(&pk, set)
	if err != nil {
		return err
	}
	properties, err := messageProperties(&pk.Properties, set)
	if err != nil {
		return err
	}
	if h.Qos > 0 && c.version == 5 && c.unacked.Add(1) > int32(c.s.o.ReceiveMaximum) {
		return packets.ErrReceiveMaximum // [MQTT-3.3.4-9]
	}
	w := &work{kind: workPublish, conn: c, client: c.clientID, id: pk.PacketID}
	w.message = &Message{
		ClientID: c.clientID, Username: c.username, Topic: topic, Payload: pk.Payload,
		QoS: h.Qos, Retain: h.Retain, Version: c.version, Accepted: time.Now(), Properties: properties,
	}
	w.refuseName(c, c.nameFault(topic)) // [MQTT-3.3.2-2]
	return c.enqueue(w)
}

// enqueue puts a PUBLISH on the queue. It waits while too many messages of the client are
// under way.
func (c *conn) enqueue(w *work) error {
	if !c.s.mayPublish(w.message) {
		w.err, w.message.Refused = ErrNotAllowed, nil
	}
	c.s.count.received.Inc()
	c.window <- struct{}{}
	if !c.s.queue.put(w) {
		return ErrClosed
	}
	return nil
}

// resolveAlias returns the message's topic name, looking up its alias if it has no name, and
// remembers a new alias (§3.3.2.3.4).
func (c *conn) resolveAlias(pk *packets.Packet, set propertySet) (string, error) {
	if !set.has(packets.PropTopicAlias) {
		if pk.TopicName == "" && c.version == 5 {
			return "", packets.ErrProtocolViolationNoTopic
		}
		return pk.TopicName, nil
	}
	alias := pk.Properties.TopicAlias
	if alias == 0 || alias > c.s.o.TopicAliasMaximum {
		return "", packets.ErrTopicAliasInvalid // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
	}
	if pk.TopicName == "" {
		topic, ok := c.aliases[alias]
		if !ok {
			return "", packets.ErrProtocolViolationNoTopic
		}
		return topic, nil
	}
	more := int64(len(pk.TopicName) - len(c.aliases[alias]))
	if _, known := c.aliases[alias]; !known {
		more += aliasCost
	}
	if more > 0 && (!c.account.fits(more) || c.account.shortage(more) > 0) {
		return "", packets.ErrQuotaExceeded // §4.13.1
	}
	c.account.charge(more)
	c.charged += more
	if c.aliases == nil {
		c.aliases = make(map[uint16]string)
	}
	// Clone the name: it is part of the packet, which may be large.
	c.aliases[alias] = strings.Clone(pk.TopicName)
	return pk.TopicName, nil
}

// messageProperties returns the properties that are sent on with a message.
func messageProperties(p *packets.Properties, set propertySet) (Properties, error) {
	if set == 0 {
		return Properties{}, nil
	}
	if set.has(packets.PropResponseTopic) && (p.ResponseTopic == "" || strings.ContainsAny(p.ResponseTopic, "+#")) {
		return Properties{}, packets.ErrProtocolViolation // [MQTT-3.3.2-14]
	}
	out := Properties{
		HasPayloadFormat: set.has(packets.PropPayloadFormat),
		PayloadFormat:    p.PayloadFormat,
		HasExpiry:        set.has(packets.PropMessageExpiryInterval),
		Expiry:           p.MessageExpiryInterval,
		ContentType:      p.ContentType,
		ResponseTopic:    p.ResponseTopic,
		CorrelationData:  p.CorrelationData,
	}
	for _, u := range p.User {
		out.User = append(out.User, UserProperty{u.Key, u.Val})
	}
	return out, nil
}

// quotaBack returns one PUBLISH to the client's send quota (§4.9). A PUBREL for a message of
// an earlier connection took nothing from the quota of this one.
func (c *conn) quotaBack() {
	for {
		n := c.unacked.Load()
		if n == 0 || c.unacked.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// publish writes a PUBLISH to a subscriber. The caller holds the mutex of the session.
func (c *conn) publish(d *delivery) error {
	m := d.message
	if !c.mayRead(m.Topic) {
		return errNotReadable
	}
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: d.qos, Retain: d.retain, Dup: d.dup},
		ProtocolVersion: c.version,
		PacketID:        d.id,
		TopicName:       m.Topic,
		Payload:         m.Payload,
	}
	if c.version == 5 {
		p := &pk.Properties
		p.PayloadFormatFlag, p.PayloadFormat = m.Properties.HasPayloadFormat, m.Properties.PayloadFormat
		if at, ok := m.expires(); ok {
			// The remaining time, rounded up: the codec takes 0 for no expiry [MQTT-3.3.2-6].
			left := (time.Until(at) + time.Second - 1) / time.Second
			p.MessageExpiryInterval = uint32(max(1, left))
		}
		p.ContentType, p.ResponseTopic = m.Properties.ContentType, m.Properties.ResponseTopic
		p.CorrelationData = m.Properties.CorrelationData
		p.SubscriptionIdentifier = d.identifiers
		for _, u := range m.Properties.User {
			p.User = append(p.User, packets.UserProperty{Key: u.Key, Val: u.Value})
		}
		c.outAliases.use(&pk)
	}
	err := c.out.write(&pk, c.maxPacket)
	if err == nil {
		c.outAliases.sent(&pk)
		c.s.count.sent.Inc()
	}
	return err
}
