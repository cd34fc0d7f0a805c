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
)

// message is a message as it lies in the log.
type message struct {
	id            int64
	exchange, key string
	holder        string // the exchange that holds it because it is delayed; "": none, or the default exchange
	properties    []byte
	body          []byte
	time          int64 // when it was published: milliseconds since 1970
	delayed       bool  // its exchange holds it if it has an x-delay; not at rest
}

// size is how much memory a message takes, about.
func (m *message) size() int {
	return len(m.body) + len(m.properties) + len(m.exchange) + len(m.key) + 128
}

// appendTo adds the message to the batch of a parcel.
func (m *message) appendTo(p *parcel) error {
	p.text = append(append(append(p.text[:0], m.exchange...), m.key...), m.holder...)
	key, holder := len(m.exchange), len(m.exchange)+len(m.key)
	r := record.Record{Timestamp: m.time, Value: m.body, Headers: p.headers[:0]}
	if r.Value == nil {
		r.Value = []byte{} // an empty body is not a tombstone
	}
	add := func(name string, value []byte) {
		if len(value) > 0 {
			r.Headers = append(r.Headers, record.Header{Key: name, Value: value})
		}
	}
	add(headerExchange, p.text[:key])
	add(headerKey, p.text[key:holder])
	add(headerProperties, m.properties)
	add(headerHolder, p.text[holder:])
	p.headers = r.Headers
	return p.builder.Append(&r)
}

// decodeMessage copies a message out of its record.
func decodeMessage(r *record.Record) message {
	m := message{id: r.Offset, time: r.Timestamp}
	size := len(r.Value)
	for i := range r.Headers {
		if r.Headers[i].Key == headerProperties {
			size += len(r.Headers[i].Value)
		}
	}
	memory := make([]byte, 0, size)
	memory = append(memory, r.Value...)
	m.body = memory[:len(memory):len(memory)]
	for i := range r.Headers {
		h := &r.Headers[i]
		switch h.Key {
		case headerExchange:
			m.exchange = string(h.Value)
		case headerKey:
			m.key = string(h.Value)
		case headerHolder:
			m.holder = string(h.Value)
		case headerProperties:
			begin := len(memory)
			memory = append(memory, h.Value...)
			m.properties = memory[begin:len(memory):len(memory)]
		}
	}
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
