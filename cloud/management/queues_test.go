package management

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
)

func TestQueues(t *testing.T) {
	n := newNode(t, nil)
	n.ask(201, "PUT", "/api/queues/%2F/q", `{"durable":true,"arguments":{"x-message-ttl":60000,"x-queue-type":"quorum"},"node":"any"}`)
	n.ask(204, "PUT", "/api/queues/%2F/q", `{"durable":"true","auto_delete":"false","arguments":{"x-message-ttl":60000,"x-queue-type":"quorum"}}`)
	n.fails(400, "bad_request", "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '60000' of type 'long'", "PUT", "/api/queues/%2F/q", `{"durable":true,"arguments":{}}`)
	n.fails(400, "bad_request", "inequivalent arg 'durable'", "PUT", "/api/queues/%2F/q", ``)
	n.fails(400, "bad_request", "not_json", "PUT", "/api/queues/%2F/bad", `{`)
	n.fails(400, "bad_request", "not_boolean", "PUT", "/api/queues/%2F/bad", `{"durable":"x"}`)
	n.fails(400, "bad_request", "invalid arg 'x-message-ttl' for queue 'bad' in vhost '/': {value_negative,-1}", "PUT", "/api/queues/%2F/bad", `{"arguments":{"x-message-ttl":-1}}`)
	has(t, n.get("/api/queues/%2F/q"), object{"name": "q", "vhost": "/", "type": "quorum", "durable": true, "auto_delete": false, "exclusive": false,
		"arguments": object{"x-message-ttl": 60000.0, "x-queue-type": "quorum"}, "messages": 0, "consumers": 0, "node": "a", "consumer_details": []any{}})
	n.ask(200, "POST", "/api/exchanges/%2F/amq.default/publish", `{"properties":{"delivery_mode":2,"headers":{"h":[1]}},"routing_key":"q","payload":"hi","payload_encoding":"string"}`)
	has(t, n.get("/api/queues/%2F/q"), object{"messages": 1, "messages_ready": 1, "messages_unacknowledged": 0, "message_bytes": 2})
	n.fails(400, "bad_request", "not empty", "DELETE", "/api/queues/%2F/q?if-empty=true", "")
	n.ask(204, "DELETE", "/api/queues/%2F/q/contents", "")
	has(t, n.get("/api/queues/%2F/q"), object{"messages": 0})
	n.ask(204, "DELETE", "/api/queues/%2F/q?if-empty=true&if-unused=true", "")
	for _, path := range []string{"/api/queues/%2F/q", "/api/queues/%2F/q/contents"} {
		n.fails(404, "Object Not Found", "Not Found", "DELETE", path, "")
	}
}

// TestStreamQueues: a stream queue is what is in the topic of its name.
func TestStreamQueues(t *testing.T) {
	n := newNode(t, nil)
	n.fails(400, "bad_request", "invalid property 'non-durable' for queue 's' in vhost '/'", "PUT", "/api/queues/%2F/s", `{"arguments":{"x-queue-type":"stream"}}`)
	n.ask(201, "PUT", "/api/queues/%2F/s", `{"durable":true,"arguments":{"x-queue-type":"stream","x-max-age":"7D"}}`)
	n.ask(204, "PUT", "/api/queues/%2F/s", `{"durable":true,"arguments":{"x-queue-type":"stream","x-max-age":"7D"}}`)
	for _, c := range [][2]string{{"amq.default", "s"}, {"amq.topic", "s.a.b"}} {
		n.ask(200, "POST", "/api/exchanges/%2F/"+c[0]+"/publish", fmt.Sprintf(`{"properties":{},"routing_key":%q,"payload":"hi","payload_encoding":"string"}`, c[1]))
	}
	has(t, n.get("/api/queues/%2F/s"), object{"type": "stream", "messages": 2, "messages_ready": 2, "messages_unacknowledged": 0, "arguments": object{"x-queue-type": "stream", "x-max-age": "7D"}})
	n.fails(400, "bad_request", "basic.get not supported by stream queues queue 's' in vhost '/'", "POST", "/api/queues/%2F/s/get", `{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}`)
	n.fails(400, "bad_request", "queue.purge not supported by stream queues queue 's' in vhost '/'", "DELETE", "/api/queues/%2F/s/contents", "")
	n.ask(204, "DELETE", "/api/queues/%2F/s", "")
	if _, err := n.broker.Topic("s"); err != nil {
		t.Errorf("the topic is gone with its stream queue: %v", err)
	}
}

