package mqtt

import (
	"strconv"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// connectBridge is the CONNECT of a mosquitto bridge: the version has a bit more, and
// the will says below $SYS that the bridge is down.
func connectBridge(version byte, id string) []byte {
	pk := connectPacket(version, id, false)
	pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillQos = true, true, 1
	pk.Connect.WillTopic, pk.Connect.WillPayload = "$SYS/broker/connection/"+id+"/state", []byte("0")
	p := encode(pk)
	at := 8 // behind the fixed header and the name
	if version == 3 {
		at = 10
	}
	if p[at] != version {
		panic("the version is somewhere else")
	}
	p[at] |= bridgeBit
	return p
}

func joinBridge(t *testing.T, s *testServer, version byte, id string) *testClient {
	c := dial(t, s)
	c.version = version
	c.raw(connectBridge(version, id))
	if ack := c.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// TestBridge: the connection of another broker gets nothing back that it brought, sees
// which messages are retained, and may say below $SYS/broker/connection whether it is
// there; that is neither stored nor kept.
func TestBridge(t *testing.T) {
	for _, version := range []byte{3, 4} {
		s := start(t, Options{})
		watch := join(t, s, 4, "watch", true)
		watch.subscribe(filter("$SYS/broker/connection/#", 1))
		b := joinBridge(t, s, version, "site")
		b.subscribe(filter("#", 1))
		state := publishPacket("$SYS/broker/connection/site/state", "1", 1, 5)
		state.FixedHeader.Retain = true
		b.send(state)
		b.ackOf(packets.Puback, 5)
		watch.message("1")
		b.publish("a", "mine", 1, 6)
		b.silent()
		kept := publishPacket("b", "kept", 1, 7)
		kept.FixedHeader.Retain = true
		watch.send(kept)
		watch.ackOf(packets.Puback, 7)
		if pk := b.message("kept"); !pk.FixedHeader.Retain {
			t.Errorf("version %d: retain flag is lost", version)
		}
		late := join(t, s, 4, "late", true)
		late.subscribe(filter("$SYS/broker/connection/#", 1))
		if pk := late.message("1"); !pk.FixedHeader.Retain {
			t.Errorf("version %d: the state is not retained", version)
		}
		b.nc.Close()
		watch.message("0")
		for _, p := range s.backend.payloads() {
			if p != "mine" && p != "kept" {
				t.Errorf("version %d: stored %q", version, p)
			}
		}
		for _, p := range s.store.snapshot().events {
			if e, err := decodeEvent(p); err != nil || e.kind == eventRetain && e.message.Topic != "b" {
				t.Errorf("version %d: event %+v %v", version, e, err)
			}
		}
		if n := len(s.backend.letters()); n != 0 {
			t.Errorf("version %d: %d letters", version, n)
		}
	}
}

// TestBridgeAfterRestart: a bridge's subscription stays one that gets nothing back.
func TestBridgeAfterRestart(t *testing.T) {
	s := start(t, Options{})
	joinBridge(t, s, 4, "site").subscribe(filter("#", 1))
	again := start(t, Options{Store: s.store.snapshot()})
	b := joinBridge(t, again, 4, "site")
	b.publish("a", "mine", 1, 1)
	b.silent()
}

// TestOwnState: a bridge that speaks MQTT 5 has no bit in its version; it tells its own
// state and no other's.
func TestOwnState(t *testing.T) {
	s := start(t, Options{})
	c := join(t, s, 5, "site", true)
	c.publish("$SYS/broker/connection/site/state", "1", 1, 1)
	c.send(publishPacket("$SYS/broker/connection/other/state", "1", 1, 2))
	if ack := c.ackOf(packets.Puback, 2); ack.ReasonCode != 0x90 {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
	}
}

// TestBridgeWindow: a mosquitto drops QoS 2 messages above its max_inflight_messages, and
// cannot say how many that are.
func TestBridgeWindow(t *testing.T) {
	s := start(t, Options{})
	b := joinBridge(t, s, 4, "site")
	b.subscribe(filter("#", 2))
	pub := join(t, s, 4, "pub", true)
	const n = 50
	for i := range n {
		pub.publish("a", strconv.Itoa(i), 2, uint16(i+1))
	}
	first := b.expect(packets.Publish)
	for range bridgeWindow - 1 {
		b.expect(packets.Publish)
	}
	b.silent()
	b.settle(first)
	if pk := b.expect(packets.Publish); string(pk.Payload) != strconv.Itoa(bridgeWindow) {
		t.Errorf("message %q", pk.Payload)
	}
	b.silent()
}
