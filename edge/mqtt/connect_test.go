package mqtt

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestConnectAnswers holds what a CONNECT gets, statement by statement.
func TestConnectAnswers(t *testing.T) {
	const end = -1 // the connection closes without a CONNACK
	five := func(edit func(*packets.Packet)) packets.Packet {
		pk := connectPacket(5, "c", true)
		edit(&pk)
		return pk
	}
	four := func(edit func(*packets.Packet)) packets.Packet {
		pk := connectPacket(4, "c", true)
		edit(&pk)
		return pk
	}
	tests := []struct {
		name   string
		packet packets.Packet
		code   int
	}{
		{"3.1", connectPacket(3, "c", true), 0},
		{"3.1.1", connectPacket(4, "c", true), 0},
		{"5", connectPacket(5, "c", true), 0},
		{"MQTT-3.1.2-1 protocol name", four(func(p *packets.Packet) { p.Connect.ProtocolName = []byte("AMQP") }), end},
		{"MQTT-3.1.2-2 version 2", four(func(p *packets.Packet) { p.ProtocolVersion = 2 }), 1},
		{"MQTT-3.1.2-2 version 5 with the bridge bit", four(func(p *packets.Packet) { p.ProtocolVersion = 0x85 }), 1},
		{"MQTT-3.1.2-2 version 6", four(func(p *packets.Packet) { p.ProtocolVersion = 6 }), 0x84},
		{"MQTT-3.1.3-8 no id, kept session", connectPacket(4, "", false), 2},
		{"MQTT-3.1.3-6 no id, clean", connectPacket(4, "", true), 0},
		{"3.1 no id", connectPacket(3, "", true), 2},
		{"MQTT-3.1.3-6 no id, 5", connectPacket(5, "", false), 0},
		{"MQTT-3.1.2-11 will QoS without will", four(func(p *packets.Packet) { p.Connect.WillQos = 1 }), end},
		{"MQTT-3.1.2-11 will QoS without will, 5", five(func(p *packets.Packet) { p.Connect.WillQos = 1 }), 0x81},
		{"MQTT-3.1.2-13 will retain without will, 5", five(func(p *packets.Packet) { p.Connect.WillRetain = true }), 0x81},
		{"MQTT-3.1.2-12 will QoS 3", five(func(p *packets.Packet) {
			p.Connect.WillFlag, p.Connect.WillTopic, p.Connect.WillQos = true, "w", 3
		}), 0x81},
		{"will without payload is legal", five(func(p *packets.Packet) {
			p.Connect.WillFlag, p.Connect.WillTopic = true, "w"
		}), 0},
		{"will topic with wildcard", five(func(p *packets.Packet) {
			p.Connect.WillFlag, p.Connect.WillTopic = true, "w/#"
		}), 0x90},
		{"MQTT-3.1.2-22 password without user, 3.1.1", four(func(p *packets.Packet) {
			p.Connect.PasswordFlag, p.Connect.Password = true, []byte("x")
		}), end},
		{"password without user, 5", five(func(p *packets.Packet) {
			p.Connect.PasswordFlag, p.Connect.Password = true, []byte("x")
		}), 0},
		{"empty password is legal", four(func(p *packets.Packet) {
			p.Connect.UsernameFlag, p.Connect.Username, p.Connect.PasswordFlag = true, []byte("u"), true
		}), 0},
		{"MQTT-3.1.3-11 user name is not UTF-8", five(func(p *packets.Packet) {
			p.Connect.UsernameFlag, p.Connect.Username = true, []byte{0xff}
		}), 0x81},
		{"MQTT-4.12.0-1 enhanced authentication", five(func(p *packets.Packet) {
			p.Properties.AuthenticationMethod = "SCRAM-SHA-1"
		}), 0x8c},
		{"authentication data without method", five(func(p *packets.Packet) {
			p.Properties.AuthenticationData = []byte("x")
		}), 0x82},
	}
	s := start(t, Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, s)
			c.raw(encode(test.packet))
			c.version = test.packet.ProtocolVersion
			if test.code == 0x84 {
				c.version = 5
			}
			if test.code == end {
				c.closed(0)
				return
			}
			if ack := c.expect(packets.Connack); ack.ReasonCode != byte(test.code) {
				t.Fatalf("CONNACK %#x, want %#x", ack.ReasonCode, test.code)
			}
			if test.code != 0 {
				c.closed(0)
			}
		})
	}
}

