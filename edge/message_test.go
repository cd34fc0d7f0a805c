package edge

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
)

// TestEncode: what MQTT knows of a message becomes headers.
func TestEncode(t *testing.T) {
	full := mqtt.Properties{HasPayloadFormat: true, PayloadFormat: 1, HasExpiry: true, Expiry: 60, ContentType: "text/plain",
		ResponseTopic: "r/1", CorrelationData: []byte{1}, User: []mqtt.UserProperty{{Key: "site", Value: "n"}, {Key: "weir.source", Value: "forged"}, {Key: "site", Value: "s"}}}
	for name, c := range map[string]struct {
		m        mqtt.Message
		to       Target
		want     string
		reserved int
	}{
		"plain":         {mqtt.Message{Topic: "a/b", QoS: 1, Version: 4, ClientID: "c-7"}, Target{Topic: "a", Key: "a/b", Source: true}, "weir.client=c-7;", 0},
		"source: off":   {mqtt.Message{Topic: "a/b", QoS: 1, Version: 4, ClientID: "c-7"}, Target{Topic: "a", Key: "a/b"}, "", 0},
		"another key":   {mqtt.Message{Topic: "a/b", QoS: 1, Version: 4}, Target{Topic: "a", Key: "b"}, "weir.mqtt-topic=a/b;", 0},
		"QoS 2, retain": {mqtt.Message{Topic: "a", QoS: 2, Retain: true, Version: 4}, Target{Topic: "a", Key: "a"}, "weir.qos=2;weir.retain=1;", 0},
		"not version 5": {mqtt.Message{Topic: "a", QoS: 1, Version: 4, Properties: full}, Target{Topic: "a", Key: "a"}, "", 0},
		"version 5": {mqtt.Message{Topic: "a", QoS: 1, Version: 5, ClientID: "c", Properties: full}, Target{Topic: "a", Key: "a", Source: true},
			"weir.client=c;content-type=text/plain;weir.reply-to=r/1;weir.correlation-id=\x01;weir.ttl-ms=60000;weir.payload-format=utf-8;site=n;site=s;", 1},
	} {
		c.m.Accepted, c.m.Payload = time.UnixMilli(42), []byte("v")
		r, reserved := encode(&c.m, c.to, new(arena))
		var got string
		for _, h := range r.Headers {
			got += h.Key + "=" + string(h.Value) + ";"
		}
		if got != c.want || reserved != c.reserved || r.Topic != c.to.Topic || string(r.Key) != c.to.Key || string(r.Value) != "v" || r.Timestamp != 42 {
			t.Errorf("%s: %+v with headers\n%q, want\n%q; %d left out", name, r, got, c.want, reserved)
		}
	}
}

// TestTombstone: an empty payload is a null value only if it is retained, the route
// says so and there is a key.
func TestTombstone(t *testing.T) {
	for _, c := range []struct {
		retain, tombstone bool
		key, payload      string
		null              bool
	}{
		{true, true, "k", "", true},
		{false, true, "k", "", false},
		{true, false, "k", "", false},
		{true, true, "", "", false},
		{true, true, "k", "v", false},
	} {
		for _, payload := range [][]byte{[]byte(c.payload), nil} {
			if payload == nil && c.payload != "" {
				continue
			}
			m := &mqtt.Message{Topic: "a", Payload: payload, QoS: 1, Retain: c.retain, Version: 4}
			r, _ := encode(m, Target{Topic: "a", Key: c.key, Tombstone: c.tombstone}, new(arena))
			if (r.Value == nil) != c.null || string(r.Value) != c.payload {
				t.Errorf("%+v: value %#v", c, r.Value)
			}
		}
	}
}

