package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/management"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/record"
)

// startTwo starts two nodes of a cluster of four data shards with every door, of which each
// owns some.
func startTwo(t *testing.T) (first, second running) {
	t.Helper()
	bucket := bucketOf(t, 5)
	doors := func(o *Options) {
		o.AMQP = []listener.Settings{{Name: "default", Listen: "127.0.0.1:0", SASL: []string{"PLAIN"}, Guests: true}}
		o.Management = []listener.Settings{{Name: "default", Listen: "127.0.0.1:0", SASL: []string{"PLAIN"}, Guests: true}}
		o.Partitions, o.Takeover = 8, 2*time.Second
	}
	first = openNode(t, bucket, "first", t.TempDir(), doors)
	first.run(t)
	first.says(t, "ready")
	second = openNode(t, bucket, "second", t.TempDir(), doors)
	second.run(t)
	second.says(t, "ready")
	eventually(t, "both nodes have shards with data, and know of each other's", func() bool {
		for _, n := range []running{first, second} {
			for id := range uint32(5) {
				if l, known := n.broker.OwnerOf(id); !known || l.Name == "" {
					return false
				}
			}
		}
		all := len(first.shards.all()) - len(second.shards.all())
		return all*all == 1 && dataShards(first)+dataShards(second) == 4
	})
	return first, second
}

func dataShards(r running) (n int) {
	for _, own := range r.shards.all() {
		if own.ID != catalogueShard && r.broker.Serves(own.ID) == nil {
			n++
		}
	}
	return n
}

// hostOf returns the node that has a vhost, and the other one.
func hostOf(t *testing.T, vhost string, a, b running) (host, other running) {
	t.Helper()
	if _, err := a.broker.Queues(vhost); err == nil {
		return a, b
	}
	if _, err := b.broker.Queues(vhost); err != nil {
		t.Fatal(err)
	}
	return b, a
}

func engineOf(t *testing.T, n running, vhost string) *queue.Engine {
	t.Helper()
	e, err := n.broker.Queues(vhost)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// put appends a record of a gateway to a partition, at a node that need not lead it.
func (r running) put(t *testing.T, topic broker.Topic, partition int32, key, value string) {
	t.Helper()
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Key: []byte(key), Value: []byte(value), Headers: []record.Header{{Key: "weir.client", Value: []byte("c")}}}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	r.records.Append(t.Context(), broker.Append{Topic: topic.ID, Partition: partition, Batch: batch, Verified: true}, func(_ int64, err error) { answer <- err })
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
}

// waiting returns the bodies in a queue.
func waiting(t *testing.T, e *queue.Engine, vhost, name string) map[string]int {
	t.Helper()
	found, err := e.Peek(t.Context(), vhost, name, "", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	for _, d := range found {
		all[string(d.Body)]++
	}
	return all
}

// TestQueuesOverNodes: each vhost is in one shard, the default one too. Its queues get the
// readings in all partitions, wherever they are led, those of topics that are new too, and
// its stream queues write and read all of them.
func TestQueuesOverNodes(t *testing.T) {
	first, second := startTwo(t)
	host, other := hostOf(t, queue.DefaultVhost, first, second)
	vhosts := 0
	for _, n := range []running{first, second} {
		engines, err := n.broker.AllQueues()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range engines {
			if has, err := e.HasVhost(t.Context(), queue.DefaultVhost); err != nil || has {
				t.Fatalf("the default vhost before its first use: %v, %v", has, err)
			}
			if _, err := e.OpenVhost(t.Context(), queue.DefaultVhost); err != nil {
				t.Fatal(err)
			}
			vhosts += len(e.Vhosts())
			if err := e.CreateVhost(t.Context(), queue.DefaultVhost); (err == nil) != (e == engineOf(t, host, queue.DefaultVhost)) {
				t.Errorf("the default vhost in a shard of node %s: %v", n.o.Node, err)
			}
		}
	}
	if vhosts != 1 {
		t.Errorf("there are %d vhosts", vhosts)
	}
	e := engineOf(t, host, queue.DefaultVhost)
	old, err := other.broker.CreateTopic(t.Context(), "old", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	for p := range old.Partitions {
		other.put(t, old, p, "old/x", "before")
	}
	settings := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	if _, err := e.DeclareQueue(t.Context(), queue.DefaultVhost, "q", settings); err != nil {
		t.Fatal(err)
	}
	if err := e.Bind(t.Context(), queue.DefaultVhost, routing.Binding{Source: "amq.topic", Destination: "q", Key: "#"}); err != nil {
		t.Fatal(err)
	}
	fresh, err := first.broker.CreateTopic(t.Context(), "fresh", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int)
	for i, topic := range []broker.Topic{old, fresh} {
		for p := range topic.Partitions {
			body := fmt.Sprint(topic.Name, p)
			want[body] = 1
			[]running{first, second}[(int(p)+i)%2].put(t, topic, p, topic.Name+"/x", body)
		}
	}
	eventually(t, "every reading is in the queue, once", func() bool {
		got := waiting(t, e, queue.DefaultVhost, "q")
		for body, n := range got {
			if want[body] != n {
				t.Fatalf("%s is in the queue %d times", body, n)
			}
		}
		return len(got) == len(want)
	})
	eventually(t, "nothing is left to read", func() bool { return host.bridgeLag() == 0 })

	settings.Stream = true
	if _, err := e.DeclareQueue(t.Context(), queue.DefaultVhost, "fresh", settings); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{}, 1)
	c, err := e.ConsumeStream(t.Context(), queue.ConsumerOptions{Vhost: queue.DefaultVhost, Queue: "fresh", Windows: []*queue.Window{queue.NewWindow(1000)}, Ready: func() {
		select {
		case arrived <- struct{}{}:
		default:
		}
	}, Cancelled: func() { t.Error("the consumer is cancelled") }}, queue.Offset{From: queue.FromFirst})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var w queue.Work
	for i := range 40 {
		w.Publications = append(w.Publications, queue.Publication{Key: "fresh", Body: fmt.Append(nil, i), Properties: nil})
	}
	done := make(chan error, 1)
	e.Submit(queue.DefaultVhost, w, func(_ []error, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for all := []queue.Delivery(nil); len(all) < 48; {
		if all = c.Take(all, 100); len(all) < 48 {
			<-arrived
		}
	}
	if i, err := e.Queue(queue.DefaultVhost, "fresh", ""); err != nil || i.Ready != 48 {
		t.Errorf("the stream queue has %d messages: %v", i.Ready, err)
	}
}

// answered sends a request to a node's admin port, with its own credential.
func answered[T any](t *testing.T, n running, method, path, body string) (answer T) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.self.Address(cluster.HTTP)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, n))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(all, &answer)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s is answered with %d %s: %v", n.o.Node, method, path, res.StatusCode, all, err)
	}
	return answer
}

