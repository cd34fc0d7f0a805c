package management

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

func TestExchanges(t *testing.T) {
	n := newNode(t, nil)
	n.ask(201, "PUT", "/api/exchanges/%2F/x", `{"type":"topic","durable":true,"arguments":{"alternate-exchange":"amq.fanout"}}`)
	n.ask(204, "PUT", "/api/exchanges/%2F/x", `{"type":"topic","durable":true,"arguments":{"alternate-exchange":"amq.fanout"}}`)
	n.fails(400, "bad_request", "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'direct' but current is 'topic'", "PUT", "/api/exchanges/%2F/x", `{"type":"direct"}`)
	n.fails(400, "bad_request", "invalid exchange type 'nope'", "PUT", "/api/exchanges/%2F/y", `{"type":"nope"}`)
	n.fails(401, "not_authorised", "", "PUT", "/api/exchanges/%2F/amq.mine", `{}`)
	n.fails(401, "not_authorised", "", "PUT", "/api/exchanges/%2F/amq.default", `{}`)
	has(t, n.get("/api/exchanges/%2F/x"), object{"name": "x", "type": "topic", "durable": true, "internal": false, "auto_delete": false, "vhost": "/", "arguments": object{"alternate-exchange": "amq.fanout"}})
	has(t, n.get("/api/exchanges/%2F/amq.default"), object{"name": "", "type": "direct"})
	if got := n.names("/api/exchanges/%2F?sort=name"); !strings.HasSuffix(got, "amq.topic x") {
		t.Error(got)
	}
	n.ask(201, "PUT", "/api/exchanges/%2F/inner", `{"type":"fanout","internal":true}`)
	n.fails(401, "not_authorised", "", "POST", "/api/exchanges/%2F/inner/publish", `{"properties":{},"routing_key":"","payload":"","payload_encoding":"string"}`)
	n.fails(401, "not_authorised", "Access refused.", "DELETE", "/api/exchanges/%2F/amq.topic", "")
	n.ask(204, "DELETE", "/api/exchanges/%2F/x?if-unused=true", "")
	n.fails(404, "Object Not Found", "Not Found", "DELETE", "/api/exchanges/%2F/x", "")
	n.fails(404, "Object Not Found", "Not Found", "GET", "/api/exchanges/%2F/x", "")
}

func TestBindings(t *testing.T) {
	n := newNode(t, nil)
	n.ask(201, "PUT", "/api/queues/%2F/q", "")
	const ends = "/api/bindings/%2F/e/amq.topic/q/q"
	r := httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost"+ends, strings.NewReader(`{"routing_key":"a.*","arguments":{"k":1}}`))
	r.RemoteAddr = "127.0.0.1:4711"
	r.SetBasicAuth("guest", "guest")
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	location := w.Header().Get("Location")
	if w.Code != 201 || !strings.HasPrefix(location, "q/a.%252A~") {
		t.Fatalf("%d, %s\n%s", w.Code, location, w.Body)
	}
	n.ask(201, "POST", ends, `{"arguments":{}}`)
	n.ask(201, "POST", "/api/bindings/%2F/e/amq.topic/e/amq.fanout", `{"routing_key":"b"}`)
	all := n.ask(200, "GET", ends, "").([]any)
	if len(all) != 2 {
		t.Fatalf("%v", all)
	}
	key := ""
	for _, one := range all {
		if b := one.(object); b["routing_key"] == "a.*" {
			has(t, b, object{"source": "amq.topic", "vhost": "/", "destination": "q", "destination_type": "queue", "arguments": object{"k": 1.0}})
			key = b["properties_key"].(string)
		} else {
			has(t, b, object{"properties_key": "~", "arguments": object{}})
		}
	}
	if "q/"+url.PathEscape(key) != location {
		t.Errorf("the key is %s, the location %s", key, location)
	}
	has(t, n.get(ends+"/"+url.PathEscape(key)), object{"routing_key": "a.*"})
	for path, want := range map[string]int{
		"/api/bindings": 4, "/api/bindings/%2F": 4, "/api/queues/%2F/q/bindings": 3, "/api/exchanges/%2F/amq.topic/bindings/source": 3,
		"/api/exchanges/%2F/amq.fanout/bindings/destination": 1, "/api/bindings/%2F/e/amq.topic/e/amq.fanout": 1, "/api/bindings/%2F/e/amq.default/q/q": 1,
	} {
		if got := n.ask(200, "GET", path, "").([]any); len(got) != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	n.ask(204, "DELETE", ends+"/"+url.PathEscape(key), "")
	n.fails(404, "Object Not Found", "", "DELETE", ends+"/"+url.PathEscape(key), "")
	n.ask(204, "DELETE", ends+"/~", "")
	n.fails(401, "not_authorised", "", "DELETE", "/api/bindings/%2F/e/amq.default/q/q/q", "")
	n.fails(401, "not_authorised", "", "POST", "/api/bindings/%2F/e/amq.default/q/q", "{}")
	n.fails(404, "not_found", "no exchange 'none' in vhost '/'", "POST", "/api/bindings/%2F/e/none/q/q", "{}")
	n.fails(404, "not_found", "no queue 'none' in vhost '/'", "POST", "/api/bindings/%2F/e/amq.topic/q/none", "{}")
	n.fails(404, "Object Not Found", "", "GET", "/api/bindings/%2F/e/amq.topic/x/q", "")
	n.fails(400, "bad_request", "x-match", "POST", "/api/bindings/%2F/e/amq.headers/q/q", `{"arguments":{"x-match":"some"}}`)
	n.fails(404, "Object Not Found", "", "GET", "/api/queues/%2F/none/bindings", "")
	n.fails(404, "Object Not Found", "", "GET", "/api/exchanges/%2F/none/bindings/source", "")
}

// TestBindReads: a binding of amq.topic gives the topics to the vhost only if its client may
// read all of them.
func TestBindReads(t *testing.T) {
	n := newNodeWith(t, access.Options{Authorize: true}, nil)
	c, err := auth.NewCredential(auth.SCRAMSHA256, "secret")
	if err == nil {
		err = n.shard.Users.SetCredentials(t.Context(), "ann", c)
	}
	if err == nil {
		err = n.shard.Users.SetVhostPermissions(t.Context(), auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"})
	}
	if err != nil {
		t.Fatal(err)
	}
	gives := false
	n.shard.Queues.Hook(queue.Hooks{
		Binding: func(_ context.Context, _ string, _ *routing.Binding, reads bool) (func(), error) {
			gives = reads
			return func() {}, nil
		},
		Declared: func(string) {},
	})
	ann := n.as("ann:secret")
	ann.ask(201, "PUT", "/api/queues/%2F/q", "{}")
	for _, want := range []bool{false, true} {
		ann.ask(201, "POST", "/api/bindings/%2F/e/amq.topic/q/q", `{"routing_key":"a"}`)
		if gives != want {
			t.Errorf("the topics are given to the vhost: %v", gives)
		}
		if err := n.shard.Users.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: auth.Any},
			Rule: auth.Rule{Principal: auth.Principal("ann"), Host: auth.Any, Operation: auth.Read, Permission: auth.Allow}}); err != nil {
			t.Fatal(err)
		}
	}
}
