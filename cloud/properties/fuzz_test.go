package properties

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// FuzzMessage: a message of AMQP comes back from a record as it was, but for what the
// table of losses says.
func FuzzMessage(f *testing.F) {
	all := full()
	all.Flags |= wire.HasHeaders
	all.Headers = table(f, entry{"a", wire.Int32(1)}, entry{"x-key", wire.Text("k")}, entry{"t", wire.Nested(table(f, entry{"x", wire.Timestamp(1)}))})
	raw, err := all.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(TopicExchange, "a.b", raw, []byte("body"))
	f.Add("", "q", []byte{0, 0}, []byte(nil))
	f.Fuzz(func(t *testing.T, exchange, key string, raw, body []byte) {
		var p wire.Properties
		if len(exchange) > wire.MaxShortString || len(key) > wire.MaxShortString || p.Decode(raw) != nil || len(raw) > maxTable/2 {
			return
		}
		want, ok := expected(t, &p, body)
		if !ok {
			return
		}
		r, _ := ToRecord("v", exchange, key, &p, body)
		m, lost := FromRecord("topic", &r)
		if m.Vhost != "v" || m.Exchange != exchange || m.Key != key || !bytes.Equal(m.Body, body) {
			t.Fatalf("%+v, lost %v", m, lost)
		}
		if got := comparable(&m.Properties); !slices.Equal(got, comparable(&want)) {
			t.Fatalf("%q\n%q\nlost %v, of %v", got, comparable(&want), lost, r.Headers)
		}
	})
}

// expected returns what comes back of properties, false if that is not compared.
func expected(t *testing.T, p *wire.Properties, body []byte) (wire.Properties, bool) {
	want := *p
	want.Flags &^= wire.HasHeaders | wire.HasUserID | 1<<1
	var b wire.Builder
	names := map[string]bool{}
	if p.Flags&wire.HasUserID != 0 {
		b.Add(headerUserID, wire.Text(p.UserID))
		names[headerUserID] = true
	}
	for name, v := range p.Headers.All() {
		if odd(v) {
			return want, false
		}
		if names[name] || name == tableBCC {
			continue
		}
		names[name] = true
		b.Add(name, v)
	}
	if names[headerUserID] || names[tableKey] || names[tableNull] || names[headerMQTTTopic] {
		return want, false // where they stand in the table changes, or they say what the record is
	}
	if n, err := strconv.ParseUint(p.Expiration, 10, 64); p.Flags&wire.HasExpiration != 0 && (err != nil || n > maxMillis || strings.HasPrefix(p.Expiration, "+")) {
		return want, false // refused by the door
	}
	headers, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	if want.Headers = headers; len(headers.Raw()) > 0 {
		want.Flags |= wire.HasHeaders
	}
	return want, true
}

// odd reports whether a value has one of the forms that are lost.
func odd(v wire.Value) bool {
	if t, ok := v.Table(); ok {
		for name, v := range t.All() {
			if odd(v) || strings.ToValidUTF8(name, "") != name {
				return true
			}
		}
	}
	if a, ok := v.Array(); ok {
		for v := range a.All() {
			if odd(v) {
				return true
			}
		}
	}
	f, _ := v.Float()
	return math.IsNaN(f) || v.Kind() == wire.KindBool && v.Raw()[1] > 1
}

// comparable returns properties as texts.
func comparable(p *wire.Properties) []string {
	q := *p
	q.Headers = wire.Table{}
	raw, err := q.Append(nil)
	if err != nil {
		return []string{err.Error()}
	}
	all := []string{string(raw)}
	for name, v := range p.Headers.All() {
		all = append(all, name+"="+string(v.Raw()))
	}
	return all
}

// FuzzRecord: whatever a record has, its message is valid, and what is not lost of it is
// in the record that is made of the message.
func FuzzRecord(f *testing.F) {
	f.Add("sensors", []byte("sensors/a"), "unit", []byte("°C"), "weir.types", []byte("unit=x"))
	f.Add("t", []byte(nil), "x-delay", []byte("5"), "weir.header.x-priority", []byte("5"))
	f.Add("t", []byte("k"), "weir.routing-key", []byte("a.b"), "weir.exchange", []byte("amq.topic"))
	f.Add("t", []byte("k"), "n", []byte(`{"a":[1,"x"]}`), "weir.types", []byte("n=FlS"))
	f.Fuzz(func(t *testing.T, topic string, key []byte, name string, value []byte, other string, more []byte) {
		if len(topic) > 249 || len(name)+len(other)+len(value)+len(more) > maxTable/2 {
			return
		}
		r := record.Record{Key: key, Value: []byte("v"), Headers: []record.Header{{Key: name, Value: value}, {Key: other, Value: more}}}
		m, lost := FromRecord(topic, &r)
		raw, err := m.Properties.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		var p wire.Properties
		if err := p.Decode(raw); err != nil {
			t.Fatal(err)
		}
		if len(lost) > 0 || len(m.Key) > wire.MaxShortString || len(m.Exchange) > wire.MaxShortString {
			return
		}
		back, _ := ToRecord("v", m.Exchange, m.Key, &p, m.Body)
		typed := name == headerTypes || other == headerTypes // then JSON and numbers may have another form
		for _, h := range r.Headers {
			switch h.Key {
			case headerVhost, headerExchange, headerRoutingKey, headerMQTTTopic, headerTypes, tableKey, tableBCC, tableNull:
				continue
			}
			equal := func(x record.Header) bool { return x.Key == h.Key && (typed || bytes.Equal(plain(h), plain(x))) }
			if !slices.ContainsFunc(back.Headers, equal) {
				t.Fatalf("header %q %q is not in %v", h.Key, h.Value, back.Headers)
			}
		}
	})
}

// plain returns the value of a header; that of a number without leading zeros.
func plain(h record.Header) []byte {
	if h.Key == headerPriority || h.Key == headerDeliveryMode || h.Key == headerTimestamp {
		return append([]byte("0"), bytes.TrimLeft(h.Value, "0")...)
	}
	return h.Value
}
