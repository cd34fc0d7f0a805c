package edge

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/edge/mqtt"
)

// TestProperties: each property that MQTT has is in the record that a gateway makes of a
// message, and in the message of AMQP 0-9-1 that the cloud makes of the record, unless
// the table of losses says otherwise.
func TestProperties(t *testing.T) {
	user := func(all ...string) (p mqtt.Properties) {
		for i := 0; i < len(all); i += 2 {
			p.User = append(p.User, mqtt.UserProperty{Key: all[i], Value: all[i+1]})
		}
		return p
	}
	plain := mqtt.Message{Topic: "a/b", QoS: 1, Version: 5, Payload: []byte("v"), Accepted: time.UnixMilli(1_700_000_000_123)}
	with := func(p mqtt.Properties) mqtt.Message {
		m := plain
		m.Properties = p
		return m
	}
	quick, once, kept, device, empty, foreign := plain, plain, plain, plain, plain, plain
	quick.QoS, once.QoS, kept.Retain, device.ClientID, empty.Payload, foreign.Topic = 0, 2, true, "pump-7", nil, "a/v1.2"
	for name, x := range map[string]struct {
		m      mqtt.Message
		record string // its headers
		amqp   string // what differs from that of the plain message
		lost   []properties.Loss
	}{
		"nothing":        {plain, "", "", nil},
		"QoS 0":          {quick, "weir.qos=0;", "delivery_mode=1;weir.qos=0;", nil},
		"QoS 2":          {once, "weir.qos=2;", "weir.qos=2;", nil},
		"RETAIN":         {kept, "weir.retain=1;", "weir.retain=1;", nil},
		"client":         {device, "weir.client=pump-7;", "weir.client=pump-7;", nil},
		"no payload":     {empty, "", "body=;", nil},
		"a dot":          {foreign, "", "key=a.v1.2;weir.mqtt-topic=a/v1.2;", nil},
		"content type":   {with(mqtt.Properties{ContentType: "text/plain"}), "content-type=text/plain;", "content_type=text/plain;", nil},
		"response topic": {with(mqtt.Properties{ResponseTopic: "r/1"}), "weir.reply-to=r/1;", "reply_to=r/1;", nil},
		"correlation":    {with(mqtt.Properties{CorrelationData: []byte{1, 0xff}}), "weir.correlation-id=\x01\xff;", "correlation_id=\x01\xff;", nil},
		"expiry":         {with(mqtt.Properties{HasExpiry: true, Expiry: 60}), "weir.ttl-ms=60000;", "expiration=60000;", nil},
		"long expiry":    {with(mqtt.Properties{HasExpiry: true, Expiry: 1 << 31}), "weir.ttl-ms=2147483648000;", "", []properties.Loss{properties.LostValue}},
		"format":         {with(mqtt.Properties{HasPayloadFormat: true, PayloadFormat: 1}), "weir.payload-format=utf-8;", "weir.payload-format=utf-8;", nil},
		"user":           {with(user("site", "n", "unit", "°C")), "site=n;unit=°C;", "site=n;unit=°C;", nil},
		"user twice":     {with(user("site", "n", "site", "s")), "site=n;site=s;", "site=n;", []properties.Loss{properties.LostDuplicate}},
		"user reserved":  {with(user("weir.type", "x")), "", "", nil},
		"priority":       {with(user("x-priority", "7")), "x-priority=7;", "priority=7;", nil},
		"no priority":    {with(user("x-priority", "high")), "x-priority=high;", "", []properties.Loss{properties.LostValue}},
		"delay":          {with(user("x-delay", "5000")), "x-delay=5000;", "x-delay=5000;", nil},
		"dedupe":         {with(user("x-deduplication-header", "1")), "x-deduplication-header=1;", "x-deduplication-header=1;", nil},
	} {
		r, _ := encode(&x.m, Target{Topic: "a", Key: x.m.Topic, Source: x.m.ClientID != ""}, new(arena))
		var got string
		for _, h := range r.Headers {
			got += h.Key + "=" + string(h.Value) + ";"
		}
		if got != x.record {
			t.Errorf("%s: the record has %q, want %q", name, got, x.record)
		}
		m, lost := properties.FromRecord(r.Topic, &r.Record)
		if got := differs(m); got != x.amqp || !slices.Equal(lost, x.lost) {
			t.Errorf("%s: the message has %q, want %q; lost %v", name, got, x.amqp, lost)
		}
	}
}

// differs says in what a message is not like that of a message without properties.
func differs(m properties.Message) (all string) {
	p := &m.Properties
	for _, x := range [][3]string{
		{"body", string(m.Body), "v"}, {"key", m.Key, "a.b"}, {"delivery_mode", fmt.Sprint(p.DeliveryMode), "2"}, {"priority", fmt.Sprint(p.Priority), "0"},
		{"content_type", p.ContentType, ""}, {"correlation_id", p.CorrelationID, ""}, {"reply_to", p.ReplyTo, ""}, {"expiration", p.Expiration, ""},
		{"timestamp", fmt.Sprint(p.Timestamp), "1700000000"}, {"message_id", p.MessageID, ""}, {"type", p.Type, ""}, {"user_id", p.UserID, ""},
		{"app_id", p.AppID, ""}, {"content_encoding", p.ContentEncoding, ""}, {"cluster_id", p.ClusterID, ""},
	} {
		if x[1] != x[2] {
			all += x[0] + "=" + x[1] + ";"
		}
	}
	for name, v := range p.Headers.All() {
		if ms, ok := v.Int(); name != "timestamp_in_ms" || !ok || ms != 1_700_000_000_123 {
			all += name + "=" + v.String() + ";"
		}
	}
	return all
}
