package mqtt

import (
	"bytes"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestSubackCodes(t *testing.T) {
	s := start(t, Options{MaxSubscriptions: 2, May: Permissions{Subscribe: func(_, _, f string) bool { return f != "secret" }}})
	for version, want := range map[byte][]byte{
		4: {0x80, 0x80, 0, 1, 0x80},
		5: {0x8f, 0x80, 0, 1, 0x97},
	} {
		c := join(t, s, version, "c", true)
		got := c.subscribe(filter("a#", 0), filter("secret", 0), filter("a", 0), filter("b", 1), filter("c", 2))
		if !bytes.Equal(got, want) {
			t.Errorf("version %d: %x, want %x", version, got, want)
		}
		if got := c.subscribe(filter("b", 2)); got[0] != 2 {
			t.Errorf("replacing: %x", got) // [MQTT-3.8.4-3]
		}
	}
}

// TestSubscribeToUnreadable: a filter that can match nothing but a topic which the client
// may not read is refused, with words for MQTT 5.
func TestSubscribeToUnreadable(t *testing.T) {
	s, _ := startWith(t, "topic read a\ntopic write secret")
	for _, version := range []byte{4, 5} {
		c := join(t, s, version, "c", true)
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 77,
			Filters: packets.Subscriptions{filter("secret", 1), filter("$share/g/secret", 1), filter("+", 1), filter("a", 1)}})
		ack := c.ackOf(packets.Suback, 77)
		if !bytes.Equal(ack.ReasonCodes, []byte{0x80, 0x80, 1, 1}) {
			t.Errorf("version %d: SUBACK %x", version, ack.ReasonCodes)
		}
		if told := ack.Properties.ReasonString != ""; told != (version == 5) {
			t.Errorf("version %d: reason %q", version, ack.Properties.ReasonString)
		}
	}
}

func TestUnsubscribe(t *testing.T) {
	s := start(t, Options{})
	c := join(t, s, 5, "c", true)
	c.subscribe(filter("a", 0), filter("b", 0))
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3,
		Filters: packets.Subscriptions{filter("a", 0), filter("x", 0)},
	})
	if codes := c.ackOf(packets.Unsuback, 3).ReasonCodes; !bytes.Equal(codes, []byte{0, 0x11}) {
		t.Fatalf("UNSUBACK %x", codes)
	}
	c.publish("a", "1", 0, 0)
	c.publish("b", "2", 0, 0)
	c.message("2")
	if n := s.Stats().Subscriptions; n != 1 {
		t.Fatalf("%d subscriptions", n)
	}
}

// TestSubscribeOptions: no local [MQTT-3.8.3-3], retain as published
// [MQTT-3.3.1-12] [MQTT-3.3.1-13], identifiers [MQTT-3.3.4-3] to
// [MQTT-3.3.4-5], one delivery for overlapping subscriptions with the highest
// QoS [MQTT-3.3.4-2].
func TestSubscribeOptions(t *testing.T) {
	s := start(t, Options{})
	c := join(t, s, 5, "c", true)
	other := join(t, s, 5, "o", true)
	sub := func(id int, f packets.Subscription) {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{f}}
		if id > 0 {
			pk.Properties.SubscriptionIdentifier = []int{id}
		}
		c.send(pk)
		c.ackOf(packets.Suback, 1)
	}
	sub(0, packets.Subscription{Filter: "own", NoLocal: true})
	c.publish("own", "mine", 1, 1)
	other.publish("own", "theirs", 1, 1)
	c.message("theirs")

	sub(0, packets.Subscription{Filter: "rap", RetainAsPublished: true})
	sub(0, packets.Subscription{Filter: "norap"})
	for _, topic := range []string{"rap", "norap"} {
		pk := publishPacket(topic, topic, 1, 1)
		pk.FixedHeader.Retain = true
		other.send(pk)
		other.ackOf(packets.Puback, 1)
	}
	if !c.message("rap").FixedHeader.Retain || c.message("norap").FixedHeader.Retain {
		t.Fatal("retain flags are wrong")
	}

	sub(7, filter("o/#", 0))
	sub(200000, filter("o/+", 2))
	other.publish("o/x", "once", 2, 2)
	pk := c.message("once")
	ids := pk.Properties.SubscriptionIdentifier
	if pk.FixedHeader.Qos != 2 || len(ids) != 2 || ids[0]+ids[1] != 200007 {
		t.Fatalf("QoS %d, identifiers %v", pk.FixedHeader.Qos, ids)
	}
	c.silent()
}

