package mqtt

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// refusals are messages that are refused for good, with the reason that MQTT 5 has.
var refusals = []struct {
	topic  string
	code   byte
	letter string // part of its reason; "": it is dropped
}{
	{"$SYS/x", 0x90, "belong to the broker"},
	{"$share/g/x", 0x90, "belong to the broker"},
	{strings.Repeat("x/", 200) + "x", 0x90, "201 levels"},
	{"a/#", 0x90, "wildcard"},
	{"large", 0x83, "too large"},
	{"forbidden", 0x87, ""},
}

func refusing() *memBackend {
	b := newBackend()
	b.refuse = func(m *Message) error {
		switch {
		case m.Refused != nil:
			return nil
		case m.Topic == "large":
			return fmt.Errorf("%w: 951000 bytes", ErrTooLarge)
		case m.Topic == "forbidden":
			return ErrNotAllowed
		}
		return nil
	}
	return b
}

// TestRefusedForGood: what no try gets through is answered, and holds up nothing that
// the client sends after it; what an MQTT 5 client cannot be told, and all of MQTT
// 3.x, becomes a letter.
func TestRefusedForGood(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		for qos := range byte(3) {
			for _, r := range refusals {
				t.Run(fmt.Sprintf("version %d QoS %d %.10s", version, qos, r.topic), func(t *testing.T) {
					bubble(t, Options{Backend: refusing()}, func(t *testing.T, s *testServer) {
						refusedForGood(t, s, version, qos, r.topic, r.code, r.letter)
					})
				})
			}
		}
	}
}

func refusedForGood(t *testing.T, s *testServer, version, qos byte, topic string, code byte, reason string) {
	sub := join(t, s, 5, "sub", true)
	sub.subscribe(filter("#", 1))
	c := join(t, s, version, "c", true)
	told := version == 5 && qos > 0
	c.send(publishPacket(topic, "bad", qos, 1))
	switch {
	case told:
		kind := byte(packets.Puback)
		if qos == 2 {
			kind = packets.Pubrec
		}
		if ack := c.ackOf(kind, 1); ack.ReasonCode != code {
			t.Fatalf("reason %#x, want %#x", ack.ReasonCode, code)
		}
	case qos == 1:
		c.ackOf(packets.Puback, 1)
	case qos == 2:
		c.ackOf(packets.Pubrec, 1)
		c.send(ackPacket(packets.Pubrel, 1))
		c.ackOf(packets.Pubcomp, 1)
	}
	for i := range 5 {
		c.publish("good", fmt.Sprint(i), qos, uint16(2+i))
	}
	for i := range 5 {
		sub.message(fmt.Sprint(i))
	}
	sub.silent() // subscribers do not get what was refused
	if got := s.backend.payloads(); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("stored %q", got)
	}
	letters := s.backend.letters()
	if reason == "" || told {
		if len(letters) != 0 {
			t.Errorf("letter %+v", letters[0])
		}
		return
	}
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	l := letters[0]
	if l.Topic != topic || l.ClientID != "c" || string(l.Payload) != "bad" || l.QoS != qos ||
		!strings.Contains(l.Refused.Reason, reason) || l.Refused.Size != 3 {
		t.Errorf("letter %+v: %+v", l, l.Refused)
	}
}

// TestLetterIsDurable: a refused letter is acknowledged only when it is stored, and a
// full disk is what it is for any message.
func TestLetterIsDurable(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	b := newBackend()
	b.refuse = func(*Message) error {
		if full.Load() {
			return ErrFull
		}
		return nil
	}
	s := start(t, Options{Backend: b})
	c := join(t, s, 4, "c", true)
	c.send(publishPacket("$SYS/x", "bad", 1, 1))
	c.closed(0)
	full.Store(false)
	c = join(t, s, 4, "c", true)
	c.publish("$SYS/x", "bad", 1, 1)
	if n := len(b.letters()); n != 1 {
		t.Fatalf("%d letters", n)
	}
}

// TestLargePacket: MQTT 3.x gets its acknowledgement for a packet above the limit, of
// which the beginning and a hash are kept, and its connection goes on; one above 16 MiB
// ends it. MQTT 5 knows the limit: 0x95.
func TestLargePacket(t *testing.T) {
	for _, version := range []byte{3, 4} {
		for qos := range byte(3) {
			s := start(t, Options{MaxPacketSize: 10_000})
			c := join(t, s, version, "c", true)
			payload := strings.Repeat("0123456789", 100_000)
			c.publish("big/one", payload, qos, 1)
			c.publish("good", "x", qos, 2)
			c.silent()
			eventually(t, "the message behind it is stored", func() bool { return len(s.backend.payloads()) > 0 })
			letters := s.backend.letters()
			if len(letters) != 1 || !slices.Equal(s.backend.payloads(), []string{"x"}) {
				t.Fatalf("version %d QoS %d: %d letters, stored %d", version, qos, len(letters), len(s.backend.payloads()))
			}
			l := letters[0]
			if l.Topic != "big/one" || string(l.Payload) != payload[:1024] || l.Refused.Size != 1_000_000 ||
				l.Refused.Hash != sha256.Sum256([]byte(payload)) || l.QoS != qos || l.ClientID != "c" {
				t.Errorf("version %d QoS %d: letter %+v %+v", version, qos, l, l.Refused)
			}
		}
	}
	s := start(t, Options{MaxPacketSize: 10_000})
	five := join(t, s, 5, "five", true)
	five.raw(encode(publishPacket("a", strings.Repeat("x", 10_001), 0, 0)))
	five.closed(0x95)
	four := join(t, s, 4, "four", true)
	four.raw([]byte{0x30, 0x81, 0x80, 0x80, 0x08}) // 16 MiB and a byte
	four.closed(0)
}

