package mqtt

import (
	"crypto/x509"
	"iter"
	"net"
	"time"
)

// Message is one accepted PUBLISH or will. It is immutable from the moment it
// is handed to the Backend, which may keep it.
type Message struct {
	ClientID string
	Username string // as in CONNECT, "" when there was none
	Topic    string // complete: an alias is resolved
	Payload  []byte
	QoS      byte
	Retain   bool
	Version  byte      // of the publisher's protocol: 3, 4 (3.1.1) or 5
	Will     bool      // published by the server on the client's behalf
	holders  int32     // sessions that have it in their queue; atomic
	Accepted time.Time // when the server took it off the wire

	Properties Properties // MQTT 5 only

	// Refused is set for a refused letter: the message is refused for good, and
	// stored so that people can see it. Nobody else gets it.
	Refused *Refusal
}

// Properties are the MQTT 5 properties that travel with a message from
// publisher to subscriber [MQTT-3.3.2-15] to [MQTT-3.3.2-20].
type Properties struct {
	HasPayloadFormat bool
	PayloadFormat    byte // 0 bytes, 1 UTF-8
	HasExpiry        bool
	Expiry           uint32 // seconds from Message.Accepted
	ContentType      string
	ResponseTopic    string
	CorrelationData  []byte
	User             []UserProperty // in the publisher's order
}

// UserProperty is one pair of MQTT 5 user properties.
type UserProperty struct{ Key, Value string }

// expires returns the instant at which the message may no longer be sent on,
// and whether there is one.
func (m *Message) expires() (time.Time, bool) {
	if !m.Properties.HasExpiry {
		return time.Time{}, false
	}
	return m.Accepted.Add(time.Duration(m.Properties.Expiry) * time.Second), true
}

// internal reports whether the message is of this broker alone.
func (m *Message) internal() bool { return m.Refused == nil && system(m.Topic) }

// size is what the message costs in a bounded queue, in bytes.
func (m *Message) size() int {
	n := 256 + len(m.ClientID) + len(m.Username) + len(m.Topic) + len(m.Payload) + len(m.Properties.CorrelationData) +
		len(m.Properties.ContentType) + len(m.Properties.ResponseTopic)
	for _, u := range m.Properties.User {
		n += 32 + len(u.Key) + len(u.Value)
	}
	return n
}

// wireSize is about what the message takes in a PUBLISH packet, in bytes.
func (m *Message) wireSize() int { return m.size() - 256 + 32 }

// Place says where the Backend keeps a message. It is written into the state
// store before the message itself is stored: a QoS 2 packet id that survives a
// restart is believed only if its place does too.
type Place struct {
	Buffer [12]byte
	Lane   uint8
	Seq    uint64
}

// Backend keeps messages. One goroutine calls Place and then Store for one
// batch after the other; the same goroutine calls Stored.
type Backend interface {
	// Place fixes where each message of the batch will lie and stores
	// nothing. It sets errs[i] for a message that will not be taken: ErrFull,
	// ErrNotAllowed, or any other error. It may be called again, with fewer
	// messages, before Store: the last call counts.
	Place(batch []*Message, places []Place, errs []error)

	// Store makes the messages durable: on nil, all of them are. They are
	// those that the last Place accepted, in the same order. On an error
	// none may be acknowledged, though some may turn out to be stored.
	Store(batch []*Message, places []Place) error

	// Stored reports whether the message that was placed there is durable. It
	// is asked at start-up about every QoS 2 packet id, and after a failed
	// Store about an id that is sent again.
	Stored(p Place) bool
}

// Store keeps the server's own state as a sequence of events: persistent
// sessions, subscriptions, retained messages, QoS 2 packet ids. FileStore is
// one.
type Store interface {
	// Load calls fn with every event in order, before the first Append. The
	// slice is valid during the call only.
	Load(fn func(event []byte) error) error

	// Append adds events; they are durable, in order, when it returns nil. On
	// an error any prefix of them may be there, and every later Append fails
	// until a Rewrite succeeds.
	Append(events [][]byte) error

	// Rewrite replaces everything by events, atomically and durably.
	Rewrite(events iter.Seq[[]byte]) error

	Close() error
}

// Connect is what Authenticate gets to see of a CONNECT packet.
type Connect struct {
	ClientID     string // "" when the server will assign one
	Username     string
	HasUsername  bool
	Password     []byte // nil when absent
	Version      byte   // 3, 4 or 5
	Peer         net.Addr
	Certificates []*x509.Certificate // the client's verified chain on a TLS listener, leaf first
}