// TestTombstoneInTheLog: a null value goes through the local log to the sender, and
// an empty one stays empty.
func TestTombstoneInTheLog(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	routes, err := ParseRoutes([]byte("routes: [{filter: state/#, topic: states, tombstone: true}]"))
	if err != nil {
		t.Fatal(err)
	}
	b.routes.Store(&routes)
	all := []*mqtt.Message{
		{Topic: "state/1", QoS: 2, Retain: true, ClientID: "c"},
		{Topic: "state/1", QoS: 1, ClientID: "c"},
		{Topic: "state/1", Payload: []byte("v"), QoS: 1, Retain: true, ClientID: "c"},
	}
	batch, places, errs := accept(b, all)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store(b, batch); err != nil {
		t.Fatal(err)
	}
	items, err := uplink{Log: b.log, gateway: []byte("gw-1")}.Read(places[0].buffer, 1, 1)
	if err != nil || len(items) != 3 {
		t.Fatalf("%v %v", items, err)
	}
	if v := items[0].Record.Value; v != nil {
		t.Errorf("the tombstone has value %q", v)
	}
	if v := items[1].Record.Value; v == nil || len(v) != 0 {
		t.Errorf("an empty payload that is not retained became %#v", v)
	}
	if v := items[2].Record.Value; string(v) != "v" {
		t.Errorf("a value became %q", v)
	}
	for i, item := range items {
		h := item.Record.Headers
		if h[0].Key != "weir.gateway" || string(h[0].Value) != "gw-1" || h[1].Key != "weir.client" || string(h[1].Value) != "c" {
			t.Errorf("record %d: headers %v", i, h)
		}
	}
}

// TestSourceCost: what the headers that name gateway and client cost on the wire.
func TestSourceCost(t *testing.T) {
	size := func(readings int, codec record.Codec, source bool) int {
		b := record.NewBuilder(codec)
		for i := range readings {
			device := fmt.Sprintf("dev-%05d", i%50)
			m := &mqtt.Message{ClientID: device, Topic: "sensors/" + device + "/telemetry", QoS: 1, Version: 4, Accepted: time.UnixMilli(1764403200000 + int64(37*i)),
				Payload: fmt.Appendf(nil, `{"device":"%s","seq":%d,"ts":%d,"temperature":%.2f,"humidity":%.1f,"battery":%.3f,"status":"ok"}`,
					device, i/50, 1764403200000+int64(37*i), 20+float64(i*7919%997)/100, 40+float64(i*104729%389)/10, 3.1+float64(i*31%500)/1000)}
			r, _ := encode(m, Target{Topic: "sensors", Key: m.Topic, Source: source}, new(arena))
			r.Headers = withGateway(r.Headers, []byte("pump-house-3"))
			if err := b.Append(&r.Record); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return len(batch)
	}
	without, with := size(128, record.Zstd, false), size(128, record.Zstd, true)
	alone := size(1, record.None, true) - size(1, record.None, false)
	t.Logf("128 readings: %d and %d bytes; one: %d more", without, with, alone)
	if more := float64(with-without) / 128; more > 5 || alone > 60 {
		t.Errorf("%.1f bytes more for each of 128, %d for one alone", more, alone)
	}
}

// TestArena: the records of a batch share memory and nothing else, however it grows,
// and an arena that has its size costs no allocation.
func TestArena(t *testing.T) {
	var a arena
	pack := func(n int) {
		a.reset()
		records := make([]wal.Record, n)
		for i := range records {
			id := strconv.Itoa(i)
			m := &mqtt.Message{Topic: "t/" + id, ClientID: "c" + id, QoS: byte(i % 2), Payload: []byte(id)}
			records[i], _ = encode(m, Target{Topic: "t", Key: m.Topic, Source: true}, &a)
		}
		for i, r := range records {
			id := strconv.Itoa(i)
			if string(r.Key) != "t/"+id || len(r.Headers) != 2-i%2 || r.Headers[0].Key != headerClient || string(r.Headers[0].Value) != "c"+id {
				t.Fatalf("record %d of %d: key %q, headers %v", i, n, r.Key, r.Headers)
			}
		}
	}
	for _, n := range []int{1, 1000, 3, 200} {
		pack(n)
	}
	m, to := &mqtt.Message{Topic: "t/1", ClientID: "c", QoS: 1}, Target{Topic: "t", Key: "t/1", Source: true}
	if n := testing.AllocsPerRun(100, func() { a.reset(); encode(m, to, &a) }); n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
	if r, _ := encode(&mqtt.Message{Topic: "t"}, Target{Topic: "t"}, new(arena)); r.Key == nil {
		t.Error("an empty key has become null")
	}
}
