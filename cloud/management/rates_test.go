package management

import (
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/queue"
)

// stat returns a member of message_stats, and its rate.
func stat(t *testing.T, of any, name string) (count, rate float64) {
	t.Helper()
	stats, ok := of.(object)["message_stats"].(object)
	if !ok {
		t.Fatalf("no message_stats in %v", of)
	}
	details, ok := stats[name+"_details"].(object)
	if !ok {
		t.Fatalf("no %s_details in %v", name, stats)
	}
	return stats[name].(float64), details["rate"].(float64)
}

// TestRates: rates are those since the request before.
func TestRates(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	n := newNode(t, func(o *Options) { o.Now = func() time.Time { return now } })
	n.ask(201, "PUT", "/api/queues/%2F/q", "")
	n.ask(201, "PUT", "/api/queues/%2F/other", "")
	for _, q := range []string{"q", "other"} {
		n.ask(201, "POST", "/api/bindings/%2F/e/amq.fanout/q/"+q, "{}")
	}
	subjects := map[string]string{"/api/queues/%2F/q": "queue", "/api/vhosts/%2F": "vhost", "/api/overview": "overview"}
	expect := func(when, name string, count, rate float64) {
		t.Helper()
		for path, of := range subjects {
			if c, r := stat(t, n.get(path), name); c != count || r != rate {
				t.Errorf("%s: %s of the %s: %v, rate %v; want %v, %v", when, name, of, c, r, count, rate)
			}
		}
	}
	expect("at first", "publish", 0, 0)
	for range 20 {
		n.ask(200, "POST", "/api/exchanges/%2F/amq.fanout/publish", `{"properties":{},"routing_key":"","payload":"x","payload_encoding":"string"}`)
	}
	expect("at the same time", "publish", 20, 0)
	now = now.Add(10 * time.Second)
	expect("after 10 s", "publish", 20, 2)
	has(t, n.get("/api/queues/%2F/q"), object{"messages": 20, "messages_details": object{"rate": 2.0}, "messages_ready_details": object{"rate": 2.0}})
	has(t, n.get("/api/overview")["queue_totals"].(object), object{"messages": 40, "messages_details": object{"rate": 4.0}})
	has(t, n.get("/api/overview"), object{"rates_mode": "basic"})

	n.ask(200, "POST", "/api/queues/%2F/q/get", `{"count":5,"ackmode":"ack_requeue_true","encoding":"auto"}`)
	n.ask(200, "POST", "/api/queues/%2F/q/get", `{"count":5,"ackmode":"ack_requeue_false","encoding":"auto"}`)
	n.await("q", 15)
	now = now.Add(time.Second) // the request before was too soon before
	expect("after 11 s", "deliver_get", 10, 10.0/11)
	now = now.Add(9 * time.Second)
	expect("after 20 s", "publish", 20, 0)
	expect("after 20 s", "get", 10, 1)
	expect("after 20 s", "redeliver", 5, 0.5)
	expect("after 20 s", "ack", 5, 0.5)
	expect("after 20 s", "deliver", 0, 0)
	has(t, n.get("/api/queues/%2F/q"), object{"messages_details": object{"rate": -0.5}})
	sorted := n.ask(200, "GET", "/api/queues?sort=message_stats.get_details.rate&columns=name,message_stats.get_details.rate", "").([]any)
	has(t, sorted[0].(object), object{"name": "other"})
	has(t, sorted[1].(object), object{"name": "q", "message_stats": object{"get_details": object{"rate": 1.0}}})

	n.ask(204, "DELETE", "/api/queues/%2F/q", "")
	if c, _ := stat(t, n.get("/api/vhosts/%2F"), "publish"); c != 20 {
		t.Errorf("with the queue %v publishes are gone", 20-c)
	}
	n.ask(201, "PUT", "/api/queues/%2F/q", "")
	if c, r := stat(t, n.get("/api/queues/%2F/q"), "get"); c != 0 || r != 0 {
		t.Errorf("another queue of the name: %v, %v", c, r)
	}
}

// TestRatesOfNewOwner: when any count is lower than before, another node counts, and no rate
// is negative.
func TestRatesOfNewOwner(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for name, lower := range map[string]func(*queue.Counts){
		"published": func(c *queue.Counts) { c.Published-- }, "delivered": func(c *queue.Counts) { c.Delivered-- },
		"without acknowledgement": func(c *queue.Counts) { c.NoAck-- }, "got": func(c *queue.Counts) { c.Got-- },
		"redelivered": func(c *queue.Counts) { c.Redelivered-- }, "accepted": func(c *queue.Counts) { c.Accepted-- },
	} {
		var r rates
		before := moment{at, figures{Counts: queue.Counts{Published: 5, Delivered: 5, NoAck: 5, Got: 5, Redelivered: 5, Accepted: 5}}}
		r.since(subject{"/", 7}, before)
		now := before
		now.at = at.Add(time.Minute)
		lower(&now.Counts)
		if got := r.since(subject{"/", 7}, now); got != now {
			t.Errorf("%s is lower: compared with %+v", name, got)
		}
	}
}

// TestRatesAreForgotten: figures that nobody asks for take no room.
func TestRatesAreForgotten(t *testing.T) {
	var r rates
	at := time.Unix(1_800_000_000, 0)
	for i := range 10 {
		r.since(subject{"/", 0}, moment{at: at})
		r.since(subject{"/", 7}, moment{at: at.Add(-time.Duration(i) * time.Minute)})
		at = at.Add(2 * time.Minute)
	}
	if len(r.known) != 2 {
		t.Errorf("%d are known", len(r.known))
	}
	r.since(subject{"/", 0}, moment{at: at.Add(rateMemory)})
	if _, ok := r.known[subject{"/", 7}]; ok {
		t.Error("what nobody asks for is known")
	}
}
