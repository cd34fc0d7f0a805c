package properties

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/record"
)

// entry is a name and a value of a table.
type entry struct {
	name  string
	value wire.Value
}

func table(t testing.TB, entries ...entry) wire.Table {
	t.Helper()
	var b wire.Builder
	for _, e := range entries {
		b.Add(e.name, e.value)
	}
	made, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// value makes a value of any type.
func value(t testing.TB, k wire.Kind, raw ...byte) wire.Value {
	t.Helper()
	made, err := wire.ParseTable(append([]byte{1, 'v', byte(k)}, raw...))
	if err != nil {
		t.Fatal(err)
	}
	return made.Lookup("v")
}

func section(t testing.TB, p *wire.Properties) string {
	t.Helper()
	raw, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// header returns the values of the headers of a name.
func header(r *record.Record, name string) (all []string) {
	for _, h := range r.Headers {
		if h.Key == name {
			all = append(all, string(h.Value))
		}
	}
	return all
}

// full has every property.
func full() wire.Properties {
	return wire.Properties{
		Flags: wire.HasContentType | wire.HasContentEncoding | wire.HasDeliveryMode | wire.HasPriority | wire.HasCorrelationID | wire.HasReplyTo |
			wire.HasExpiration | wire.HasMessageID | wire.HasTimestamp | wire.HasType | wire.HasAppID | wire.HasClusterID,
		ContentType: "application/json", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 7, CorrelationID: "c\xff1", ReplyTo: "answers",
		Expiration: "60000", MessageID: "m1", Timestamp: 1_700_000_000, Type: "reading", AppID: "app", ClusterID: "c",
	}
}

// TestProperties: each property of AMQP has a header of its own in a record, and comes
// back; so do all of them together.
func TestProperties(t *testing.T) {
	all := full()
	names := map[wire.PropertyFlags][2]string{
		wire.HasContentType: {headerContentType, "application/json"}, wire.HasContentEncoding: {headerContentEncoding, "gzip"},
		wire.HasDeliveryMode: {headerDeliveryMode, "2"}, wire.HasPriority: {headerPriority, "7"}, wire.HasCorrelationID: {headerCorrelationID, "c\xff1"},
		wire.HasReplyTo: {headerReplyTo, "answers"}, wire.HasExpiration: {headerTTL, "60000"}, wire.HasMessageID: {headerMessageID, "m1"},
		wire.HasTimestamp: {headerTimestamp, "1700000000"}, wire.HasType: {headerType, "reading"}, wire.HasAppID: {headerAppID, "app"},
		wire.HasClusterID: {headerClusterID, "c"},
	}
	for flag, want := range names {
		p := all
		p.Flags = flag
		r, lost := ToRecord("/", "x", "k", &p, nil)
		if got := header(&r, want[0]); len(lost) > 0 || len(r.Headers) != 4 || !slices.Equal(got, []string{want[1]}) {
			t.Errorf("%s: %v, lost %v", want[0], r.Headers, lost)
		}
		back, lost := FromRecord("topic", &r)
		if section(t, &back.Properties) != section(t, &p) || len(lost) > 0 || back.Vhost != "/" || back.Exchange != "x" || back.Key != "k" {
			t.Errorf("%s: came back as %+v, lost %v", want[0], back, lost)
		}
		delete(names, flag)
	}
	r, _ := ToRecord("/", "x", "k", &all, []byte("body"))
	back, lost := FromRecord("topic", &r)
	if section(t, &back.Properties) != section(t, &all) || string(back.Body) != "body" || len(lost) > 0 {
		t.Errorf("%+v, lost %v", back, lost)
	}
}

// TestTypes: a header of each type is text in a record, and comes back with its type.
func TestTypes(t *testing.T) {
	inner := table(t, entry{"n", wire.Int64(math.MaxInt64)}, entry{"é", wire.Text("<a&b>")}, entry{"bad", wire.Text("\xff")},
		entry{"bytes", wire.Bytes([]byte{0, 1})}, entry{"when", wire.Timestamp(5)}, entry{"void", wire.Void()}, entry{"d", wire.Double(1)})
	for _, x := range []struct {
		v     wire.Value
		text  string
		typed string // in weir.types
	}{
		{wire.Text("text"), "text", ""},
		{wire.Text(""), "", ""},
		{wire.Text("\xff"), "\xff", "S"},
		{wire.Bytes([]byte("text")), "text", "x"},
		{wire.Bytes([]byte{0xff}), "\xff", ""},
		{wire.Bool(true), "true", "t"},
		{value(t, wire.KindInt8, 0xff), "-1", "b"},
		{value(t, wire.KindUint8, 0xff), "255", "B"},
		{value(t, wire.KindInt16, 0xff, 0xfe), "-2", "s"},
		{value(t, wire.KindUint16, 0xff, 0xfe), "65534", "u"},
		{wire.Int32(math.MinInt32), "-2147483648", "I"},
		{value(t, wire.KindUint32, 0xff, 0xff, 0xff, 0xff), "4294967295", "i"},
		{wire.Int64(math.MinInt64), "-9223372036854775808", "l"},
		{value(t, wire.KindLong, 0, 0, 0, 0, 0, 0, 0, 9), "9", "L"},
		{value(t, wire.KindFloat, 0x3d, 0xcc, 0xcc, 0xcd), "0.1", "f"},
		{wire.Double(0.1), "0.1", "d"},
		{wire.Double(math.Inf(-1)), "-Inf", "d"},
		{value(t, wire.KindDecimal, 2, 0, 0, 1, 0), "256e-2", "D"},
		{wire.Timestamp(math.MaxUint64), "18446744073709551615", "T"},
		{wire.Void(), "", ""},
		{wire.Nested(inner), `{"n":9223372036854775807,"é":"<a&b>","bad":"/w==","bytes":"AAE=","when":5,"void":null,"d":1}`, "FlSzxTVd"},
		{wire.Nested(wire.Table{}), "{}", "F"},
		{wire.List(), "[]", "A"},
		{wire.List(wire.Nested(inner), wire.List(wire.Bool(false)), wire.Double(math.NaN())),
			`[{"n":9223372036854775807,"é":"<a&b>","bad":"/w==","bytes":"AAE=","when":5,"void":null,"d":1},[false],"NaN"]`, "AlSzxTVdtd"},
	} {
		p := wire.Properties{Flags: wire.HasHeaders, Headers: table(t, entry{"h=,é", x.v})}
		r, _ := ToRecord("/", "", "q", &p, nil)
		typed := ""
		if x.typed != "" {
			typed = "h%3D%2C%C3%A9=" + x.typed
		}
		if got := header(&r, "h=,é"); !slices.Equal(got, []string{x.text}) || strings.Join(header(&r, headerTypes), ";") != typed {
			t.Errorf("%v: %q, types %q", x.v, got, header(&r, headerTypes))
		}
		back, lost := FromRecord("q", &r)
		if !bytes.Equal(back.Properties.Headers.Raw(), p.Headers.Raw()) || len(lost) > 0 {
			t.Errorf("%v: came back as %q, lost %v", x.v, back.Properties.Headers.Raw(), lost)
		}
	}
}

// TestForeignTypes: values that are not what weir.types says are text, and counted.
func TestForeignTypes(t *testing.T) {
	for _, x := range []struct{ typed, text string }{
		{"I", "x"}, {"I", "4294967296"}, {"t", "yes"}, {"T", "-1"}, {"D", "5"}, {"D", "5e-256"}, {"f", "1e999"}, {"V", "x"}, {"Q", "x"},
		{"F", "[]"}, {"A", "{}"}, {"A", "[1"}, {"Al", "[]"}, {"Al", "[1,2]"}, {"At", `["x"]`}, {"A", "[] []"}, {"A", strings.Repeat("[", 50_000)},
		{"Fz", `{"a":"not base64"}`}, {"F", `{"` + strings.Repeat("n", 256) + `":1}`}, {"AS", "[null]"},
	} {
		r := record.Record{Headers: []record.Header{{Key: "h", Value: []byte(x.text)}, {Key: headerTypes, Value: []byte("h=" + x.typed)}}}
		m, lost := FromRecord("t", &r)
		if got, _ := m.Properties.Headers.Lookup("h").Bytes(); string(got) != x.text || !slices.Equal(lost, []Loss{LostType}) {
			t.Errorf("%+v: %.40q, lost %v", x, got, lost)
		}
	}
}

// TestNative: records that do not come from AMQP. Their form is that of the README, "From
// MQTT to Kafka". A record made of the message has all headers again.
func TestNative(t *testing.T) {
	r := record.Record{
		Timestamp: 1_700_000_000_123, Key: []byte("sensors/pump-7/p"), Value: []byte("21"),
		Headers: []record.Header{
			{Key: "weir.gateway", Value: []byte("g1")}, {Key: "weir.client", Value: []byte("pump-7")}, {Key: "weir.qos", Value: []byte("0")},
			{Key: "weir.retain", Value: []byte("1")}, {Key: "content-type", Value: []byte("text/plain")}, {Key: "weir.reply-to", Value: []byte("answers/1")},
			{Key: "weir.correlation-id", Value: []byte{0, 0xff}}, {Key: "weir.ttl-ms", Value: []byte("5000")}, {Key: "weir.payload-format", Value: []byte("utf-8")},
			{Key: "unit", Value: []byte("°C")}, {Key: "x-delay", Value: []byte("1500")}, {Key: "x-priority", Value: []byte("9")},
			{Key: "raw", Value: []byte{0xff}}, {Key: "null"}, {Key: "x-deduplication-header", Value: []byte("77")},
		},
	}
	m, lost := FromRecord("sensors", &r)
	want := wire.Properties{
		Flags: wire.HasHeaders | wire.HasContentType | wire.HasDeliveryMode | wire.HasPriority | wire.HasCorrelationID | wire.HasReplyTo |
			wire.HasExpiration | wire.HasTimestamp,
		ContentType: "text/plain", DeliveryMode: 1, Priority: 9, CorrelationID: "\x00\xff", ReplyTo: "answers/1", Expiration: "5000", Timestamp: 1_700_000_000,
		Headers: table(t, entry{"weir.gateway", wire.Text("g1")}, entry{"weir.client", wire.Text("pump-7")}, entry{"weir.qos", wire.Text("0")},
			entry{"weir.retain", wire.Text("1")}, entry{"weir.payload-format", wire.Text("utf-8")}, entry{"unit", wire.Text("°C")},
			entry{"x-delay", wire.Int64(1500)}, entry{"raw", wire.Bytes([]byte{0xff})}, entry{"null", wire.Void()},
			entry{"x-deduplication-header", wire.Text("77")}, entry{"timestamp_in_ms", wire.Int64(1_700_000_000_123)}),
	}
	if section(t, &m.Properties) != section(t, &want) || m.Key != "sensors.pump-7.p" || string(m.Body) != "21" || len(lost) > 0 || m.Vhost+m.Exchange != "" {
		t.Errorf("%+v, lost %v", m, lost)
	}
	back, _ := ToRecord("/", TopicExchange, m.Key, &m.Properties, m.Body)
	if string(back.Key) != string(r.Key) {
		t.Errorf("key %q", back.Key)
	}
	for _, h := range r.Headers {
		if got := header(&back, h.Key); !slices.Equal(got, []string{string(h.Value)}) {
			t.Errorf("header %s came back as %q", h.Key, got)
		}
	}
	if added := len(back.Headers) - len(r.Headers); added != 7 { // vhost, exchange, routing key, delivery mode, time twice, types
		t.Errorf("%d headers were added: %v", added, back.Headers)
	}
}

// TestKeys: routing keys and the keys of records.
func TestKeys(t *testing.T) {
	for _, x := range []struct {
		topic, key, mqtt string // of a record
		routing          string
		headers          map[string]string // in the table, about the key
	}{
		{"sensors", "sensors/a/b", "", "sensors.a.b", nil},
		{"sensors", "sensors", "", "sensors", nil},
		{"sensors", "sensors//b/", "", "sensors..b.", nil},
		{"sensors", "sensorsx/a", "", "sensors", map[string]string{"x-key": "sensorsx/a"}},
		{"sensors", "pump-7", "sensors/pump-7/p", "sensors.pump-7.p", map[string]string{"x-key": "pump-7"}},
		{"sensors", "sensors/v1.2/p", "", "sensors.v1.2.p", map[string]string{"weir.mqtt-topic": "sensors/v1.2/p"}},
		{"sensors", "k", "sensors/a.b", "sensors.a.b", map[string]string{"x-key": "k", "weir.mqtt-topic": "sensors/a.b"}},
		{"orders.eu", "42", "", "orders.eu", map[string]string{"x-key": "42"}},
		{"orders", "\xff", "", "orders", map[string]string{"x-key": "\xff"}},
	} {
		r := record.Record{Key: []byte(x.key), Value: []byte{}}
		if x.mqtt != "" {
			r.Headers = append(r.Headers, record.Header{Key: headerMQTTTopic, Value: []byte(x.mqtt)})
		}
		m, lost := FromRecord(x.topic, &r)
		got := map[string]string{}
		for name, v := range m.Properties.Headers.All() {
			if name != tableTimeMS {
				p, _ := v.Bytes()
				got[name] = string(p)
			}
		}
		if m.Key != x.routing || len(lost) > 0 || len(got) != len(x.headers) || len(got) > 0 && !reflect.DeepEqual(got, x.headers) {
			t.Errorf("%+v: %q, %v, lost %v", x, m.Key, got, lost)
		}
		back, _ := ToRecord("/", TopicExchange, m.Key, &m.Properties, nil)
		again, _ := FromRecord(x.topic, &back)
		if string(back.Key) != x.key || again.Key != m.Key || !bytes.Equal(again.Properties.Headers.Raw(), m.Properties.Headers.Raw()) {
			t.Errorf("%+v: key %q, then %q with %q", x, back.Key, again.Key, again.Properties.Headers.Raw())
		}
	}
	for _, x := range []struct{ exchange, key, want string }{{"", "q", "nil"}, {TopicExchange, "a.*.b", "a/+/b"}, {"x", "a.b", "a.b"}, {TopicExchange, "", ""}} {
		r, _ := ToRecord("/", x.exchange, x.key, &wire.Properties{}, nil)
		if got := string(r.Key); got != x.want && (x.want != "nil" || r.Key != nil) || r.Value == nil {
			t.Errorf("%+v: %q", x, got)
		}
	}
	long := "sensors/" + strings.Repeat("a/", 200) + "b"
	m, lost := FromRecord("sensors", &record.Record{Key: []byte(long)})
	if topic, _ := m.Properties.Headers.Lookup(headerMQTTTopic).Bytes(); string(topic) != long || len(m.Key) > 255 || !strings.HasSuffix(m.Key, ".a") || !slices.Equal(lost, []Loss{LostKey}) {
		t.Errorf("%q, %q, lost %v", m.Key, topic, lost)
	}
	if back, _ := ToRecord("/", TopicExchange, m.Key, &m.Properties, m.Body); string(back.Key) != long || back.Value != nil {
		t.Errorf("%q", back.Key)
	}
}

// TestLosses: each loss that is counted occurs, and only then.
func TestLosses(t *testing.T) {
	h := func(all ...string) (r record.Record) {
		for i := 0; i < len(all); i += 2 {
			r.Headers = append(r.Headers, record.Header{Key: all[i], Value: []byte(all[i+1])})
		}
		return r
	}
	null := record.Record{Headers: []record.Header{{Key: headerContentType}}}
	for _, x := range []struct {
		r    record.Record
		want Loss
	}{
		{h("a", "1", "a", "2"), LostDuplicate}, {h("content-type", "1", "content-type", "2"), LostDuplicate}, {h("x-priority", "1", "x-priority", "2"), LostDuplicate},
		{h(strings.Repeat("n", 256), ""), LostName}, {h("a", strings.Repeat("v", maxTable)), LostSpace}, {h("a", strings.Repeat("v", maxTable+1)), LostSpace},
		{h("x-priority", "256"), LostValue}, {h("x-priority", ""), LostValue}, {h("weir.ttl-ms", "-1"), LostValue}, {h("weir.ttl-ms", "4294967296"), LostValue},
		{h("weir.timestamp", "x"), LostValue}, {h("weir.delivery-mode", "x"), LostValue}, {null, LostValue},
		{h("weir.types", "a=I", "a", "x"), LostType}, {h(headerMQTTTopic, strings.Repeat("a", 256)), LostKey},
	} {
		x.r.Value = []byte{}
		if _, lost := FromRecord("t", &x.r); !slices.Equal(lost, []Loss{x.want}) {
			t.Errorf("%.60v: lost %v", x.r.Headers, lost)
		}
	}
	p := wire.Properties{Flags: wire.HasHeaders, Headers: table(t, entry{"BCC", wire.List(wire.Text("secret"))})}
	if r, _ := ToRecord("/", "", "q", &p, nil); len(r.Headers) != 2 {
		t.Errorf("%v", r.Headers)
	}
}

// TestLongAndForeign: what does not fit into a property is a header of the record's name
// for it, and comes back; a header of such a name does not become the property.
func TestLongAndForeign(t *testing.T) {
	long := strings.Repeat("c", 300)
	r := record.Record{Value: []byte{}, Headers: []record.Header{{Key: headerCorrelationID, Value: []byte(long)}, {Key: headerUserID, Value: []byte("root")}}}
	m, lost := FromRecord("t", &r)
	p := &m.Properties
	id, _ := p.Headers.Lookup(headerCorrelationID).Bytes()
	user, _ := p.Headers.Lookup(headerUserID).Bytes()
	if p.Flags&(wire.HasCorrelationID|wire.HasUserID) != 0 || string(id) != long || string(user) != "root" || len(lost) > 0 {
		t.Errorf("%+v, lost %v", m, lost)
	}
	back, _ := ToRecord("/", "", "t", p, nil)
	if !slices.Equal(header(&back, headerCorrelationID), []string{long}) || !slices.Equal(header(&back, headerUserID), []string{"root"}) {
		t.Errorf("%v", back.Headers)
	}
	var entries []entry
	for _, name := range []string{headerContentType, headerPriority, headerTypes, headerVhost, headerRoutingKey, headerMQTTTopic, headerTTL, tableNull, "weir.header.x", "weir.header.weir.type"} {
		entries = append(entries, entry{name, wire.Text("5")})
	}
	forged := wire.Properties{Flags: wire.HasHeaders, Headers: table(t, entries...)}
	r, _ = ToRecord("/", "", "t", &forged, []byte("x"))
	for _, name := range []string{headerContentType, headerPriority, headerTypes, headerMQTTTopic, headerTTL} {
		if got := header(&r, name); len(got) > 0 {
			t.Errorf("header %s is %q", name, got)
		}
	}
	if m, _ := FromRecord("t", &r); section(t, &m.Properties) != section(t, &forged) || m.Vhost != "/" || m.Key != "t" {
		t.Errorf("%+v", m)
	}
}

func TestElapse(t *testing.T) {
	p := wire.Properties{Flags: wire.HasExpiration | wire.HasHeaders, Expiration: "5000", Headers: table(t, entry{"a", wire.Text("b")}, entry{"x-delay", wire.Int64(1500)})}
	for _, x := range []struct {
		now   int64
		ttl   string
		delay int64
	}{{900, "3500", 1500}, {1000, "3500", 1500}, {2000, "3500", 500}, {2500, "3500", 0}, {3500, "2500", 0}, {9000, "0", 0}} {
		m := Message{Properties: p, Time: 1000}
		m.Elapse(x.now)
		delay, ok := m.Properties.Headers.Lookup("x-delay").Int()
		if a, _ := m.Properties.Headers.Lookup("a").Bytes(); m.Properties.Expiration != x.ttl || delay != x.delay || !ok || string(a) != "b" {
			t.Errorf("%+v: %+v", x, m.Properties)
		}
	}
	plain := Message{Time: 1000}
	plain.Elapse(5000)
	if !reflect.DeepEqual(plain, Message{Time: 1000}) {
		t.Errorf("%+v", plain)
	}
}

// TestAppendOrigin: records with the same origin have the same routing key.
func TestAppendOrigin(t *testing.T) {
	const topic = "sensors"
	keys := make(map[string]string)
	for _, key := range []string{"", "sensors", "sensors/a", "sensorsx", "k"} {
		for _, headers := range [][]record.Header{
			nil,
			{{Key: headerGateway, Value: []byte("g")}},
			{{Key: headerMQTTTopic, Value: []byte("sensors/b")}},
			{{Key: headerMQTTTopic, Value: []byte("a")}, {Key: headerGateway, Value: []byte("g")}},
			{{Key: headerRoutingKey, Value: []byte("r.s")}},
			{{Key: "other", Value: []byte("a")}},
			{{Key: headerMQTTTopic, Value: []byte("a\x00" + headerRoutingKey + "\x00r")}},
			{{Key: headerMQTTTopic, Value: []byte("a")}, {Key: headerRoutingKey, Value: []byte("r")}},
		} {
			r := record.Record{Key: []byte(key), Headers: headers}
			m, _ := FromRecord(topic, &r)
			origin, copies := AppendOrigin(nil, topic, &r)
			if before, known := keys[string(origin)]; copies || known && before != m.Key {
				t.Errorf("origin %q: keys %q and %q", origin, before, m.Key)
			}
			keys[string(origin)] = m.Key
		}
	}
	if _, copies := AppendOrigin(nil, topic, &record.Record{Headers: []record.Header{{Key: "CC"}}}); !copies {
		t.Error("CC has further keys")
	}
}
