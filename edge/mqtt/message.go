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
	Username string // as in CONNECT, "" if there was none
	Topic    string // complete: an alias is resolved
	Payload  []byte
	QoS      byte
	Retain   bool
	Version  byte      // of the publisher's protocol: 3, 4 (3.1.1) or 5
	Will     bool      // published by the server on the client's behalf
	holders  int32     // sessions that have it in their queue; atomic
	Accepted time.Time // when the server took it off the wire

	Properties Properties // MQTT 5 only

	// Refused is set for a refused letter: the message is refused for good, and stored so
	// that people can see it. It is not delivered to subscribers.
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

// internal reports whether the message belongs to this broker alone.
func (m *Message) internal() bool { return m.Refused == nil && system(m.Topic) }

// size returns what the message costs in a bounded queue, in bytes.
func (m *Message) size() int {
	n := 256 + len(m.ClientID) + len(m.Username) + len(m.Topic) + len(m.Payload) + len(m.Properties.CorrelationData) +
		len(m.Properties.ContentType) + len(m.Properties.ResponseTopic)
	for _, u := range m.Properties.User {
		n += 32 + len(u.Key) + len(u.Value)
	}
	return n
}

// wireSize returns about how many bytes the message takes in a PUBLISH packet.
func (m *Message) wireSize() int { return m.size() - 256 + 32 }

// Place is the Backend's name for a message. The Backend can be asked later whether the
// message at a place is durable. The server stores the name and does not interpret it.
type Place string

// Batch is a sequence of messages on their way into the Backend, in the order in which they
// were read. Messages of one client are in the order in which it sent them.
type Batch struct {
	Messages []*Message
	Errs     []error // set by Accept, one for each message
	Places   []Place // set by Accept, one for each message that asks for it

	// Round counts the failures of Store that the server had noticed when it made the
	// batch. When a batch fails, the batches of its round that are not done fail too.
	Round uint64

	// Prepared is what the Backend keeps with a batch. The server does not touch it,
	// and uses a Batch that was stored, with what is in Prepared, for later messages.
	Prepared any
}

// Asks reports whether Accept is to set Places[i].
func (b *Batch) Asks(i int) bool { return b.Messages[i].QoS == 2 }

// Backend keeps messages. One goroutine calls it, which holds no lock.
type Backend interface {
	// Accept decides which messages are taken, and stores nothing. For a refused message
	// it sets Errs[i]: to ErrFull, ErrNotAllowed, ErrName, ErrTooLarge, or any other
	// error. For a taken message that asks for it, it sets Places[i]. The server writes
	// the place down before it calls Store, so that it can ask Stored after a crash. A
	// log that knows the offset of a message only when it is durable uses a name that it
	// writes with the message, such as a producer's sequence. Accept may be called again
	// for the same Batch, with fewer messages, before Store: the last call counts.
	Accept(b *Batch)

	// Store begins to make the messages durable. The batch has only messages that Accept
	// took. Store calls done once, from any goroutine, perhaps before it returns. After
	// done(nil) all messages are durable, and Places may have better names for them.
	// After an error none of them may be acknowledged, though some may be durable: Stored
	// reports which, and its answer does not change any more.
	//
	// Several batches may be under way. done is called in the order of the calls of
	// Store. When a batch fails, later batches of its Round fail too, and nothing of them
	// is stored: they may have later messages of the same clients, and the messages that
	// the clients send again would come behind those. A Backend that calls done before
	// Store returns can ignore Round.
	//
	// Store reports whether it takes another batch at once. If not, the server waits for
	// an answer first, and reads only until its queue is full.
	Store(b *Batch, done func(error)) (more bool)

	// Stored reports whether the message of a place is durable. It is asked at
	// start-up about every QoS 2 packet id, and after a failed Store about an id that is
	// sent again.
	Stored(p Place) bool
}

// Store keeps the server's own state as a sequence of events: persistent
// sessions, subscriptions, retained messages, QoS 2 packet ids. FileStore is
// one.
type Store interface {
	// Load calls fn with every event in order, before the first Append. The
	// slice is valid during the call only.
	Load(fn func(event []byte) error) error

	// Append begins to add events. It calls done once, from any goroutine, perhaps
	// before it returns. After done(nil) the events are durable, in order. After an
	// error any prefix of them may be there, and every later Append fails until a
	// Rewrite succeeds. Several calls may be under way; done is called in their order.
	// The events must not change before done is called.
	Append(events [][]byte, done func(error))

	// Rewrite replaces everything by events, atomically and durably. No Append is
	// under way.
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
