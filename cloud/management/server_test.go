package management

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/streamqueue"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// node is the API of a node that owns an empty shard.
type node struct {
	http.Handler
	server *Server
	t      *testing.T
	broker *broker.Broker
	shard  *shard.Shard
	login  string // user:password of the requests; "": none
}

// newNode returns a node whose clients log in as guest. change may change the options.
func newNode(t *testing.T, change func(*Options)) *node {
	t.Helper()
	return newNodeWith(t, access.Options{}, change)
}

// newNodeWith is newNode with further options of the access.
func newNodeWith(t *testing.T, with access.Options, change func(*Options)) *node {
	t.Helper()
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	b := broker.New(broker.Options{Self: broker.Node{Name: "a"}})
	topics := streamqueue.New(streamqueue.Options{Broker: b})
	s := shard.New(shard.Options{Log: quiet, Fleet: fleet.Options{CA: ca}, Users: auth.Options{SuperUsers: []string{"User:root"}}, Queues: queue.Options{Topics: topics.Calls()}})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{t: t, shard: s, broker: b, login: "guest:guest"}
	n.broker.Lead(s)
	with.Broker, with.Users = n.broker, func() *auth.Auth { return s.Users }
	o := Options{Queues: n.broker.Queues, TopicOf: topics.Existing, AllQueues: n.broker.AllQueues, Node: "a", Version: "1.2.3", Log: quiet,
		Access:    access.New(with),
		Listeners: func() []Listener { return []Listener{{"amqp", "127.0.0.1", 5672}} }}
	if change != nil {
		change(&o)
	}
	n.server = New(o)
	n.Handler = n.server.Handler(&listener.Listener{SASL: []string{login.Plain}, Guests: true}, new(listener.Traffic))
	return n
}

// as returns the node for the requests of another user.
func (n *node) as(login string) *node {
	other := *n
	other.login = login
	return &other
}

// ask sends a request, checks the status of the answer, and returns its body.
func (n *node) ask(status int, method, path, body string) any {
	n.t.Helper()
	r := httptest.NewRequestWithContext(n.t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:4711"
	if user, password, ok := strings.Cut(n.login, ":"); ok {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	if w.Code != status {
		n.t.Fatalf("%s %s: %d, not %d\n%s", method, path, w.Code, status, w.Body)
	}
	if w.Body.Len() == 0 {
		return nil
	}
	var answer any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		n.t.Fatalf("%s %s: %v\n%s", method, path, err, w.Body)
	}
	return answer
}

// get returns an object.
func (n *node) get(path string) object {
	n.t.Helper()
	o, ok := n.ask(200, "GET", path, "").(object)
	if !ok {
		n.t.Fatalf("%s is no object", path)
	}
	return o
}

// names lists the names of the objects in a list.
func (n *node) names(path string) string {
	n.t.Helper()
	var all []string
	for _, o := range n.ask(200, "GET", path, "").([]any) {
		all = append(all, o.(object)["name"].(string))
	}
	return strings.Join(all, " ")
}

// has checks members of an object.
func has(t *testing.T, got, want object) {
	t.Helper()
	for name, value := range want {
		if n, ok := value.(int); ok {
			value = float64(n)
		}
		if !reflect.DeepEqual(got[name], value) {
			t.Errorf("%s is %v, not %v, in %v", name, got[name], value, got)
		}
	}
}

// fails checks an answer that reports an error.
func (n *node) fails(status int, kind, reason, method, path, body string) {
	n.t.Helper()
	o := n.ask(status, method, path, body).(object)
	if o["error"] != kind || !strings.Contains(o["reason"].(string), reason) {
		n.t.Errorf("%s %s: %v", method, path, o)
	}
}

func TestLogin(t *testing.T) {
	n := newNode(t, nil)
	has(t, n.get("/api/whoami"), object{"name": "guest", "tags": []any{"administrator"}})
	n.as("").fails(401, "not_authorised", "Login failed", "GET", "/api/overview", "")
	n.as("guest:wrong").fails(401, "not_authorised", "Login failed", "GET", "/api/overview", "")
	n.ask(201, "PUT", "/api/users/ann", `{"password":"secret","tags":""}`)
	n.fails(401, "not_authorised", "", "GET", "/api/whoami", "") // there are users now
	ann := n.as("ann:secret")
	has(t, ann.get("/api/whoami"), object{"name": "ann", "tags": []any{"management"}})
	for _, path := range []string{"/api/users", "/api/permissions", "/api/definitions", "/api/users/ann", "/api/topic-permissions"} {
		ann.fails(401, "not_authorised", "Not administrator user", "GET", path, "")
	}
	ann.fails(401, "not_authorised", "access virtual host", "GET", "/api/queues/%2F", "")
	ann.fails(401, "not_authorised", "Not administrator", "PUT", "/api/vhosts/x", "")
	if got := ann.names("/api/vhosts"); got != "" {
		t.Errorf("ann sees %s", got)
	}
	if err := n.shard.Users.SetVhostPermissions(t.Context(), auth.VhostPermissions{User: "ann", Vhost: "/", Configure: "^a", Write: "^a", Read: "^a"}); err != nil {
		t.Fatal(err)
	}
	if got := ann.names("/api/vhosts"); got != "/" {
		t.Errorf("ann sees %s", got)
	}
	ann.ask(201, "PUT", "/api/queues/%2F/a", "")
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/api/queues/%2F/b", "{}"}, {"DELETE", "/api/queues/%2F/b", ""}, {"DELETE", "/api/queues/%2F/b/contents", ""},
		{"POST", "/api/queues/%2F/b/get", `{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}`},
		{"PUT", "/api/exchanges/%2F/b", `{"type":"direct"}`}, {"DELETE", "/api/exchanges/%2F/b", ""},
		{"PUT", "/api/queues/%2F/a2", `{"arguments":{"x-dead-letter-exchange":"b"}}`},
		{"PUT", "/api/exchanges/%2F/a2", `{"type":"direct","arguments":{"alternate-exchange":"b"}}`},
		{"PUT", "/api/queues/%2F/amq.a", "{}"},
		{"POST", "/api/bindings/%2F/e/amq.direct/q/b", "{}"}, {"GET", "/api/aliveness-test/none", ""},
	} {
		if c.method == "GET" {
			ann.fails(401, "not_authorised", "access virtual host", c.method, c.path, "")
			continue
		}
		ann.fails(401, "not_authorised", "Access refused.", c.method, c.path, c.body)
	}
	n.as("root:x").fails(401, "not_authorised", "Login failed", "GET", "/api/whoami", "")
}

func TestUnknown(t *testing.T) {
	n := newNode(t, nil)
	n.fails(404, "Object Not Found", "Not Found", "GET", "/api/nope", "")
	n.fails(404, "Object Not Found", "Not Found", "GET", "/", "")
	n.fails(404, "Object Not Found", "Not Found", "GET", "/api/queues/%2F/none", "")
	n.fails(404, "not_found", "vhost_not_found", "PUT", "/api/queues/none/q", "{}")
	n.fails(405, "Method Not Allowed", "", "POST", "/api/queues", "")
	n.fails(413, "bad_request", "too large", "PUT", "/api/queues/%2F/q", strings.Repeat(" ", maxBody+1))
	n.broker.Follow(0, broker.Node{Name: "b"}, "cluster-id")
	n.fails(503, "service_unavailable", "", "GET", "/api/queues", "")
	n.fails(503, "service_unavailable", "", "GET", "/api/health/checks/alarms", "")
	n.fails(503, "service_unavailable", "", "PUT", "/api/queues/%2F/q", "{}")
}