// TestNames: any name can be in a path.
func TestNames(t *testing.T) {
	n := newNode(t, nil)
	n.ask(201, "PUT", "/api/vhosts/a%2Fb%20%25", "")
	for _, name := range []string{"a/b", "ä ö", "100%", "a+b", "x?y#z", "..."} {
		path := "/api/queues/a%2Fb%20%25/" + strings.NewReplacer("/", "%2F", " ", "%20", "%", "%25", "ä", "%C3%A4", "ö", "%C3%B6", "+", "%2B", "?", "%3F", "#", "%23").Replace(name)
		n.ask(201, "PUT", path, "")
		has(t, n.get(path), object{"name": name, "vhost": "a/b %"})
	}
}

func TestMessages(t *testing.T) {
	n := newNode(t, nil)
	n.ask(201, "PUT", "/api/queues/%2F/q", "")
	n.ask(201, "PUT", "/api/queues/%2F/dead", "")
	n.ask(201, "PUT", "/api/queues/%2F/w", `{"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}`)
	publish := func(key, payload, encoding, properties string) any {
		t.Helper()
		return n.ask(200, "POST", "/api/exchanges/%2F/amq.default/publish", fmt.Sprintf(`{"properties":%s,"routing_key":%q,"payload":%q,"payload_encoding":%q}`, properties, key, payload, encoding))
	}
	if got := publish("nobody", "x", "string", "{}"); !reflect.DeepEqual(got, object{"routed": false}) {
		t.Errorf("%v", got)
	}
	if got := publish("q", "one", "string", `{"delivery_mode":2,"headers":{"h":[1],"BCC":[]},"content_type":"text/plain"}`); !reflect.DeepEqual(got, object{"routed": true}) {
		t.Errorf("%v", got)
	}
	publish("q", base64.StdEncoding.EncodeToString([]byte{0xff}), "base64", "{}")
	get := func(queue, mode, rest string) []any {
		t.Helper()
		return n.ask(200, "POST", "/api/queues/%2F/"+queue+"/get", `{"count":5,"encoding":"auto","ackmode":"`+mode+`"`+rest+`}`).([]any)
	}
	first := get("q", "ack_requeue_true", "")
	want := object{"payload_bytes": 3.0, "redelivered": false, "exchange": "", "routing_key": "q", "message_count": 1.0,
		"properties": object{"delivery_mode": 2.0, "headers": object{"h": []any{1.0}}, "content_type": "text/plain"}, "payload": "one", "payload_encoding": "string"}
	if len(first) != 2 || !reflect.DeepEqual(first[0], want) {
		t.Fatalf("%v", first)
	}
	has(t, first[1].(object), object{"payload": "/w==", "payload_encoding": "base64"})
	n.await("q", 2)
	again := get("q", "ack_requeue_false", `,"truncate":2`)
	if len(again) != 2 {
		t.Fatalf("%v", again)
	}
	has(t, again[0].(object), object{"payload": "on", "redelivered": true, "payload_bytes": 3})
	n.await("q", 0)
	publish("w", "x", "string", "{}")
	if got := get("w", "reject_requeue_false", ""); len(got) != 1 {
		t.Errorf("%v", got)
	}
	n.await("dead", 1)
	const path = "/api/queues/%2F/q/get"
	for _, body := range []string{`{"count":1}`, `{"count":1,"ackmode":"x","encoding":"auto"}`, `{"count":1,"ackmode":"ack_requeue_true","encoding":"x"}`, `{"count":-1,"ackmode":"ack_requeue_true","encoding":"auto"}`, `{"count":"x","ackmode":"ack_requeue_true","encoding":"auto"}`, `{"count":1.5,"ackmode":"ack_requeue_true","encoding":"auto"}`, `[]`} {
		n.fails(400, "bad_request", "", "POST", path, body)
	}
	n.fails(404, "not_found", "no queue 'none' in vhost '/'", "POST", "/api/queues/%2F/none/get", `{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}`)
	for body, reason := range map[string]string{
		`{"routing_key":"q"}`: "needed",
		`{"routing_key":"q","payload":"&","payload_encoding":"base64","properties":{}}`:                       "not_base64",
		`{"routing_key":"q","payload":"","payload_encoding":"x","properties":{}}`:                             "payload_encoding",
		`{"routing_key":"q","payload":"","payload_encoding":"string","properties":{"user_id":"eve"}}`:         "user_id property set to 'eve' but authenticated user was 'guest'",
		`{"routing_key":"q","payload":"","payload_encoding":"string","properties":{"expiration":"x"}}`:        "invalid expiration 'x'",
		`{"routing_key":"q","payload":"","payload_encoding":"string","properties":{"headers":{"CC":"text"}}}`: "unacceptable_type_in_header",
		`{"routing_key":"q","payload":"","payload_encoding":"string","properties":{"priority":1000}}`:         "",
	} {
		n.fails(400, "bad_request", reason, "POST", "/api/exchanges/%2F/amq.default/publish", body)
	}
	n.fails(400, "bad_request", "404 NOT_FOUND - no exchange 'none' in vhost '/'", "POST", "/api/exchanges/%2F/none/publish", `{"routing_key":"q","payload":"","payload_encoding":"string","properties":{}}`)
}

