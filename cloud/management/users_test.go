package management

import (
	"context"
	"encoding/json"
	"testing"
)

// TestUsers: users, vhosts and permissions, by a super user.
func TestUsers(t *testing.T) {
	guest := newNode(t, nil)
	guest.ask(201, "PUT", "/api/users/root", `{"password":"secret","tags":"administrator"}`)
	n := guest.as("root:secret")
	has(t, n.get("/api/whoami"), object{"tags": []any{"administrator"}})
	n.ask(201, "PUT", "/api/users/ann", `{"password":"a","tags":["management"]}`)
	n.ask(204, "PUT", "/api/users/ann", `{"password":"b","tags":""}`)
	n.as("ann:b").ask(200, "GET", "/api/whoami", "")
	n.fails(400, "bad_request", "password is needed", "PUT", "/api/users/eve", `{"password_hash":"x","tags":""}`)
	n.fails(400, "bad_request", "", "PUT", "/api/users/eve", `{"password":1}`)
	has(t, n.get("/api/users/ann"), object{"name": "ann", "tags": []any{"management"}})
	if got := n.names("/api/users"); got != "ann root" {
		t.Error(got)
	}
	n.ask(201, "PUT", "/api/vhosts/v1", "")
	n.ask(204, "PUT", "/api/vhosts/v1", `{"description":"any"}`)
	has(t, n.get("/api/vhosts/v1"), object{"name": "v1", "messages": 0})
	n.ask(201, "PUT", "/api/permissions/v1/ann", `{"configure":".*","write":".*","read":"^a"}`)
	n.ask(204, "PUT", "/api/permissions/v1/ann", `{"configure":".*","write":".*","read":".*"}`)
	n.fails(400, "bad_request", "needed", "PUT", "/api/permissions/v1/ann", `{"configure":".*"}`)
	n.fails(400, "bad_request", "vhost_or_user_not_found", "PUT", "/api/permissions/v2/ann", `{"configure":".*","write":".*","read":""}`)
	n.fails(400, "bad_request", "expression", "PUT", "/api/permissions/v1/ann", `{"configure":"(","write":".*","read":""}`)
	has(t, n.get("/api/permissions/v1/ann"), object{"user": "ann", "vhost": "v1", "read": ".*"})
	n.ask(201, "PUT", "/api/topic-permissions/v1/ann", `{"exchange":"amq.topic","write":"^a","read":".*"}`)
	for path, want := range map[string]int{
		"/api/permissions": 1, "/api/users/ann/permissions": 1, "/api/users/root/permissions": 0, "/api/vhosts/v1/permissions": 1, "/api/vhosts/%2F/permissions": 0,
		"/api/topic-permissions": 1, "/api/topic-permissions/v1/ann": 1, "/api/users/ann/topic-permissions": 1,
	} {
		if got := n.ask(200, "GET", path, "").([]any); len(got) != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	ann := n.as("ann:b")
	ann.ask(201, "PUT", "/api/queues/v1/q", "")
	ann.fails(401, "not_authorised", "", "POST", "/api/exchanges/v1/amq.topic/publish", `{"properties":{},"routing_key":"b","payload":"","payload_encoding":"string"}`)
	ann.ask(200, "POST", "/api/exchanges/v1/amq.topic/publish", `{"properties":{},"routing_key":"a.b","payload":"","payload_encoding":"string"}`)
	n.ask(204, "DELETE", "/api/topic-permissions/v1/ann", "")
	n.fails(404, "Object Not Found", "", "DELETE", "/api/topic-permissions/v1/ann", "")
	n.ask(204, "DELETE", "/api/permissions/v1/ann", "")
	n.fails(404, "Object Not Found", "", "DELETE", "/api/permissions/v1/ann", "")
	n.fails(404, "Object Not Found", "", "GET", "/api/permissions/v1/ann", "")
	ann.fails(401, "not_authorised", "access virtual host", "GET", "/api/queues/v1", "")
	n.ask(204, "DELETE", "/api/vhosts/v1", "")
	n.fails(404, "Object Not Found", "", "DELETE", "/api/vhosts/v1", "")
	n.fails(404, "Object Not Found", "", "GET", "/api/vhosts/v1", "")
	n.ask(204, "DELETE", "/api/users/ann", "")
	n.fails(404, "Object Not Found", "", "DELETE", "/api/users/ann", "")
	n.fails(404, "Object Not Found", "", "GET", "/api/users/ann", "")
	ann.fails(401, "not_authorised", "Login failed", "GET", "/api/whoami", "")
}

// TestChangesAreTold: a change is answered when the other nodes have had time to apply it;
// what changes nothing does not wait.
func TestChangesAreTold(t *testing.T) {
	told := 0
	n := newNode(t, func(o *Options) { o.Tell = func(context.Context) { told++ } })
	n.ask(201, "PUT", "/api/users/root", `{"password":"secret","tags":""}`)
	if told != 1 {
		t.Errorf("others were told %d times", told)
	}
	n = n.as("root:secret")
	n.get("/api/users/root")
	n.fails(400, "bad_request", "", "PUT", "/api/users/eve", `{"password":1}`)
	if told != 1 {
		t.Errorf("others were told %d times", told)
	}
}

// TestDefinitions: what is exported makes the same things elsewhere.
func TestDefinitions(t *testing.T) {
	guest := newNode(t, nil)
	guest.ask(201, "PUT", "/api/users/root", `{"password":"secret","tags":""}`)
	n := guest.as("root:secret")
	n.ask(204, "POST", "/api/definitions", `{"rabbit_version":"3.10.8","users":[{"name":"ann","password":"a","tags":[]},{"name":"hash","password_hash":"x"}],
		"vhosts":[{"name":"/"},{"name":"v1"}],"permissions":[{"user":"ann","vhost":"v1","configure":"","write":"","read":".*"}],
		"topic_permissions":[{"user":"ann","vhost":"v1","exchange":"amq.topic","write":"","read":"^a"}],"parameters":[],"policies":[],"global_parameters":[{"name":"x","value":1}],
		"queues":[{"name":"q","vhost":"v1","durable":true,"auto_delete":false,"arguments":{"x-max-length":7}}],
		"exchanges":[{"name":"x","vhost":"v1","type":"headers","durable":true,"auto_delete":false,"internal":false,"arguments":{}}],
		"bindings":[{"source":"x","vhost":"v1","destination":"q","destination_type":"queue","routing_key":"","arguments":{"x-match":"any","k":1}}]}`)
	exported := n.get("/api/definitions")
	text, err := json.Marshal(exported)
	if err != nil {
		t.Fatal(err)
	}
	delete(exported, "product_version")
	has(t, exported, object{"users": []any{
		object{"name": "ann", "tags": []any{"management"}, "limits": object{}}, object{"name": "root", "tags": []any{"administrator"}, "limits": object{}}},
		"vhosts":      []any{object{"name": "/"}, object{"name": "v1"}},
		"permissions": []any{object{"user": "ann", "vhost": "v1", "configure": "", "write": "", "read": ".*"}},
		"queues":      []any{object{"name": "q", "vhost": "v1", "durable": true, "auto_delete": false, "arguments": object{"x-max-length": 7.0}}},
		"exchanges":   []any{object{"name": "x", "vhost": "v1", "type": "headers", "durable": true, "auto_delete": false, "internal": false, "arguments": object{}}},
		"bindings":    []any{object{"source": "x", "vhost": "v1", "destination": "q", "destination_type": "queue", "routing_key": "", "arguments": object{"x-match": "any", "k": 1.0}}}})
	other := newNode(t, nil)
	other.ask(204, "POST", "/api/definitions", string(text))
	again := other.get("/api/definitions")
	for _, key := range []string{"vhosts", "queues", "exchanges", "bindings", "permissions", "topic_permissions"} {
		has(t, again, object{key: exported[key]})
	}
	vhost := n.get("/api/definitions/v1")
	has(t, vhost, object{"queues": []any{object{"name": "q", "durable": true, "auto_delete": false, "arguments": object{"x-max-length": 7.0}}}})
	if text, err = json.Marshal(vhost); err != nil {
		t.Fatal(err)
	}
	other.ask(204, "POST", "/api/definitions/%2F", string(text))
	has(t, other.get("/api/queues/%2F/q"), object{"durable": true})
	for body, reason := range map[string]string{
		`{"policies":[{"name":"p"}]}`:                                  "no policies",
		`{"queues":[{"name":"q","vhost":"none"}]}`:                     `queue "q": vhost_not_found`,
		`{"queues":[{"name":"q","vhost":"v1","durable":false}]}`:       `queue "q": inequivalent arg`,
		`{"exchanges":[{"name":"x","vhost":"v1","type":"odd"}]}`:       `exchange "x": `,
		`{"permissions":[{"user":"ann","vhost":"v1"}]}`:                `permissions of user "ann": `,
		`{"bindings":[{"source":"y","destination":"q","vhost":"v1"}]}`: `binding to "q": no exchange 'y'`,
		`{"queues":7}`: "", `[]`: "",
	} {
		n.fails(400, "bad_request", reason, "POST", "/api/definitions", body)
	}
}
