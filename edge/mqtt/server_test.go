package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestRoundTrip(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		for qos := byte(0); qos <= 2; qos++ {
			s := start(t, Options{})
			sub := join(t, s, version, "sub", true)
			if codes := sub.subscribe(filter("a/+", qos)); codes[0] != qos {
				t.Fatalf("granted %d, want %d", codes[0], qos)
			}
			pub := join(t, s, version, "pub", true)
			pub.publish("a/b", "hello", qos, 1)
			pk := sub.message("hello")
			if pk.TopicName != "a/b" || pk.FixedHeader.Qos != qos || pk.FixedHeader.Retain {
				t.Fatalf("got %+v", pk)
			}
			pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			pub.expect(packets.Pingresp)
			pub.disconnect()
			sub.disconnect()
			s.Close()
		}
	}
}