// await waits until a queue has so many messages.
func (n *node) await(queue string, want int) {
	n.t.Helper()
	var got object
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if got = n.get("/api/queues/%2F/" + queue); got["messages_ready"] == float64(want) && got["messages"] == float64(want) {
			return
		}
	}
	n.t.Fatalf("%v", got)
}

// TestLists: lists are sorted, filtered and cut into pages.
func TestLists(t *testing.T) {
	n := newNode(t, nil)
	for _, name := range []string{"c", "ab", "Aa", "b"} {
		n.ask(201, "PUT", "/api/queues/%2F/"+name, "")
	}
	n.ask(200, "POST", "/api/exchanges/%2F/amq.default/publish", `{"properties":{},"routing_key":"b","payload":"x","payload_encoding":"string"}`)
	for path, want := range map[string]string{
		"/api/queues": "Aa ab b c", "/api/queues/%2F?sort=name&sort_reverse=true": "c b ab Aa", "/api/queues?sort=messages&sort_reverse=true&columns=name": "b c ab Aa",
	} {
		if got := n.names(path); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	for query, want := range map[string]object{
		"page=1":                                 {"total_count": 4, "filtered_count": 4, "item_count": 4, "page": 1, "page_size": 100, "page_count": 1},
		"page=2&page_size=3":                     {"item_count": 1, "page_count": 2, "items": []any{object{"name": "c"}}},
		"page=9&page_size=3":                     {"item_count": 0, "page_count": 2, "items": []any{}},
		"page=9000000000000000000&page_size=500": {"item_count": 0},
		"page=1&name=a":                          {"total_count": 4, "filtered_count": 2, "items": []any{object{"name": "Aa"}, object{"name": "ab"}}},
		"page=1&name=%5Ea.%24&use_regex=true":    {"filtered_count": 2},
		"page=1&name=%5Eb&use_regex=true":        {"filtered_count": 1},
	} {
		has(t, n.get("/api/queues?columns=name&"+query), want)
	}
	for _, query := range []string{"page=0", "page=x", "page=1&page_size=0", "page=1&page_size=501", "page=1&name=(&use_regex=true"} {
		n.fails(400, "bad_request", "", "GET", "/api/queues?"+query, "")
	}
	got := n.ask(200, "GET", "/api/overview?columns=x", "").(object)
	has(t, got["object_totals"].(object), object{"queues": 4, "connections": 0})
	has(t, got["queue_totals"].(object), object{"messages": 1, "messages_ready": 1})
	has(t, got, object{"rabbitmq_version": declaration.Dialect, "product_name": "Weir", "product_version": "1.2.3"})
	for _, path := range []string{"/api/policies", "/api/parameters", "/api/vhost-limits", "/api/extensions", "/api/global-parameters", "/api/feature-flags", "/api/operator-policies", "/api/connections", "/api/channels", "/api/consumers"} {
		if all := n.ask(200, "GET", path, "").([]any); len(all) != 0 {
			t.Errorf("%s: %v", path, all)
		}
	}
}

// TestGetLarge: an answer with messages is bounded as it is sent, where a byte may have six:
// what has been taken off a queue must not be too much for the node that passes it on.
func TestGetLarge(t *testing.T) {
	n := newNode(t, nil)
	n.server.most = 100_000
	n.ask(201, "PUT", "/api/queues/%2F/q", `{}`)
	body := base64.StdEncoding.EncodeToString(make([]byte, 10_000))
	for range 3 {
		n.ask(200, "POST", "/api/exchanges/%2F/amq.default/publish", fmt.Sprintf(`{"properties":{},"routing_key":"q","payload":%q,"payload_encoding":"base64"}`, body))
	}
	for _, want := range []int{2, 1} {
		if got := n.ask(200, "POST", "/api/queues/%2F/q/get", `{"count":5,"encoding":"auto","ackmode":"ack_requeue_false"}`).([]any); len(got) != want {
			t.Errorf("%d messages, want %d", len(got), want)
		}
	}
}
