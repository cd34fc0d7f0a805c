package properties

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// to is a message on its way to a record.
type to struct {
	r     record.Record
	types []byte
	named map[string]bool // headers of the table that were added
	lost  []Loss
}

// ToRecord returns a message that was published with a routing key to an exchange of a
// vhost as a record of a topic, and why values of it are not there. The record's key is
// the header x-key; else the MQTT topic of the routing key for the exchange amq.topic, none
// for the default exchange, and the routing key for others. It has no time. The record
// points into the properties and body.
func ToRecord(vhost, exchange, key string, p *wire.Properties, body []byte) (record.Record, []Loss) {
	t := to{r: record.Record{Value: body}, named: make(map[string]bool)}
	if t.r.Value == nil {
		t.r.Value = []byte{}
	}
	topic := ""
	if exchange == TopicExchange {
		topic = mqttTopic(key)
		if v, ok := p.Headers.Lookup(headerMQTTTopic).Bytes(); ok && cut(routingKey(string(v))) == key {
			topic = string(v)
		}
	}
	t.key(exchange, key, topic, p)
	t.add(headerVhost, []byte(vhost))
	if exchange != "" {
		t.add(headerExchange, []byte(exchange))
	}
	t.add(headerRoutingKey, []byte(key))
	if topic != "" && topic != string(t.r.Key) {
		t.add(headerMQTTTopic, []byte(topic))
	}
	t.properties(p)
	for name, v := range p.Headers.All() {
		t.header(name, v, topic, p)
	}
	if len(t.types) > 0 {
		t.add(headerTypes, t.types)
	}
	return t.r, t.lost
}

func (t *to) add(name string, value []byte) {
	t.r.Headers = append(t.r.Headers, record.Header{Key: name, Value: value})
}

// key sets the key of the record.
func (t *to) key(exchange, key, topic string, p *wire.Properties) {
	if v := p.Headers.Lookup(tableKey); v.Exists() && keyable(v) {
		t.r.Key = textOf(v)
		t.types = appendType(t.types, tableKey, v.Kind(), nil)
		return
	}
	derived, ok := recordKey(exchange, key)
	if topic != "" {
		derived = topic
	}
	if ok {
		t.r.Key = []byte(derived)
	}
}

// keyable reports whether a header can be the key of a record.
func keyable(v wire.Value) bool {
	k := v.Kind()
	return k != wire.KindTable && k != wire.KindArray && k != wire.KindVoid
}

// properties adds the headers that stand for properties.
func (t *to) properties(p *wire.Properties) {
	for _, x := range []struct {
		flag  wire.PropertyFlags
		name  string
		value string
	}{
		{wire.HasContentType, headerContentType, p.ContentType},
		{wire.HasContentEncoding, headerContentEncoding, p.ContentEncoding},
		{wire.HasDeliveryMode, headerDeliveryMode, strconv.Itoa(int(p.DeliveryMode))},
		{wire.HasPriority, headerPriority, strconv.Itoa(int(p.Priority))},
		{wire.HasCorrelationID, headerCorrelationID, p.CorrelationID},
		{wire.HasReplyTo, headerReplyTo, p.ReplyTo},
		{wire.HasExpiration, headerTTL, strings.TrimPrefix(p.Expiration, "+")},
		{wire.HasMessageID, headerMessageID, p.MessageID},
		{wire.HasTimestamp, headerTimestamp, strconv.FormatUint(p.Timestamp, 10)},
		{wire.HasType, headerType, p.Type},
		{wire.HasUserID, headerUserID, p.UserID},
		{wire.HasAppID, headerAppID, p.AppID},
		{wire.HasClusterID, headerClusterID, p.ClusterID},
	} {
		if p.Flags&x.flag != 0 {
			t.add(x.name, []byte(x.value))
		}
	}
}

// header adds a header of the table.
func (t *to) header(name string, v wire.Value, topic string, p *wire.Properties) {
	switch {
	case name == tableBCC:
		return
	case name == tableKey && keyable(v) && !t.named[name]: // see key
		t.named[name] = true
		return
	case name == tableNull && len(t.r.Value) == 0:
		if null, _ := v.Bool(); null {
			t.r.Value = nil
			return
		}
	case name == headerMQTTTopic && topic != "":
		if text, ok := v.Bytes(); ok && string(text) == topic {
			return
		}
	}
	if reserved(name) && !tooLong(name, v, p) {
		name = headerPrefix + name
	}
	k := v.Kind()
	var text, elements []byte
	if k == wire.KindTable || k == wire.KindArray {
		text, elements = appendJSON(nil, nil, v)
	} else {
		text = textOf(v)
	}
	if !t.named[name] && k != defaultKind(unescape(name), text) {
		t.types = appendType(t.types, name, k, elements)
	}
	t.named[name] = true
	t.add(name, text)
}

// tooLong reports whether a header has what stands in the table only because it does not
// fit into a property, or because a property must not say it.
func tooLong(name string, v wire.Value, p *wire.Properties) bool {
	text, ok := v.Bytes()
	if !ok || (v.Kind() == wire.KindString) != utf8.Valid(text) {
		return false
	}
	if name == headerUserID {
		return p.Flags&wire.HasUserID == 0
	}
	return len(text) > wire.MaxShortString && slices.Contains([]string{headerContentType, headerContentEncoding, headerCorrelationID,
		headerReplyTo, headerMessageID, headerType, headerAppID, headerClusterID}, name)
}