// TestConnectBytes holds what malformed CONNECT bytes get.
func TestConnectBytes(t *testing.T) {
	good := encode(connectPacket(5, "c", true))
	with := func(edit func([]byte)) []byte {
		p := bytes.Clone(good)
		edit(p)
		return p
	}
	receiveMaximum0 := connectPacket(5, "c", true)
	receiveMaximum0.Properties.ReceiveMaximum = 1
	zero := encode(receiveMaximum0)
	at := bytes.Index(zero, []byte{packets.PropReceiveMaximum, 0, 1})
	zero[at+2] = 0
	twice := bytes.Clone(good)
	twice = append(twice[:12], append([]byte{6, packets.PropReceiveMaximum, 0, 5, packets.PropReceiveMaximum, 0, 6}, twice[13:]...)...)
	twice[1] += 6

	tests := []struct {
		name  string
		bytes []byte
		code  byte // 0: no CONNACK
	}{
		{"MQTT-3.1.2-3 reserved flag", with(func(p []byte) { p[9] |= 1 }), 0x81},
		{"MQTT-3.1.0-1 first packet is PINGREQ", []byte{0xc0, 0}, 0},
		{"header flags", with(func(p []byte) { p[0] |= 1 }), 0},
		{"packet type 0", []byte{0, 0}, 0},
		{"five length bytes", []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x01}, 0},
		{"longer than allowed", []byte{0x10, 0xff, 0xff, 0xff, 0x7f}, 0},
		{"trailing bytes", with(func(p []byte) { p[len(p)-2]-- })[:len(good)], 0x81},
		{"receive maximum 0", zero, 0x82},
		{"property twice", twice, 0x82},
		{"unknown property", with(func(p []byte) {
			p[12] = 1
			p[13] = 0x7e
		}), 0x81},
	}
	s := start(t, Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, s)
			c.version = 5
			c.raw(test.bytes)
			if test.code != 0 {
				if ack := c.expect(packets.Connack); ack.ReasonCode != test.code {
					t.Fatalf("CONNACK %#x, want %#x", ack.ReasonCode, test.code)
				}
			}
			c.closed(0)
		})
	}
}

func TestConnackProperties(t *testing.T) {
	s := start(t, Options{ReceiveMaximum: 7, TopicAliasMaximum: 9, MaxPacketSize: 5000, ServerKeepAlive: 30, MaxSessionExpiry: time.Minute})
	pk := connectPacket(5, "", true)
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	_, ack := logIn(t, s, pk)
	p := ack.Properties
	if p.ReceiveMaximum != 7 || p.TopicAliasMaximum != 9 || p.MaximumPacketSize != 5000 ||
		!p.ServerKeepAliveFlag || p.ServerKeepAlive != 30 || p.SessionExpiryInterval != 60 || p.AssignedClientID == "" {
		t.Fatalf("CONNACK %+v", p)
	}
	_, other := logIn(t, s, pk)
	if other.Properties.AssignedClientID == p.AssignedClientID {
		t.Fatal("the same id was assigned twice")
	}
}

