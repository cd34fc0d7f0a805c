package properties

import (
	"math"
	"strconv"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// Message is a record of a topic as a message of AMQP 0-9-1.
type Message struct {
	// Where it was published, if it came from AMQP; else empty.
	Vhost, Exchange string

	Key        string // routing key
	Properties wire.Properties
	Body       []byte // part of the record
	Time       int64  // of the record: milliseconds since 1970
}

// maxTable is how many bytes of headers a message gets: with all other properties they
// must fit into one frame, which has 128 KiB with most clients.
const maxTable = 100_000

// maxMillis is the longest expiration that RabbitMQ accepts.
const maxMillis = math.MaxUint32

// from is a record on its way to a message.
type from struct {
	m     Message
	r     *record.Record
	types types
	table []byte
	names map[string]bool // in table
	lost  []Loss

	mqttTopic       string // "" if it is not known
	routed, gateway bool   // it has a routing key of its own; it is from a gateway
	quick           bool   // it was sent with QoS 0
}

// FromRecord returns a record of a topic as a message, and why values of it are not there.
// All but the body is a copy.
//
// The routing key is that with which the record was published to AMQP; else that of its
// MQTT topic (header weir.mqtt-topic; else the key, of a record of a gateway or if its
// first level is the name of the topic); else the name of the topic.
func FromRecord(topic string, r *record.Record) (Message, []Loss) {
	f := from{m: Message{Body: r.Value, Time: r.Timestamp}, r: r, names: make(map[string]bool)}
	f.origin()
	f.route(topic)
	for i := range r.Headers {
		h := &r.Headers[i]
		if !f.property(h.Key, h.Value) {
			f.header(h.Key, h.Value)
		}
	}
	if !f.routed {
		f.complete()
	}
	if len(f.table) > 0 {
		t, err := wire.ParseTable(f.table)
		if err != nil { // impossible: each value was made by its type
			f.lost = append(f.lost, LostType)
		} else {
			f.m.Properties.Headers = t
			f.m.Properties.Flags |= wire.HasHeaders
		}
	}
	return f.m, f.lost
}

// origin reads the headers that say where the record comes from; the first of each name
// counts.
func (f *from) origin() {
	for i := len(f.r.Headers) - 1; i >= 0; i-- {
		h := &f.r.Headers[i]
		switch h.Key {
		case headerVhost:
			f.m.Vhost = string(h.Value)
		case headerExchange:
			if len(h.Value) <= wire.MaxShortString {
				f.m.Exchange = string(h.Value)
			}
		case headerRoutingKey:
			f.m.Key, f.routed = string(h.Value), true
		case headerMQTTTopic:
			f.mqttTopic = string(h.Value)
		case headerClient, headerGateway:
			f.gateway = true
		case headerQoS:
			f.quick = string(h.Value) == "0"
		case headerTypes:
			f.types = parseTypes(h.Value)
		}
	}
}

// route sets the routing key, and adds the headers of what it does not say.
func (f *from) route(topic string) {
	key, keyed := "", false // of a record that is published with the routing key
	switch {
	case f.routed:
		key, keyed = recordKey(f.m.Exchange, f.m.Key)
		if f.mqttTopic = f.published(); f.mqttTopic != "" {
			key = f.mqttTopic
		}
	case f.mqttTopic == "" && (f.gateway || ofTopic(string(f.r.Key), topic)):
		f.mqttTopic = string(f.r.Key)
		fallthrough
	case f.mqttTopic != "":
		f.m.Key = routingKey(f.mqttTopic)
		key, keyed = f.mqttTopic, true
	default:
		f.m.Key = topic
	}
	if short := cut(f.m.Key); short != f.m.Key {
		f.m.Key = short
		f.lost = append(f.lost, LostKey)
	}
	if f.r.Key != nil && (!keyed || key != string(f.r.Key) || f.types[tableKey] != "") {
		f.header(tableKey, f.r.Key)
	}
	if f.mqttTopic != "" && mqttTopic(f.m.Key) != f.mqttTopic {
		f.header(headerMQTTTopic, []byte(f.mqttTopic))
	}
	if f.r.Value == nil {
		f.set(tableNull, wire.KindBool, []byte("true"))
	}
}

// published returns the MQTT topic of a record that was published to AMQP.
func (f *from) published() string {
	fits := func(topic string) bool { return cut(routingKey(topic)) == f.m.Key }
	switch {
	case f.m.Exchange != TopicExchange:
		return ""
	case f.mqttTopic != "" && fits(f.mqttTopic):
		return f.mqttTopic
	case f.mqttTopic == "" && f.r.Key != nil && fits(string(f.r.Key)):
		return string(f.r.Key)
	}
	return mqttTopic(f.m.Key)
}

// ofTopic reports whether a key looks like an MQTT topic that goes to the topic if no
// route says otherwise.
func ofTopic(key, topic string) bool {
	rest, ok := strings.CutPrefix(key, topic)
	return ok && (rest == "" || rest[0] == '/')
}

// complete sets what every message has that was not published to AMQP.
func (f *from) complete() {
	p := &f.m.Properties
	if p.Flags&wire.HasDeliveryMode == 0 {
		p.Flags |= wire.HasDeliveryMode
		p.DeliveryMode = 2
		if f.quick {
			p.DeliveryMode = 1
		}
	}
	if p.Flags&wire.HasTimestamp == 0 && f.m.Time >= 0 {
		p.Flags |= wire.HasTimestamp
		p.Timestamp = uint64(f.m.Time) / 1000
		if !f.names[tableTimeMS] {
			f.set(tableTimeMS, wire.KindInt64, strconv.AppendInt(nil, f.m.Time, 10))
		}
	}
}

// property sets the property that a header stands for. It reports false if the header
// stands for none, or its value goes into the table because the property is too short.
func (f *from) property(name string, value []byte) bool {
	p := &f.m.Properties
	switch name {
	case headerVhost, headerExchange, headerRoutingKey, headerMQTTTopic, headerTypes:
		return true // see origin
	case headerContentType:
		return f.text(value, wire.HasContentType, &p.ContentType)
	case headerContentEncoding:
		return f.text(value, wire.HasContentEncoding, &p.ContentEncoding)
	case headerCorrelationID:
		return f.text(value, wire.HasCorrelationID, &p.CorrelationID)
	case headerReplyTo:
		return f.text(value, wire.HasReplyTo, &p.ReplyTo)
	case headerMessageID:
		return f.text(value, wire.HasMessageID, &p.MessageID)
	case headerType:
		return f.text(value, wire.HasType, &p.Type)
	case headerAppID:
		return f.text(value, wire.HasAppID, &p.AppID)
	case headerClusterID:
		return f.text(value, wire.HasClusterID, &p.ClusterID)
	}
	return f.number(name, value)
}

// text sets a property that is a text.
func (f *from) text(value []byte, flag wire.PropertyFlags, into *string) bool {
	switch {
	case f.m.Properties.Flags&flag != 0:
		f.lost = append(f.lost, LostDuplicate)
	case value == nil:
		f.lost = append(f.lost, LostValue)
	case len(value) > wire.MaxShortString:
		return false
	default:
		*into = string(value)
		f.m.Properties.Flags |= flag
	}
	return true
}

// number sets a property that is a number.
func (f *from) number(name string, value []byte) bool {
	p := &f.m.Properties
	var flag wire.PropertyFlags
	most := uint64(math.MaxUint8)
	switch name {
	case headerDeliveryMode:
		flag = wire.HasDeliveryMode
	case headerPriority:
		flag = wire.HasPriority
	case headerTTL:
		flag, most = wire.HasExpiration, maxMillis
	case headerTimestamp:
		flag, most = wire.HasTimestamp, math.MaxUint64
	default:
		return false
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	switch {
	case p.Flags&flag != 0:
		f.lost = append(f.lost, LostDuplicate)
		return true
	case err != nil || n > most:
		f.lost = append(f.lost, LostValue)
		return true
	}
	p.Flags |= flag
	switch flag {
	case wire.HasDeliveryMode:
		p.DeliveryMode = uint8(n)
	case wire.HasPriority:
		p.Priority = uint8(n)
	case wire.HasExpiration:
		p.Expiration = string(value)
	case wire.HasTimestamp:
		p.Timestamp = n
	}
	return true
}

// header adds a header to the table.
func (f *from) header(name string, value []byte) {
	inTable := unescape(name)
	switch {
	case f.names[inTable]:
		f.lost = append(f.lost, LostDuplicate)
		return
	case len(inTable) > wire.MaxShortString:
		f.lost = append(f.lost, LostName)
		return
	case len(value) > maxTable:
		f.lost = append(f.lost, LostSpace)
		return
	}
	next, ok := f.types.append(nil, name, inTable, value)
	if !ok {
		f.lost = append(f.lost, LostType)
	}
	f.add(next, inTable)
}

// set adds a header of this package.
func (f *from) set(name string, k wire.Kind, text []byte) {
	b, _ := appendValue(append([]byte{byte(len(name))}, name...), k, text)
	f.add(b, name)
}

// add adds an encoded name and value to the table.
func (f *from) add(encoded []byte, name string) {
	if len(f.table)+len(encoded) > maxTable {
		f.lost = append(f.lost, LostSpace)
		return
	}
	f.table = append(f.table, encoded...)
	f.names[name] = true
}

// Elapse shortens x-delay and expiration to what is left of them at now, in milliseconds
// since 1970: both count from when the record was written. The expiration becomes what is
// left of it when the delay is over. What is published to a queue afterwards is delivered,
// and expires, when its publisher wanted it.
func (m *Message) Elapse(now int64) {
	past := max(now-m.Time, 0)
	p := &m.Properties
	delay, delayed := p.Headers.Lookup(tableDelay).Int()
	if p.Flags&wire.HasExpiration != 0 {
		if n, err := strconv.ParseUint(p.Expiration, 10, 63); err == nil {
			p.Expiration = strconv.FormatInt(max(int64(n)-max(past, delay), 0), 10)
		}
	}
	if !delayed || past == 0 {
		return
	}
	var b wire.Builder
	for name, v := range p.Headers.All() {
		if name == tableDelay {
			v = wire.Int64(max(delay-past, 0))
		}
		b.Add(name, v)
	}
	if t, err := b.Table(); err == nil { // it was a table before
		p.Headers = t
	}
}
