package mqtt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A message that is refused for good would be refused again, however often its client sends it.
// MQTT 5 clients get a reason code. MQTT 3.x has none, and a client whose connection is closed
// connects again and sends the message first, for ever. So a 3.x client gets an
// acknowledgement, and the message is stored as a refused letter, for people to look at. The
// same is done with messages of QoS 0. A connection is closed only for temporary causes: no
// room, a failing disk.

// Refusal says why a message is a refused letter.
type Refusal struct {
	Reason string   // text for people
	Size   int64    // bytes of the payload as it was sent
	Hash   [32]byte // SHA-256 of the whole payload, if Message.Payload has only its beginning; zero otherwise
}

// Limits for a packet that exceeds the packet limit.
const (
	discardMost = 16 << 20 // bytes; a larger one closes the connection
	letterHead  = 1 << 10  // bytes of its payload that the letter keeps
)

// told reports whether the client gets a reason code that says that its message is refused.
func (c *conn) told(qos byte) bool { return c.version == 5 && qos > 0 }

// nameFault returns what is wrong with the name of a topic that the client publishes to; "" if
// nothing is.
func (c *conn) nameFault(topic string) string {
	switch most := c.s.o.MaxTopicLevels; {
	case topic == "":
		return "the topic name is empty"
	case strings.ContainsAny(topic, "+#"):
		return "the topic name has a wildcard in it"
	case levels(topic) > most:
		return fmt.Sprintf("the topic has %d levels, at most %d are allowed", levels(topic), most)
	case reserved(topic) && !c.mayReport(topic):
		return "topics below $SYS and $share belong to the broker"
	default:
		return ""
	}
}

// connectionTopics is the prefix of the topics in which bridges report whether they are connected.
const connectionTopics = "$SYS/broker/connection/"

// mayReport reports whether the client may report its own connection state in the topic, as
// bridges do.
func (c *conn) mayReport(topic string) bool {
	rest, ok := strings.CutPrefix(topic, connectionTopics)
	if !ok {
		return false
	}
	id, _, _ := strings.Cut(rest, "/")
	return c.bridge || id == c.clientID
}

// refuseName refuses a publish with a topic name that is not allowed: with a reason code or as
// a refused letter.
func (w *work) refuseName(c *conn, fault string) {
	if fault == "" {
		return
	}
	if c.told(w.message.QoS) {
		w.err = fmt.Errorf("%w: %s", ErrName, fault)
		return
	}
	w.message.Refused = &Refusal{Reason: fault, Size: int64(len(w.message.Payload))}
}

// asLetter turns a message that the Backend refuses for good into a refused letter, and reports
// whether it did.
func (w *work) asLetter(err error) bool {
	m := w.message
	if m.Refused != nil || !errors.Is(err, ErrName) && !errors.Is(err, ErrTooLarge) ||
		w.conn != nil && w.conn.told(m.QoS) {
		return false
	}
	letter := *m
	letter.Refused = &Refusal{Reason: err.Error(), Size: int64(len(m.Payload))}
	w.message = &letter
	return true
}

// acknowledged reports whether the client gets a success although its message is not stored:
// under MQTT 3.x a message that the client may not publish is dropped.
func (w *work) acknowledged() bool {
	return w.conn != nil && w.conn.version != 5 && errors.Is(w.err, ErrNotAllowed)
}

// mayDiscard reports whether a packet above the limit is read to its end and discarded: if it is
// an MQTT 3.x PUBLISH, which would be sent again and again.
func (c *conn) mayDiscard(err error, h packets.FixedHeader) bool {
	return errors.Is(err, packets.ErrPacketTooLarge) && h.Type == packets.Publish && c.version != 5 && h.Remaining <= discardMost
}

// discard reads a PUBLISH that exceeds the limit. It keeps the beginning of the payload, and a
// hash.
func (c *conn) discard(h packets.FixedHeader) error {
	left := h.Remaining
	take := func(n int) ([]byte, error) {
		if n > left {
			return nil, packets.ErrMalformedPacket
		}
		left -= n
		p, claim, err := c.body(n)
		release(claim)
		return p, err
	}
	p, err := take(2)
	if err != nil {
		return err
	}
	topic, err := take(int(p[0])<<8 | int(p[1]))
	if err != nil {
		return err
	}
	if !validString(topic) {
		return packets.ErrMalformedTopic
	}
	w := &work{kind: workPublish, conn: c, client: c.clientID}
	if h.Qos > 0 {
		if p, err = take(2); err != nil {
			return err
		}
		if w.id = uint16(p[0])<<8 | uint16(p[1]); w.id == 0 {
			return packets.ErrProtocolViolationNoPacketID // [MQTT-2.3.1-1]
		}
	}
	size := left
	head, err := take(min(left, letterHead))
	if err != nil {
		return err
	}
	sum := sha256.New()
	sum.Write(head)
	if err := c.hashRest(sum, left); err != nil {
		return err
	}
	w.message = &Message{
		ClientID: c.clientID, Username: c.username, Topic: string(topic), Payload: head,
		QoS: h.Qos, Retain: h.Retain, Version: c.version, Accepted: time.Now(),
		Refused: &Refusal{
			Reason: fmt.Sprintf("the packet has %d bytes, at most %d are allowed", h.Remaining, c.s.o.MaxPacketSize),
			Size:   int64(size), Hash: [32]byte(sum.Sum(nil)),
		},
	}
	return c.enqueue(w)
}

// hashRest reads n bytes into the hash. It gives the peer the time that is allowed for a packet
// of this size.
func (c *conn) hashRest(sum hash.Hash, n int) error {
	end := time.Now().Add(c.s.o.PacketTimeout + time.Duration(n/c.s.o.PacketRate)*time.Second)
	var chunk [readBuffer]byte
	for n > 0 {
		if c.br.Buffered() == 0 {
			until := time.Now().Add(c.s.o.PacketTimeout)
			if end.Before(until) {
				until = end
			}
			c.setReadDeadline(until)
		}
		got, err := c.br.Read(chunk[:min(n, len(chunk))])
		sum.Write(chunk[:got])
		if n -= got; err != nil && n > 0 {
			return unexpected(err)
		}
	}
	return nil
}

// A client whose messages are dropped is named once in denialPause. denialMax clients are
// counted separately.
const (
	denialPause = time.Minute
	denialMax   = 1024
)

// denials counts, for each client, the messages that it may not publish.
type denials struct {
	mu      sync.Mutex
	clients map[string]*denial // guarded by mu
}

type denial struct {
	messages int
	logged   time.Time // when the last line was logged; told messages had been counted by then
	told     int
}

// note counts a message, and logs a line if none was logged about the client recently.
func (s *Server) noteDenial(m *Message) {
	s.count.notAllowed.Inc()
	d, now := &s.denials, time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.clients[m.ClientID]
	if one == nil {
		if len(d.clients) >= denialMax {
			maps.DeleteFunc(d.clients, func(_ string, o *denial) bool { return now.Sub(o.logged) >= denialPause })
		}
		if len(d.clients) >= denialMax {
			return
		}
		one = new(denial)
		d.clients[m.ClientID] = one
	}
	if one.messages++; one.logged.IsZero() || now.Sub(one.logged) >= denialPause {
		s.log.Warn("a client is not allowed to publish to a topic: its messages are dropped, and under MQTT 3.x acknowledged",
			"client", m.ClientID, "topic", m.Topic, "messages", one.messages, "unlogged", one.messages-one.told)
		one.logged, one.told = now, one.messages
	}
}
