package management

import (
	"encoding/json"
	"strings"
	"testing"
)

// read decodes an answer as a client does.
func read[T any](n *node, path string) (v T) {
	n.t.Helper()
	body, err := json.Marshal(n.ask(200, "GET", path, ""))
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	if err != nil {
		n.t.Fatalf("%s: %v", path, err)
	}
	return v
}

func (n *node) fill(queue string, messages int) {
	n.t.Helper()
	n.ask(201, "PUT", "/api/queues/%2F/"+queue, `{"durable":true}`)
	for range messages {
		n.ask(200, "POST", "/api/exchanges/%2F/amq.default/publish", `{"properties":{},"routing_key":"`+queue+`","payload":"x","payload_encoding":"string"}`)
	}
}

// TestKEDA: KEDA's scaler asks for one queue, or for those of an expression, and decodes
// these members.
func TestKEDA(t *testing.T) {
	type info struct {
		Name                   string `json:"name"`
		Messages               int    `json:"messages"`
		MessagesReady          int    `json:"messages_ready"`
		MessagesUnacknowledged int    `json:"messages_unacknowledged"`
		MessageStats           struct {
			PublishDetails struct {
				Rate float64 `json:"rate"`
			} `json:"publish_details"`
			DeliverGetDetails struct {
				Rate float64 `json:"rate"`
			} `json:"deliver_get_details"`
		} `json:"message_stats"`
	}
	n := newNode(t, nil)
	n.fill("orders-1", 3)
	n.fill("orders-2", 1)
	n.fill("other", 1)
	if got := read[info](n, "/api/queues/%2F/orders-1"); got.Name != "orders-1" || got.Messages != 3 || got.MessagesReady != 3 || got.MessagesUnacknowledged != 0 {
		t.Errorf("%+v", got)
	}
	pages := read[struct {
		Queues     []info `json:"items"`
		TotalPages *int   `json:"page_count"`
	}](n, "/api/queues/%2F?page=1&use_regex=true&pagination=false&name=%5Eorders-.%2A%24&page_size=100")
	if len(pages.Queues) != 2 || pages.Queues[0].Messages != 3 || pages.Queues[1].MessagesReady != 1 || pages.TotalPages == nil || *pages.TotalPages != 1 {
		t.Errorf("%+v", pages)
	}
}

// TestFlower: Celery's flower lists the queues of a vhost, and shows these members.
func TestFlower(t *testing.T) {
	n := newNode(t, nil)
	n.fill("celery", 2)
	type info struct {
		Name                   string `json:"name"`
		Messages               *int   `json:"messages"`
		MessagesReady          *int   `json:"messages_ready"`
		MessagesUnacknowledged *int   `json:"messages_unacknowledged"`
		Consumers              *int   `json:"consumers"`
	}
	for _, path := range []string{"/api/queues/%2F", "/api/queues//"} { // the vhost "/" is not escaped
		all := read[[]info](n, path)
		if len(all) != 1 || all[0].Name != "celery" || all[0].Messages == nil || *all[0].Messages != 2 || all[0].MessagesReady == nil || *all[0].MessagesReady != 2 ||
			all[0].MessagesUnacknowledged == nil || *all[0].MessagesUnacknowledged != 0 || all[0].Consumers == nil || *all[0].Consumers != 0 {
			t.Errorf("%s: %+v", path, all)
		}
	}
}

// TestTrailingSlash: a path may end with a slash, as amqp091-go's suite asks for connections.
func TestTrailingSlash(t *testing.T) {
	n := newNode(t, func(o *Options) {
		o.Connections = func() []Connection {
			return []Connection{{Name: "127.0.0.1:1 -> 127.0.0.1:2", Vhost: "/", ClientName: "suite"}}
		}
	})
	n.fill("q", 1)
	for _, path := range []string{"/api/connections", "/api/overview", "/api/queues", "/api/queues/%2F", "/api/queues/%2F/q", "/api/health/checks/alarms"} {
		got, want := read[any](n, path+"/"), read[any](n, path)
		if a, b := mustJSON(t, got), mustJSON(t, want); a != b {
			t.Errorf("%s/: %s\nnot %s", path, a, b)
		}
	}
	all := read[[]struct {
		Name             string `json:"name"`
		ClientProperties struct {
			ConnectionName string `json:"connection_name"`
		} `json:"client_properties"`
	}](n, "/api/connections/")
	if len(all) != 1 || all[0].ClientProperties.ConnectionName != "suite" || !strings.Contains(all[0].Name, " -> ") {
		t.Errorf("%+v", all)
	}
	n.fails(404, "Object Not Found", "Not Found", "GET", "/api/nope/", "")
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