// TestRetained: §3.3.1.3.
func TestRetained(t *testing.T) {
	s := start(t, Options{})
	pub := join(t, s, 5, "pub", true)
	retain := func(topic, payload string) {
		pk := publishPacket(topic, payload, 1, 1)
		pk.FixedHeader.Retain = true
		pub.send(pk)
		pub.ackOf(packets.Puback, 1)
	}
	retain("a", "1")
	retain("a", "2") // replaces [MQTT-3.3.1-5]
	retain("a/b", "3")
	retain("$x", "4")
	retain("gone", "5")
	retain("gone", "") // removes [MQTT-3.3.1-6]

	c := join(t, s, 5, "c", true)
	c.subscribe(filter("a/#", 1)) // `a/#` matches `a`
	got := map[string]bool{}
	for range 2 {
		pk := c.expect(packets.Publish)
		c.settle(pk)
		if !pk.FixedHeader.Retain {
			t.Fatal("retain flag is missing") // [MQTT-3.3.1-8]
		}
		got[string(pk.Payload)] = true
	}
	if !got["2"] || !got["3"] {
		t.Fatalf("got %v", got)
	}
	c.subscribe(packets.Subscription{Filter: "a", RetainHandling: 1})
	c.message("2")
	c.subscribe(packets.Subscription{Filter: "a", RetainHandling: 1}) // not new [MQTT-3.3.1-10]
	c.subscribe(packets.Subscription{Filter: "a", RetainHandling: 2}) // never [MQTT-3.3.1-11]
	c.subscribe(filter("gone", 1), filter("$share/g/a", 1))           // never for shared ones
	c.subscribe(filter("+", 0))                                       // not `$x` [MQTT-4.7.2-1]
	c.message("2")
	c.subscribe(filter("$x", 0))
	c.message("4")
	c.silent()
}

func TestRetainedLimit(t *testing.T) {
	s := start(t, Options{MaxRetained: 2})
	c := join(t, s, 4, "c", true)
	for i, topic := range []string{"a", "b", "c", "a"} {
		pk := publishPacket(topic, "x", 1, uint16(i+1))
		pk.FixedHeader.Retain = true
		c.send(pk)
		c.ackOf(packets.Puback, uint16(i+1))
	}
	if n := s.Stats(); n.Retained != 2 || n.Stored != 4 {
		t.Fatalf("%+v", n)
	}
}

// TestShared: every message goes to one member [MQTT-4.8.2-4], and not to one
// that is offline while another is there.
func TestShared(t *testing.T) {
	s := start(t, Options{})
	a := join(t, s, 5, "a", true)
	b := join(t, s, 5, "b", true)
	off, _ := joinKept(t, s, "off")
	for _, c := range []*testClient{a, b, off} {
		c.subscribe(filter("$share/g/t/+", 1))
	}
	off.disconnect()
	all := join(t, s, 5, "all", true)
	all.subscribe(filter("t/#", 1))
	pub := join(t, s, 5, "pub", true)
	const n = 20
	for i := range n {
		pub.publish("t/x", string(rune('A'+i)), 1, uint16(i+1))
	}
	for i := range n {
		all.message(string(rune('A' + i)))
	}
	seen := map[string]int{}
	for _, c := range []*testClient{a, b} {
		for {
			pk, err := c.next(200 * time.Millisecond)
			if err != nil {
				break
			}
			c.settle(pk)
			seen[string(pk.Payload)]++
			if c == a {
				seen["a"]++
			}
		}
	}
	if seen["a"] == 0 || seen["a"] == n || len(seen) != n+1 {
		t.Fatalf("got %v", seen)
	}
}
