package console

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// declare creates a queue.
func (n *node) declare(t *testing.T, vhost, name string, change func(*state.Settings)) {
	t.Helper()
	e, err := n.broker.Queues(vhost)
	if err != nil {
		t.Fatal(err)
	}
	s := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	if change != nil {
		change(&s)
	}
	if err := e.CreateVhost(t.Context(), vhost); err != nil {
		t.Fatal(err)
	}
	if _, err := e.DeclareQueue(t.Context(), vhost, name, s); err != nil {
		t.Fatal(err)
	}
}

// publish puts messages into a queue.
func (n *node) publish(t *testing.T, vhost, name string, bodies ...string) {
	t.Helper()
	p := wire.Properties{Flags: wire.HasContentType, ContentType: "text/plain"}
	raw, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var w queue.Work
	for _, body := range bodies {
		w.Publications = append(w.Publications, queue.Publication{Key: name, Properties: raw, Body: []byte(body)})
	}
	n.submit(t, vhost, w)
}

func (n *node) submit(t *testing.T, vhost string, w queue.Work) {
	t.Helper()
	e, err := n.broker.Queues(vhost)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	e.Submit(vhost, w, func(outcomes []error, err error) {
		for _, failed := range outcomes {
			if failed != nil {
				err = failed
			}
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func bodies(all []Message) string {
	var s []string
	for _, m := range all {
		s = append(s, string(m.Body))
	}
	return strings.Join(s, " ")
}

func TestQueues(t *testing.T) {
	n := newNode(t)
	n.declare(t, "/", "q", nil)
	n.declare(t, "v/1", "other", func(s *state.Settings) {
		s.TTL, s.MaxLength, s.DeliveryLimit, s.Overflow = 0, 7, 2, state.RejectPublish
		s.DeadLetter = &state.DeadLetter{Exchange: "", Key: "q", HasKey: true}
	})
	n.publish(t, "/", "q", "one", "two", "three")
	all := ask[[]Queue](t, n, 200, "GET", "/v1/queues", "")
	if len(all) != 2 || all[0].Vhost != "/" || all[0].Ready != 3 || all[0].Bytes != 11 || all[0].Settings.TTL != nil || all[1].Name != "other" {
		t.Fatalf("%+v", all)
	}
	s := ask[[]Queue](t, n, 200, "GET", "/v1/queues?vhost=v%2F1&name=other", "")[0].Settings
	if *s.TTL != 0 || *s.MaxLength != 7 || *s.DeliveryLimit != 2 || s.Overflow != "reject-publish" || *s.DeadLetter != "" || *s.DeadLetterKey != "q" || s.MaxBytes != nil {
		t.Errorf("%+v", s)
	}
	shown := ask[[]Message](t, n, 200, "GET", "/v1/queues/messages?vhost=%2F&name=q&limit=2", "")
	if bodies(shown) != "one two" || shown[0].Properties.ContentType != "text/plain" || shown[0].Key != "q" || shown[0].Published.IsZero() || shown[0].Size != 3 {
		t.Fatalf("%+v", shown)
	}
	rest := ask[[]Message](t, n, 200, "GET", fmt.Sprint("/v1/queues/messages?vhost=%2F&name=q&from=", shown[1].ID+1), "")
	if bodies(rest) != "three" {
		t.Errorf("%+v", rest)
	}
	if got := ask[Changed](t, n, 200, "POST", "/v1/queues/purge", `{"vhost":"/","queue":"q"}`); got.Messages != 3 {
		t.Errorf("purged: %+v", got)
	}
	ask[Changed](t, n, 200, "DELETE", "/v1/queues?vhost=%2F&name=q&if-empty=true&if-unused=true", "")
	ask[Error](t, n, 404, "GET", "/v1/queues?vhost=%2F&name=q", "")
}

// TestQueuesMove: messages are moved, and dead letters come back to where they died.
func TestQueuesMove(t *testing.T) {
	n := newNode(t)
	n.declare(t, "/", "dead", nil)
	n.declare(t, "/", "aside", nil)
	n.declare(t, "/", "work", func(s *state.Settings) { s.DeadLetter = &state.DeadLetter{Key: "dead", HasKey: true} })
	n.publish(t, "/", "work", "a", "b", "c")
	e, err := n.broker.Queues("/")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d, _, ok, err := e.Get(t.Context(), "/", "work", "")
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		n.submit(t, "/", queue.Work{Settlements: []queue.Settlement{{Queue: d.Queue, IDs: []int64{d.ID}, Verdict: queue.Reject}}})
	}
	n.await(t, "dead", 3)
	if got := ask[Changed](t, n, 200, "POST", "/v1/queues/move", `{"vhost":"/","queue":"dead","routing_key":"aside","most":1}`); got.Messages != 1 {
		t.Errorf("moved: %+v", got)
	}
	if got := ask[Changed](t, n, 200, "POST", "/v1/queues/replay", `{"vhost":"/","queue":"dead"}`); got.Messages != 2 {
		t.Errorf("replayed: %+v", got)
	}
	for queue, want := range map[string]string{"dead": "", "aside": "a", "work": "b c"} {
		if got := bodies(ask[[]Message](t, n, 200, "GET", "/v1/queues/messages?vhost=%2F&name="+queue, "")); got != want {
			t.Errorf("%s has %q, not %q", queue, got, want)
		}
	}
	ask[Error](t, n, 409, "POST", "/v1/queues/move", `{"vhost":"/","queue":"work","routing_key":"nobody"}`)
	ask[Error](t, n, 400, "POST", "/v1/queues/move", `{"vhost":"/","queue":"work","exchange":"nobody"}`)
	n.await(t, "work", 2)
}

// await waits until so many messages are ready.
func (n *node) await(t *testing.T, name string, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if q := ask[[]Queue](t, n, 200, "GET", "/v1/queues?vhost=%2F&name="+url.QueryEscape(name), ""); q[0].Ready == want {
			return
		}
	}
	t.Fatalf("%s does not get %d messages", name, want)
}

func TestQueuesWrong(t *testing.T) {
	n := newNode(t)
	n.declare(t, "/", "q", nil)
	n.declare(t, "/", "own", func(s *state.Settings) { s.Owner = "a session" })
	n.publish(t, "/", "q", "one")
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{404, "GET", "/v1/queues?vhost=none", ""},
		{404, "GET", "/v1/queues/messages?vhost=%2F&name=none", ""},
		{400, "GET", "/v1/queues/messages?name=q", ""},
		{400, "GET", "/v1/queues/messages?vhost=%2F&name=q&limit=x", ""},
		{400, "GET", "/v1/queues/messages?vhost=%2F&name=q&from=-1", ""},
		{409, "GET", "/v1/queues/messages?vhost=%2F&name=own", ""},
		{400, "POST", "/v1/queues/purge", `{"vhost":"/","name":"q"}`},
		{400, "POST", "/v1/queues/purge", `{"queue":"q"}`},
		{404, "POST", "/v1/queues/purge", `{"vhost":"/","queue":"none"}`},
		{409, "POST", "/v1/queues/purge", `{"vhost":"/","queue":"own"}`},
		{400, "POST", "/v1/queues/fill", `{"vhost":"/","queue":"q"}`},
		{400, "POST", "/v1/queues/move", `{"vhost":"/","queue":"q"}`},
		{404, "POST", "/v1/queues/replay", `{"vhost":"/","queue":"none"}`},
		{404, "DELETE", "/v1/queues?vhost=%2F&name=none", ""},
		{400, "DELETE", "/v1/queues?name=q", ""},
		{409, "DELETE", "/v1/queues?vhost=%2F&name=q&if-empty=true", ""},
	} {
		ask[Error](t, n, c.status, c.method, c.path, c.body)
	}
	if all := ask[[]Queue](t, n, 200, "GET", "/v1/queues?vhost=%2F", ""); len(all) != 2 || all[1].Ready != 1 || !all[0].Settings.Exclusive {
		t.Errorf("%+v", all)
	}
	n.broker.Follow(0, broker.Node{Name: "b"}, "cluster-id")
	ask[Error](t, n, 421, "GET", "/v1/queues?vhost=%2F", "")
	ask[Error](t, n, 421, "GET", "/v1/queues", "")
}