// TestConsoleOverNodes: weirctl reads and writes all partitions, and finds and changes all
// vhosts and queues, whichever node it asks.
func TestConsoleOverNodes(t *testing.T) {
	first, second := startTwo(t)
	answered[console.Topic](t, first, "POST", "/v1/topics", `{"name":"t","partitions":8}`)
	for i, n := range []running{first, second} {
		for p := range 8 {
			body := fmt.Sprintf(`{"partition":%d,"records":[{"value":"eA=="}]}`, p)
			if w := answered[console.Written](t, n, "POST", "/v1/topics/t/records", body); w.Offset != int64(i) {
				t.Errorf("%s: a record of partition %d is at offset %d", n.o.Node, p, w.Offset)
			}
		}
	}
	vhosts := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for i, v := range vhosts {
		answered[struct{}](t, []running{first, second}[i%2], "POST", "/v1/vhosts", `{"name":"`+v+`"}`)
	}
	settings := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	for _, v := range vhosts {
		host, _ := hostOf(t, v, first, second)
		if _, err := engineOf(t, host, v).DeclareQueue(t.Context(), v, "q", settings); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []running{first, second} {
		for p := range 8 {
			if all := answered[console.Records](t, n, "GET", fmt.Sprint("/v1/topics/t/records?partition=", p), ""); len(all.Records) != 2 || all.End != 2 {
				t.Errorf("%s: partition %d has %d records, and ends at %d", n.o.Node, p, len(all.Records), all.End)
			}
		}
		if all := answered[console.Topic](t, n, "GET", "/v1/topics/t", ""); all.Records != 16 {
			t.Errorf("%s: the topic has %d records", n.o.Node, all.Records)
		}
		if all := answered[[]console.Vhost](t, n, "GET", "/v1/vhosts", ""); len(all) != len(vhosts) {
			t.Errorf("%s: there are %d vhosts", n.o.Node, len(all))
		}
		if all := answered[[]console.Queue](t, n, "GET", "/v1/queues", ""); len(all) != len(vhosts) || all[0].Vhost != "a" {
			t.Errorf("%s: there are %d queues", n.o.Node, len(all))
		}
		for _, v := range vhosts {
			if all := answered[[]console.Queue](t, n, "GET", "/v1/queues?name=q&vhost="+v, ""); len(all) != 1 {
				t.Errorf("%s: there are %d queues in vhost %s", n.o.Node, len(all), v)
			}
		}
	}
	for i, v := range vhosts {
		n := []running{second, first}[i%2]
		answered[console.Changed](t, n, "DELETE", "/v1/queues?name=q&vhost="+v, "")
		answered[struct{}](t, n, "DELETE", "/v1/vhosts?name="+v, "")
	}
	if all := answered[[]console.Vhost](t, first, "GET", "/v1/vhosts", ""); len(all) != 0 {
		t.Errorf("%d vhosts are left", len(all))
	}
}

// managed sends a request to a node's management API as guest, and checks the status.
func managed(t *testing.T, n running, want int, method, path, body string) (answer any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:4711"
	r.SetBasicAuth("guest", "guest")
	w := httptest.NewRecorder()
	n.management.Handler(&listener.Listener{SASL: []string{"PLAIN"}, Guests: true}, new(listener.Traffic)).ServeHTTP(w, r)
	if w.Code != want {
		t.Fatalf("%s: %s %s is answered with %d %s", n.o.Node, method, path, w.Code, w.Body)
	}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

// TestManagementOverNodes: RabbitMQ's management API answers for all vhosts at any node.
func TestManagementOverNodes(t *testing.T) {
	first, second := startTwo(t)
	nodes := []running{first, second}
	vhosts := []string{"/", "a", "b", "c", "d", "e"}
	hosts := make(map[string]bool)
	for i, v := range vhosts {
		one, other := nodes[i%2], nodes[(i+1)%2]
		host, _ := hostOf(t, v, first, second)
		hosts[host.o.Node] = true
		at := url.PathEscape(v)
		if v != "/" {
			managed(t, one, 201, "PUT", "/api/vhosts/"+at, "")
		}
		managed(t, other, 201, "PUT", "/api/queues/"+at+"/q", `{"durable":true}`)
		managed(t, one, 201, "PUT", "/api/exchanges/"+at+"/x", `{"type":"topic","durable":true}`)
		managed(t, other, 201, "POST", "/api/bindings/"+at+"/e/x/q/q", `{"routing_key":"a.*"}`)
		managed(t, one, 200, "POST", "/api/exchanges/"+at+"/x/publish", `{"routing_key":"a.b","payload":"hello","payload_encoding":"string","properties":{}}`)
		managed(t, one, 404, "GET", "/api/queues/"+at+"/none", "")
	}
	if len(hosts) != 2 {
		t.Fatalf("the vhosts are on %v", hosts)
	}
	for _, n := range nodes {
		for path, want := range map[string]int{"/api/vhosts": 6, "/api/queues": 6, "/api/queues/a": 1, "/api/bindings": 12, "/api/nodes": 2, "/api/connections": 0, "/api/consumers": 0, "/api/users": 0} {
			if all := managed(t, n, 200, "GET", path, "").([]any); len(all) != want {
				t.Errorf("%s: %s has %d elements, not %d", n.o.Node, path, len(all), want)
			}
		}
		page := managed(t, n, 200, "GET", "/api/queues?page=1&page_size=2&sort=vhost&sort_reverse=true", "").(map[string]any)
		if items := page["items"].([]any); page["total_count"] != 6.0 || len(items) != 2 || items[0].(map[string]any)["vhost"] != "e" {
			t.Errorf("%s: a page of queues is %v", n.o.Node, page)
		}
		o := managed(t, n, 200, "GET", "/api/overview", "").(map[string]any)
		if o["object_totals"].(map[string]any)["queues"] != 6.0 || o["queue_totals"].(map[string]any)["messages"] != 6.0 || o["message_stats"].(map[string]any)["publish"] != 6.0 {
			t.Errorf("%s: the overview is %v, %v", n.o.Node, o["object_totals"], o["queue_totals"])
		}
		defined := managed(t, n, 200, "GET", "/api/definitions", "").(map[string]any)
		if len(defined["queues"].([]any)) != 6 || len(defined["vhosts"].([]any)) != 6 || len(defined["bindings"].([]any)) != 6 || len(defined["exchanges"].([]any)) != 6 {
			t.Errorf("%s: the definitions are %v", n.o.Node, defined)
		}
	}
	defined, err := json.Marshal(managed(t, first, 200, "GET", "/api/definitions", ""))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vhosts[1:] {
		managed(t, nodes[i%2], 204, "DELETE", "/api/vhosts/"+v, "")
		managed(t, nodes[i%2], 404, "DELETE", "/api/vhosts/"+v, "")
	}
	for _, n := range nodes {
		managed(t, n, 204, "POST", "/api/definitions", string(defined))
		if all := managed(t, n, 200, "GET", "/api/bindings", "").([]any); len(all) != 12 {
			t.Errorf("%s: %d bindings after an import", n.o.Node, len(all))
		}
	}
	p := management.Passed{Principal: "User:mallory", From: "127.0.0.1:4711", Method: "GET", Target: "/api/vhosts/a", Part: true}
	host, _ := hostOf(t, "a", first, second)
	if a := host.management.Perform(t.Context(), p); a.Status != 401 {
		t.Errorf("a user without permissions, whom another node vouches for, is answered with %d %s", a.Status, a.Body)
	}
}
