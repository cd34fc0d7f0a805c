package management

import (
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	n := newNode(t, nil)
	for _, check := range []string{"alarms", "local-alarms", "virtual-hosts", "port-listener/5672", "protocol-listener/amqp", "node-is-quorum-critical", "node-is-mirror-sync-critical"} {
		has(t, n.get("/api/health/checks/"+check), object{"status": "ok"})
	}
	for _, check := range []string{"port-listener/1", "protocol-listener/mqtt"} {
		has(t, n.ask(503, "GET", "/api/health/checks/"+check, "").(object), object{"status": "failed", "reason": "No active listener"})
	}
	n.fails(400, "bad_request", "", "GET", "/api/health/checks/port-listener/x", "")
	for range 2 {
		has(t, n.get("/api/aliveness-test/%2F"), object{"status": "ok"})
	}
	n.await("aliveness-test", 0)
	if got := n.names("/api/nodes"); got != "a" {
		t.Error(got)
	}
	has(t, n.get("/api/nodes/a"), object{"running": true})
	n.fails(404, "Object Not Found", "", "GET", "/api/nodes/b", "")
	has(t, n.get("/api/cluster-name"), object{"name": ""})
}

// TestClients: connections, channels and consumers, as the door tells of them.
func TestClients(t *testing.T) {
	closed := ""
	clients := []Connection{
		{Name: "127.0.0.1:1 -> 127.0.0.1:5672", User: "ann", Vhost: "/", Address: "127.0.0.1", Port: 1, Opened: time.UnixMilli(7), Heartbeat: time.Minute, ClientName: "app",
			Channels: []Channel{{Number: 1, Confirms: true, Unsettled: 2, Consumers: []Consumer{{Tag: "t", Queue: "q", Prefetch: 5}}}},
			Close:    func(reason string) { closed = reason }},
		{Name: "other", User: "bob", Vhost: "v1"},
	}
	n := newNode(t, func(o *Options) { o.Connections = func() []Connection { return clients } })
	n.ask(201, "PUT", "/api/queues/%2F/q", "")
	n.ask(201, "PUT", "/api/vhosts/v1", "")
	const path = "/api/connections/127.0.0.1%3A1%20-%3E%20127.0.0.1%3A5672"
	has(t, n.get(path), object{"user": "ann", "vhost": "/", "peer_host": "127.0.0.1", "peer_port": 1, "channels": 1, "timeout": 60, "connected_at": 7,
		"protocol": "AMQP 0-9-1", "user_provided_name": "app", "client_properties": object{"connection_name": "app"}})
	if got := n.names("/api/connections"); got != "127.0.0.1:1 -> 127.0.0.1:5672 other" {
		t.Error(got)
	}
	if got := n.names("/api/vhosts/v1/connections"); got != "other" {
		t.Error(got)
	}
	const channel = "127.0.0.1:1 -> 127.0.0.1:5672 (1)"
	for _, list := range []string{"/api/channels", path + "/channels", "/api/vhosts/%2F/channels"} {
		if got := n.names(list); got != channel {
			t.Errorf("%s: %s", list, got)
		}
	}
	has(t, n.get("/api/channels/127.0.0.1%3A1%20-%3E%20127.0.0.1%3A5672%20%281%29"), object{"number": 1, "confirm": true, "consumer_count": 1, "messages_unacknowledged": 2})
	consumers := n.ask(200, "GET", "/api/consumers/%2F", "").([]any)
	if len(consumers) != 1 {
		t.Fatalf("%v", consumers)
	}
	has(t, consumers[0].(object), object{"consumer_tag": "t", "ack_required": true, "prefetch_count": 5, "queue": object{"name": "q", "vhost": "/"}})
	if details := n.get("/api/queues/%2F/q")["consumer_details"].([]any); len(details) != 1 {
		t.Errorf("%v", details)
	}
	n.ask(204, "DELETE", path, "")
	if closed != "Closed via management plugin" {
		t.Error(closed)
	}
	n.fails(404, "Object Not Found", "", "GET", "/api/connections/none", "")
	n.fails(404, "Object Not Found", "", "DELETE", "/api/connections/none", "")
	n.fails(404, "Object Not Found", "", "GET", "/api/channels/none", "")
	n.ask(201, "PUT", "/api/users/bob", `{"password":"b","tags":""}`)
	bob := n.as("bob:b")
	if got := bob.names("/api/connections"); got != "" {
		t.Errorf("bob sees %s", got)
	}
	bob.fails(404, "Object Not Found", "", "DELETE", path, "")
}
