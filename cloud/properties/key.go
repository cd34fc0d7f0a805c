package properties

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// TopicExchange is the exchange of what MQTT topics are routing keys of.
const TopicExchange = "amq.topic"

var (
	toKey   = strings.NewReplacer("/", ".", "+", "*")
	toTopic = strings.NewReplacer(".", "/", "*", "+")
)

// routingKey returns the routing key that stands for an MQTT topic or filter, as in
// RabbitMQ's MQTT plugin: "/" becomes "." and "+" becomes "*". A "." stays, so that
// mqttTopic does not return every topic.
func routingKey(topic string) string { return toKey.Replace(topic) }

// mqttTopic returns the MQTT topic that a routing key stands for, as in RabbitMQ's MQTT
// plugin: "." becomes "/" and "*" becomes "+".
func mqttTopic(key string) string { return toTopic.Replace(key) }

// cut returns a routing key that is short enough for AMQP: as many whole words of it as
// fit.
func cut(key string) string {
	if len(key) <= wire.MaxShortString {
		return key
	}
	key = key[:wire.MaxShortString+1]
	if end := strings.LastIndexByte(key, '.'); end > 0 {
		return key[:end]
	}
	return key[:wire.MaxShortString]
}

// recordKey returns the key of a record that is published with a routing key and without
// the header x-key; false if it has none.
func recordKey(exchange, key string) (string, bool) {
	switch exchange {
	case "":
		return "", false // the routing key names the queue
	case TopicExchange:
		return mqttTopic(key), true
	}
	return key, true
}

// AppendOrigin appends what FromRecord makes the routing key of a record of: two records of
// a topic with the same origin have the same key. It reports whether the message has
// further keys, in a header.
func AppendOrigin(b []byte, topic string, r *record.Record) (origin []byte, copies bool) {
	element := func(name string, value []byte) {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		b = append(binary.AppendUvarint(b, uint64(len(value))), value...)
	}
	if bytes.HasPrefix(r.Key, []byte(topic)) {
		element("", r.Key)
	}
	for i := range r.Headers {
		switch h := &r.Headers[i]; h.Key {
		case headerMQTTTopic, headerRoutingKey:
			element(h.Key, h.Value)
		case headerGateway, headerClient:
			element(headerGateway, r.Key)
		case tableCC, tableBCC:
			copies = true
		}
	}
	return b, copies
}