// TestLargePacketThatLies: what is inside the limit of 16 MiB but is no PUBLISH ends the
// connection.
func TestLargePacketThatLies(t *testing.T) {
	s := start(t, Options{MaxPacketSize: 1000})
	for name, p := range map[string][]byte{
		"packet id 0":       append([]byte{0x32, 0xd0, 0x0f, 0, 1, 'a', 0, 0}, make([]byte, 2000)...),
		"topic with U+0000": append([]byte{0x30, 0xd0, 0x0f, 0, 1, 0}, make([]byte, 2000)...),
		"topic too long":    append([]byte{0x30, 0xd0, 0x0f, 0xff, 0xff}, make([]byte, 2000)...),
		"no PUBLISH":        append([]byte{0x82, 0xd0, 0x0f, 0, 1}, make([]byte, 2000)...),
	} {
		t.Run(name, func(t *testing.T) {
			c := join(t, s, 4, "c", true)
			c.raw(p)
			c.closed(0)
		})
	}
	if n := len(s.backend.letters()); n != 0 {
		t.Errorf("%d letters", n)
	}
}

// TestRefusedWill: an MQTT 5 client is refused at CONNECT. A 3.x client is accepted, and its
// will becomes a letter when it is due.
func TestRefusedWill(t *testing.T) {
	s := start(t, Options{})
	pk := connectPacket(5, "five", true)
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "$SYS/x", []byte("gone")
	if _, ack := logIn(t, s, pk); ack.ReasonCode != 0x90 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	pk.ProtocolVersion, pk.Connect.ClientIdentifier = 4, "four"
	c, ack := logIn(t, s, pk)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	c.nc.Close()
	eventually(t, "the will is a letter", func() bool { return len(s.backend.letters()) == 1 })
}

// TestRefusedWillOfAnEarlierProcess: it stays a letter, and is not published below $SYS.
func TestRefusedWillOfAnEarlierProcess(t *testing.T) {
	s := start(t, Options{})
	pk := connectPacket(4, "four", true)
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "$SYS/broker/version", []byte("mine")
	if _, ack := logIn(t, s, pk); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	again := start(t, Options{Store: s.store.snapshot()}) // as after kill -9
	eventually(t, "the will is a letter", func() bool { return len(again.backend.letters()) == 1 })
	if got := again.backend.payloads(); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
}

// TestEmptyWillTopic: it is refused in every version, for the state has no place for it.
func TestEmptyWillTopic(t *testing.T) {
	s := start(t, Options{})
	for version, want := range map[byte]byte{4: 0, 5: 0x90} {
		c := dial(t, s)
		c.version = version
		pk := connectPacket(version, "c", true)
		pk.Connect.WillFlag, pk.Connect.WillPayload = true, []byte("x")
		c.send(pk)
		if want == 0 {
			c.closed(0)
		} else if ack := c.expect(packets.Connack); ack.ReasonCode != want {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
	}
}

// TestDenied: the first message that a client may not publish is a line, the next ones
// within a minute are counted.
func TestDenied(t *testing.T) {
	var lines logLines
	s := start(t, Options{Backend: refusing(), Log: slog.New(slog.NewTextHandler(&lines, nil))})
	c := join(t, s, 4, "c", true)
	for i := range 20 {
		c.publish("forbidden", "x", 1, uint16(i+1))
	}
	if got := lines.with("not allowed to publish"); len(got) != 1 || !strings.Contains(got[0], "client=c") {
		t.Errorf("lines %q", got)
	}
	if n := s.count.notAllowed.Get(); n != 20 {
		t.Errorf("%d counted", n)
	}
}

// TestDup31: MQTT 3.1 has a DUP flag where later versions have none.
func TestDup31(t *testing.T) {
	subscribe := []byte{0x8a, 6, 0, 1, 0, 1, 'a', 1}
	unsubscribe := []byte{0xaa, 5, 0, 2, 0, 1, 'a'}
	pubrel := []byte{0x6a, 2, 0, 3}
	s := start(t, Options{})
	c := join(t, s, 3, "c", true)
	c.raw(subscribe)
	c.ackOf(packets.Suback, 1)
	c.raw(unsubscribe)
	c.ackOf(packets.Unsuback, 2)
	c.send(publishPacket("b", "x", 2, 3))
	c.ackOf(packets.Pubrec, 3)
	c.raw(pubrel)
	c.ackOf(packets.Pubcomp, 3)
	for _, p := range [][]byte{subscribe, unsubscribe, pubrel} {
		c := join(t, s, 4, "c", true)
		c.raw(p)
		c.closed(0)
	}
}
