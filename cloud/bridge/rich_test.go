package bridge

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// rich is a reading of a device that was made some time ago, with headers: name=value.
func rich(device, body string, ago time.Duration, headers ...string) record.Record {
	r := reading("sensors/"+device, body)
	r.Timestamp = time.Now().Add(-ago).UnixMilli()
	for _, h := range headers {
		name, value, _ := strings.Cut(h, "=")
		r.Headers = append(r.Headers, record.Header{Key: name, Value: []byte(value)})
	}
	return r
}

// queues declares a queue for each device: "prio" has priorities, "once" looks for
// duplicates, and the exchange in front of "seen" does. What dies is in queue "dead".
func (w *world) queues(all ...string) {
	w.t.Helper()
	w.declare("dead")
	x := routing.Exchange{Name: "x", Type: routing.Deduplication, CacheSize: 5, Durable: true}
	if err := w.shard.Queues.DeclareExchange(w.t.Context(), queue.DefaultVhost, x); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range all {
		s := plain()
		s.DeadLetter = &state.DeadLetter{Key: "dead", HasKey: true}
		b := routing.Binding{Source: exchange, Destination: name, Key: "sensors." + name}
		switch name {
		case "prio":
			s.MaxPriority = 9
		case "once":
			s.Deduplicate = true
		case "seen":
			b.Destination, b.ToExchange = "x", true
		}
		if _, err := w.shard.Queues.DeclareQueue(w.t.Context(), queue.DefaultVhost, name, s); err != nil {
			w.t.Fatal(err)
		}
		if err := w.shard.Queues.Bind(w.t.Context(), queue.DefaultVhost, b); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.shard.Queues.Bind(w.t.Context(), queue.DefaultVhost, routing.Binding{Source: "x", Destination: "seen"}); err != nil {
		w.t.Fatal(err)
	}
}

// TestRichReadings: what a device or a Kafka producer says of a message in headers acts in
// queues as what an AMQP client says: delay and time to live, which count from when the
// record was made, priority, and by what it is a duplicate. What expires is a dead letter.
func TestRichReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		w.queues("delay", "ttl", "both", "prio", "seen", "once")

		w.put(sensors, 0, rich("delay", "late", time.Second, "x-delay=3000"), rich("delay", "overdue", time.Hour, "x-delay=3000"), rich("delay", "none", 0, "x-delay=soon"))
		w.put(sensors, 0, rich("ttl", "old", time.Hour, "weir.ttl-ms=5000"), rich("ttl", "short", 4*time.Second, "weir.ttl-ms=5000"))
		w.put(sensors, 0, rich("both", "never", 0, "x-delay=1500", "weir.ttl-ms=1500"), rich("both", "a while", 0, "x-delay=1500", "weir.ttl-ms=1800"))
		w.expect("delay", "overdue", "none")
		w.expect("ttl", "short")
		w.expect("both")
		w.expect("dead", "old")
		time.Sleep(1600 * time.Millisecond)
		w.expect("dead", "old", "short", "never")
		w.expect("both", "a while")
		time.Sleep(500 * time.Millisecond)
		w.expect("delay", "overdue", "none", "late")
		w.expect("dead", "old", "short", "never", "a while")

		w.put(sensors, 0, rich("prio", "plain", 0), rich("prio", "low", 0, "x-priority=1"), rich("prio", "high", 0, "x-priority=7"))
		synctest.Wait()
		for _, want := range []string{"high", "low", "plain"} {
			d, _, ok, err := w.shard.Queues.Get(t.Context(), queue.DefaultVhost, "prio", "")
			if err != nil || !ok || string(d.Body) != want {
				t.Fatalf("got %q, want %s: %v", d.Body, want, err)
			}
		}
		for _, device := range []string{"seen", "once"} {
			w.put(sensors, 0, rich(device, "1", 0, "x-deduplication-header=v"), rich(device, "2", 0, "x-deduplication-header=v"), rich(device, "3", 0, "x-deduplication-header=w"))
			w.put(sensors, 1, rich(device, "4", 0, "x-deduplication-header=v"), rich(device, "5", 0))
			w.expect(device, "1", "3", "5")
		}
	})
}

// TestOrderedReadings: an exchange that hashes a header keeps what has the same value in one
// queue, in order; with a single active consumer for each queue, groups of messages are
// worked on one after the other, and several groups at a time.
func TestOrderedReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		x := routing.Exchange{Name: "groups", Type: routing.ConsistentHash, HashHeader: "x-group", Durable: true}
		if err := w.shard.Queues.DeclareExchange(t.Context(), queue.DefaultVhost, x); err != nil {
			t.Fatal(err)
		}
		all := []string{"g0", "g1", "g2"}
		for _, name := range all {
			s := plain()
			s.SingleActive = true
			if _, err := w.shard.Queues.DeclareQueue(t.Context(), queue.DefaultVhost, name, s); err != nil {
				t.Fatal(err)
			}
			if err := w.shard.Queues.Bind(t.Context(), queue.DefaultVhost, routing.Binding{Source: "groups", Destination: name, Key: "1"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.shard.Queues.Bind(t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: "groups", Key: "#", ToExchange: true}); err != nil {
			t.Fatal(err)
		}
		const groups, each = 20, 5
		for n := range each {
			for g := range groups {
				w.put(sensors, 0, rich("a", fmt.Sprintf("%d/%d", g, n), 0, fmt.Sprint("x-group=", g)))
			}
		}
		next, in := make(map[string]int), make(map[string]string)
		used := 0
		for _, name := range all {
			got := w.bodies(name)
			if len(got) > 0 {
				used++
			}
			for _, body := range got {
				g, n, _ := strings.Cut(body, "/")
				if n != fmt.Sprint(next[g]) || in[g] != "" && in[g] != name {
					t.Fatalf("message %s of group %s is in queue %s, the ones before in %s, %d of them", n, g, name, in[g], next[g])
				}
				next[g]++
				in[g] = name
			}
		}
		for g := range groups {
			if n := next[fmt.Sprint(g)]; n != each {
				t.Errorf("%d messages of group %d", n, g)
			}
		}
		if used < 2 {
			t.Errorf("%d queues have messages", used)
		}
	})
}