func TestAuthenticate(t *testing.T) {
	s := start(t, Options{Authenticate: func(_ context.Context, c Connect) error {
		switch c.Username {
		case "ann":
			if string(c.Password) != "secret" {
				return ErrBadCredentials
			}
			return nil
		case "bob":
			return ErrNotAllowed
		default:
			return errors.New("directory is down")
		}
	}})
	for _, test := range []struct {
		user, password string
		three, five    byte
	}{
		{"ann", "secret", 0, 0}, {"ann", "wrong", 4, 0x86}, {"bob", "x", 5, 0x87}, {"", "", 3, 0x88},
	} {
		for version, want := range map[byte]byte{3: test.three, 4: test.three, 5: test.five} {
			pk := connectPacket(version, "c", true)
			pk.Connect.Username, pk.Connect.UsernameFlag = []byte(test.user), true
			pk.Connect.Password, pk.Connect.PasswordFlag = []byte(test.password), true
			if _, ack := logIn(t, s, pk); ack.ReasonCode != want {
				t.Errorf("version %d, %s/%s: %#x, want %#x", version, test.user, test.password, ack.ReasonCode, want)
			}
		}
	}
}

// TestConnectionLimit: one connection too many is closed, the others live.
func TestConnectionLimit(t *testing.T) {
	s := start(t, Options{MaxConnections: 2, MaxPerAddress: 2})
	a := join(t, s, 4, "a", true)
	join(t, s, 4, "b", true)
	dial(t, s).closed(0)
	a.silent()
}

// TestSessionLimit: sessions that are kept have a limit, and one that is
// connected never gives way. A clean one takes none of their places.
func TestSessionLimit(t *testing.T) {
	s := start(t, Options{MaxSessions: 1})
	join(t, s, 4, "a", false)
	for version, want := range map[byte]byte{4: 3, 5: 0x97} {
		pk := connectPacket(version, "b", false)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, version == 5
		if _, ack := logIn(t, s, pk); ack.ReasonCode != want {
			t.Fatalf("CONNACK %#x, want %#x", ack.ReasonCode, want)
		}
		join(t, s, version, "b", true)
	}
	join(t, s, 4, "a", false).silent()
}

// TestTakeover: a second connection with the same id ends the first
// [MQTT-3.1.4-3], and gets its session.
func TestTakeover(t *testing.T) {
	s := start(t, Options{})
	first, _ := joinKept(t, s, "c")
	first.subscribe(filter("a", 1))
	second, ack := joinKept(t, s, "c")
	first.closed(0x8e)
	if !ack.SessionPresent {
		t.Fatal("the session is gone")
	}
	second.publish("a", "x", 1, 1)
	second.message("x")
}

