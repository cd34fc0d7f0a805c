package queue

import (
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// A message at rest is a record: its value is the body, its timestamp is when it was
// published. What else there is of it lies in headers with these names.
const (
	headerExchange   = "x"
	headerKey        = "k" // routing key
	headerProperties = "p" // as in a content header of AMQP 0-9-1: flags and values
	headerHolder     = "h" // the exchange that holds a delayed message, unless it is the default one
	headerFromTopic  = "t" // of a delayed message: it was read from a topic
)

// message is a message as it lies in the log.
type message struct {
	id            int64
	exchange, key string
	holder        string // the exchange that holds it because it is delayed; "": none, or the default exchange
	fromTopic     bool   // it was read from a topic and is held: it does not go to one
	properties    []byte
	body          []byte
	time          int64 // when it was published: milliseconds since 1970
	delayed       bool  // its exchange holds it if it has an x-delay; not at rest
}

// size is how much memory a message takes, about.
func (m *message) size() int {
	return len(m.body) + len(m.properties) + len(m.exchange) + len(m.key) + 128
}

// packer puts messages into a batch. It has memory that is used again for each.
type packer struct {
	builder record.Builder
	headers []record.Header
	text    []byte
}

// add adds a message to the batch.
func (p *packer) add(m *message) error {
	r := record.Record{Timestamp: m.time, Value: m.body}
	if r.Value == nil {
		r.Value = []byte{} // an empty body is not a tombstone
	}
	p.headers = p.headers[:0]
	add := func(name string, value []byte) {
		if len(value) > 0 {
			p.headers = append(p.headers, record.Header{Key: name, Value: value})
		}
	}
	key, holder := len(m.exchange), len(m.exchange)+len(m.key)
	p.text = append(append(append(p.text[:0], m.exchange...), m.key...), m.holder...)
	add(headerExchange, p.text[:key])
	add(headerKey, p.text[key:holder])
	add(headerProperties, m.properties)
	add(headerHolder, p.text[holder:])
	if m.fromTopic {
		add(headerFromTopic, []byte{1})
	}
	r.Headers = p.headers
	return p.builder.Append(&r)
}

// copier copies messages out of records. Some that follow each other share memory.
type copier struct {
	free          []byte
	exchange, key string // of the last message: most have the same
}

// sharedBytes bounds the memory that messages share: all of it stays as long as one of
// them is used.
const sharedBytes = 8 << 10

// take returns n bytes of memory. About others more of this size will be asked for.
func (c *copier) take(n, others int) []byte {
	if n > len(c.free) {
		if n > sharedBytes/2 {
			return make([]byte, n)
		}
		c.free = make([]byte, min(sharedBytes, n*(1+others)))
	}
	p := c.free[:n:n]
	c.free = c.free[n:]
	return p
}

// message copies a message out of its record; left more are wanted after it.
func (c *copier) message(r *record.Record, left int) message {
	m := message{id: r.Offset, time: r.Timestamp}
	var properties []byte
	for i := range r.Headers {
		switch h := &r.Headers[i]; h.Key {
		case headerExchange:
			if string(h.Value) != c.exchange {
				c.exchange = string(h.Value)
			}
			m.exchange = c.exchange
		case headerKey:
			if string(h.Value) != c.key {
				c.key = string(h.Value)
			}
			m.key = c.key
		case headerHolder:
			m.holder = string(h.Value)
		case headerFromTopic:
			m.fromTopic = true
		case headerProperties:
			properties = h.Value
		}
	}
	memory := c.take(len(r.Value)+len(properties), left)
	n := copy(memory, r.Value)
	copy(memory[n:], properties)
	m.body, m.properties = memory[:n:n], memory[n:]
	return m
}

// decodeProperties decodes the properties of a message; none of p is the empty set.
func decodeProperties(p []byte) (wire.Properties, error) {
	var props wire.Properties
	if len(p) == 0 {
		return props, nil
	}
	if err := props.Decode(p); err != nil {
		return props, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return props, nil
}
