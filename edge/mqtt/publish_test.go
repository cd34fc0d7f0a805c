package mqtt

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestProperties: what a publisher says about a message reaches the Backend
// and the subscriber [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
// [MQTT-3.3.2-17] [MQTT-3.3.2-20].
func TestProperties(t *testing.T) {
	s := start(t, Options{})
	sub := join(t, s, 5, "sub", true)
	sub.subscribe(filter("a", 1))
	pub := join(t, s, 5, "pub", true)
	pk := publishPacket("a", "x", 1, 9)
	pk.Properties = packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 100, ContentType: "text/plain",
		ResponseTopic: "r/t", CorrelationData: []byte{1, 2},
		User: []packets.UserProperty{{Key: "k", Val: "1"}, {Key: "k", Val: "2"}},
	}
	pub.send(pk)
	pub.ackOf(packets.Puback, 9)
	got := sub.message("x").Properties
	if !got.PayloadFormatFlag || got.PayloadFormat != 1 || got.ContentType != "text/plain" || got.ResponseTopic != "r/t" ||
		string(got.CorrelationData) != "\x01\x02" || len(got.User) != 2 || got.User[1].Val != "2" {
		t.Fatalf("subscriber got %+v", got)
	}
	if e := got.MessageExpiryInterval; e < 99 || e > 100 {
		t.Fatalf("expiry %d", e)
	}
	m := s.backend.messages[0]
	if m.ClientID != "pub" || m.Version != 5 || m.Properties.ContentType != "text/plain" || !m.Properties.HasExpiry ||
		m.Properties.Expiry != 100 || len(m.Properties.User) != 2 || time.Since(m.Accepted) > time.Minute {
		t.Fatalf("backend got %+v", m)
	}
}

func TestTopicAlias(t *testing.T) {
	s := start(t, Options{})
	c := join(t, s, 5, "c", true)
	send := func(topic, payload string, alias uint16) {
		pk := publishPacket(topic, payload, 1, 1)
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
		c.send(pk)
		c.ackOf(packets.Puback, 1)
	}
	send("a", "1", 1)
	send("", "2", 1)
	send("b", "3", 1) // the alias moves
	send("", "4", 1)
	for i, want := range []string{"a", "a", "b", "b"} {
		if got := s.backend.messages[i].Topic; got != want {
			t.Fatalf("message %d went to %q, want %q", i, got, want)
		}
	}
}

// TestOtherDollarTopics: topics that begin with $ and are not the broker's own go
// from client to client; wildcards at the first level do not see them [MQTT-4.7.2-1].
func TestOtherDollarTopics(t *testing.T) {
	s := start(t, Options{})
	sub, all := join(t, s, 4, "sub", true), join(t, s, 4, "all", true)
	sub.subscribe(filter("$aws/things/+/shadow", 1))
	all.subscribe(filter("#", 1))
	join(t, s, 4, "pub", true).publish("$aws/things/pump/shadow", "x", 1, 2)
	sub.message("x")
	all.silent()
}

// TestReceiveMaximumInbound: one PUBLISH beyond the maximum is 0x93
// [MQTT-3.3.4-9]; QoS 2 holds its share until PUBCOMP.
func TestReceiveMaximumInbound(t *testing.T) {
	s := start(t, Options{ReceiveMaximum: 2})
	c := join(t, s, 5, "c", true)
	for round := range 5 {
		for id := uint16(1); id <= 2; id++ {
			c.send(publishPacket("a", "x", 2, id))
			c.ackOf(packets.Pubrec, id)
		}
		for id := uint16(1); id <= 2; id++ {
			c.send(ackPacket(packets.Pubrel, id))
			c.ackOf(packets.Pubcomp, id)
		}
		c.publish("a", "y", 1, 3)
		_ = round
	}
	for id := uint16(1); id <= 2; id++ {
		c.send(publishPacket("a", "x", 2, id))
		c.ackOf(packets.Pubrec, id)
	}
	c.send(publishPacket("a", "x", 1, 3))
	c.closed(0x93)
}

// TestReceiveMaximumOutbound: a subscriber with a window of one gets one
// message at a time, and all of them.
func TestReceiveMaximumOutbound(t *testing.T) {
	s := start(t, Options{})
	pk := connectPacket(5, "sub", true)
	pk.Properties.ReceiveMaximum = 1
	sub, _ := logIn(t, s, pk)
	sub.subscribe(filter("a", 2))
	pub := join(t, s, 5, "pub", true)
	const n = 50
	for i := range n {
		pub.publish("a", string(rune('A'+i)), 1+byte(i%2), uint16(i+1))
	}
	for i := range n {
		pk := sub.expect(packets.Publish)
		if string(pk.Payload) != string(rune('A'+i)) {
			t.Fatalf("message %d is %q", i, pk.Payload)
		}
		sub.silent()
		sub.settle(pk)
	}
}

// TestMaximumPacketOutbound: a message that is too large for a subscriber is
// left out, and holds nothing up [MQTT-3.1.2-24] [MQTT-3.1.2-25].
func TestMaximumPacketOutbound(t *testing.T) {
	s := start(t, Options{})
	pk := connectPacket(5, "sub", true)
	pk.Properties.MaximumPacketSize, pk.Properties.ReceiveMaximum = 100, 1
	sub, _ := logIn(t, s, pk)
	sub.subscribe(filter("a", 1))
	pub := join(t, s, 5, "pub", true)
	pub.publish("a", "1", 1, 1)
	pub.publish("a", string(make([]byte, 200)), 1, 2)
	pub.publish("a", "3", 1, 3)
	sub.message("1")
	sub.message("3")
	if n := s.Stats().Dropped; n != 1 {
		t.Fatalf("%d dropped", n)
	}
}

// TestRequestProblemInfo: a client that declines reason strings gets none
// [MQTT-3.1.2-29].
func TestRequestProblemInfo(t *testing.T) {
	b := newBackend()
	b.refuse = func(*Message) error { return ErrFull }
	s := start(t, Options{Backend: b})
	for _, want := range []bool{true, false} {
		pk := connectPacket(5, "c", true)
		if !want {
			pk.Properties.RequestProblemInfoFlag = true
		}
		c, _ := logIn(t, s, pk)
		c.send(publishPacket("a", "x", 1, 1))
		if ack := c.ackOf(packets.Puback, 1); ack.ReasonCode != 0x97 || (ack.Properties.ReasonString != "") != want {
			t.Fatalf("PUBACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
	}
}