// TestAfterConnect holds what ends a connection later on.
func TestAfterConnect(t *testing.T) {
	long := strings.Repeat("x", 2000)
	tests := []struct {
		name   string
		bytes  []byte
		reason byte
	}{
		{"MQTT-3.1.0-2 second CONNECT", encode(connectPacket(5, "c", true)), 0x82},
		{"server packet", []byte{0x20, 3, 0, 0, 0}, 0x82},
		{"AUTH", []byte{0xf0, 2, 0x18, 0}, 0x82},
		{"PINGREQ with body", []byte{0xc0, 1, 0}, 0x81},
		{"MQTT-3.3.1-4 QoS 3", []byte{0x36, 5, 0, 1, 'a', 0, 1}, 0x81},
		{"MQTT-3.3.1-2 DUP with QoS 0", []byte{0x38, 4, 0, 1, 'a', 0}, 0x81},
		{"MQTT-2.2.1-3 packet id 0", []byte{0x32, 6, 0, 1, 'a', 0, 0, 0}, 0x82},
		{"topic is not UTF-8", []byte{0x30, 4, 0, 1, 0xff, 0}, 0x81},
		{"MQTT-1.5.4-2 U+0000", []byte{0x30, 4, 0, 1, 0, 0}, 0x81},
		{"no topic, no alias", []byte{0x30, 3, 0, 0, 0}, 0x82},
		{"alias 0", []byte{0x30, 7, 0, 1, 'a', 3, packets.PropTopicAlias, 0, 0}, 0x94},
		{"alias above maximum", []byte{0x30, 7, 0, 1, 'a', 3, packets.PropTopicAlias, 255, 0}, 0x94},
		{"unknown alias", []byte{0x30, 6, 0, 0, 3, packets.PropTopicAlias, 0, 1}, 0x82},
		{"MQTT-3.3.4-6 subscription identifier", []byte{0x30, 6, 0, 1, 'a', 2, packets.PropSubscriptionIdentifier, 1}, 0x82},
		{"response topic with wildcard", []byte{0x30, 8, 0, 1, 'a', 4, packets.PropResponseTopic, 0, 1, '+'}, 0x82},
		{"payload format 2", []byte{0x30, 6, 0, 1, 'a', 2, packets.PropPayloadFormat, 2}, 0x82},
		{"property of another packet", []byte{0x30, 7, 0, 1, 'a', 3, packets.PropReceiveMaximum, 0, 1}, 0x81},
		{"properties run over the packet", []byte{0x30, 4, 0, 1, 'a', 9}, 0x81},
		{"last property runs over its block", []byte{0x30, 9, 0, 1, 'a', 3, packets.PropContentType, 0, 2, 'x', 'y'}, 0x81},
		{"MQTT-3.8.1-1 SUBSCRIBE flags", []byte{0x80, 7, 0, 1, 0, 0, 1, 'a', 0}, 0x81},
		{"MQTT-3.8.3-2 SUBSCRIBE without filters", []byte{0x82, 3, 0, 1, 0}, 0x82},
		{"SUBSCRIBE without options byte", []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, 0x81},
		{"MQTT-3.8.3-5 reserved option bits", []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0xc0}, 0x81},
		{"SUBSCRIBE QoS 3", []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 3}, 0x81},
		{"retain handling 3", []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30}, 0x81},
		{"subscription identifier 0", []byte{0x82, 9, 0, 1, 2, packets.PropSubscriptionIdentifier, 0, 0, 1, 'a', 0}, 0x82},
		{"MQTT-3.8.3-4 shared and no local", append([]byte{0x82, 17, 0, 1, 0, 0, 11}, "$share/g/ab\x04"...), 0x82},
		{"MQTT-3.10.3-2 UNSUBSCRIBE without filters", []byte{0xa2, 3, 0, 1, 0}, 0x82},
		{"MQTT-3.6.1-1 PUBREL flags", []byte{0x60, 2, 0, 1}, 0x81},
		{"PUBACK with packet id 0", []byte{0x40, 2, 0, 0}, 0x82},
		{"PUBACK too short", []byte{0x40, 1, 0}, 0x81},
		{"larger than the maximum", encode(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: 5, TopicName: "a", Payload: []byte(long),
		}), 0x95},
		{"MQTT-3.14.2-2 expiry from zero", []byte{0xe0, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 9}, 0x82},
	}
	s := start(t, Options{MaxPacketSize: 1000})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := join(t, s, 5, "c", true)
			c.raw(test.bytes)
			c.closed(test.reason)
		})
	}
	t.Run("3.1.1 is closed without a word", func(t *testing.T) {
		c := join(t, s, 4, "c", true)
		c.raw([]byte{0x36, 5, 0, 1, 'a', 0, 1})
		c.closed(0)
	})
}

// TestCloseTellsClients: shutting down sends DISCONNECT 0x8B, and nothing of
// it is lost.
func TestCloseTellsClients(t *testing.T) {
	s := start(t, Options{})
	c := join(t, s, 5, "c", true)
	go s.Close()
	c.closed(0x8b)
	c.nc.Close()
	if err := <-s.served; !errors.Is(err, ErrClosed) {
		t.Fatalf("Serve: %v", err)
	}
}

func TestServeReportsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listeners: []net.Listener{l}, Backend: newBackend(), Store: new(memStore), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Serve: %v", err)
	}
}
