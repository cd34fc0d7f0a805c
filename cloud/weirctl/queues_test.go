package main

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/streamqueue"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// newQueueNode returns the URL of a node with the queues work and aside in vhost /, and
// its engine.
func newQueueNode(t *testing.T) (string, *queue.Engine) {
	t.Helper()
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	b := broker.New(broker.Options{Self: broker.Node{Name: "a"}})
	s := shard.New(shard.Options{Log: quiet, Fleet: fleet.Options{CA: ca}, Queues: queue.Options{Topics: streamqueue.New(streamqueue.Options{Broker: b}).Calls()}})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b.Lead(s)
	node := httptest.NewServer(console.New(console.Options{Guard: admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}), Broker: b, Metrics: measure.New()}))
	t.Cleanup(node.Close)
	plain := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	for _, name := range []string{"aside", "work"} {
		if _, err := s.Queues.DeclareQueue(t.Context(), "/", name, plain); err != nil {
			t.Fatal(err)
		}
	}
	var w queue.Work
	for _, body := range []string{"one", "two", "\xff\x00"} {
		w.Publications = append(w.Publications, queue.Publication{Key: "work", Body: []byte(body)})
	}
	done := make(chan error, 1)
	s.Queues.Submit("/", w, func(_ []error, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return node.URL, s.Queues
}

// TestQueuesVerb: work queues, as a person manages them.
func TestQueuesVerb(t *testing.T) {
	url, engine := newQueueNode(t)
	if err := engine.CreateVhost(t.Context(), "plant"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.DeclareQueue(t.Context(), "plant", "slow", state.Settings{TTL: 0, MaxLength: 7, MaxBytes: -1, DeliveryLimit: 3, MaxPriority: 2,
		DeadLetter: &state.DeadLetter{Exchange: "", Key: "x", HasKey: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.DeclareQueue(t.Context(), "plant", "sensors", state.Settings{Durable: true, Stream: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args          string
		code          int
		stdout, wrong string
	}{
		{"queues", 0, "VHOST   QUEUE     TYPE     READY   UNSETTLED   CONSUMERS   SIZE", ""},
		{"queues list", 0, "work      queue        3           0           0   8 B", ""},
		{"queues list --vhost plant", 0, "slow", ""},
		{"queues list --vhost plant", 0, "sensors   stream", ""},
		{"queues show sensors --vhost plant", 0, "sensors in vhost plant is a stream queue: topic sensors has 0 messages, 0 B, and 0 consumers read it", ""},
		{"queues show sensors --vhost plant -o json", 0, `"stream": true`, ""},
		{"queues peek sensors --vhost plant", 2, "", "not supported by stream queues"},
		{"queues purge sensors --vhost plant", 2, "", "not supported by stream queues"},
		{"queues list -o json", 0, `"ready": 3`, ""},
		{"queues show work", 0, "work in vhost / has 3 messages ready and 0 unsettled", ""},
		{"queues show slow --vhost plant", 0, "dead-letter-routing-key   'x'", ""},
		{"queues show slow --vhost plant -o json", 0, `"message_ttl_ms": 0`, ""},
		{"queues show slow", 2, "", "no such queue"},
		{"queues peek work --max 1", 0, "work\t0 deliveries\t{}\tone", ""},
		{"queues peek work --value hex", 0, "ff00", ""},
		{"queues peek work -o json", 0, `"body_base64": "/wA="`, ""},
		{"queues peek work -o json", 0, `"body": "two"`, ""},
		{"queues peek work --value xml", 2, "", "is not auto, json, text or hex"},
		{"queues move work --to-queue aside --max 1", 0, "1 messages of queue work moved", ""},
		{"queues move work --to-exchange amq.fanout", 2, "", "no queue takes the message"},
		{"queues move work --to-queue aside --to-exchange x", 2, "", "either --to-queue or --to-exchange"},
		{"queues move work --to-queue aside --key x", 2, "", "--key goes with --to-exchange"},
		{"queues move work --to-queue work", 2, "", "the queue itself"},
		{"queues move work", 2, "", "either --to-queue or --to-exchange"},
		{"queues replay aside", 0, "1 messages of queue aside replayed", ""},
		{"queues purge work --max 1", 2, "", "takes no --max"},
		{"queues purge work", 0, "2 messages of queue work purged", ""},
		{"queues delete aside --if-empty --if-unused", 2, "", "not empty"},
		{"queues delete aside -o json", 0, "queue aside deleted", ""},
		{"queues delete aside", 2, "", "no such queue"},
		{"queues drain aside", 2, "", "queues takes list"},
		{"queues purg aside", 2, "", "did you mean purge?"},
		{"queues list --max -1", 2, "", "must not be negative"},
		{"queues --help", 0, "replay", ""},
		{"__complete queues purge ", 0, "work", ""},
	} {
		args := strings.Split(c.args, " ")
		if args[0] != completeWord {
			args = append(args, "--cloud", url)
		}
		var stdout, stderr strings.Builder
		code := run(args, []string{tokenVariable + "=" + ownToken, "WEIRCTL_CLOUD=" + url}, nil, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
	if all, err := engine.Queues("/"); err != nil || len(all) != 1 || all[0].Ready != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
