package listappend

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// node is a node of a cluster of several shards, in this process.
type node struct {
	*cloud.Node
	kafka string // address
	stop  context.CancelFunc
	ended chan error
}

// ready passes on the address of the Kafka listener when the node says that it is ready.
type ready struct {
	slog.Handler
	kafka chan string
}

func (h ready) Enabled(context.Context, slog.Level) bool { return true }

func (h ready) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "ready" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "kafka" {
				h.kafka <- a.Value.String()
			}
			return true
		})
	}
	return nil
}

func (h ready) WithAttrs([]slog.Attr) slog.Handler { return h }

func start(t *testing.T, b storage.Bucket, name, kafka, data string) *node {
	t.Helper()
	h := ready{slog.DiscardHandler, make(chan string, 1)}
	ctx, stop := context.WithCancel(context.Background())
	n, err := cloud.Open(ctx, cloud.Options{Bucket: b, Data: data, Node: name, Shards: 4, Partitions: 1, Takeover: 300 * time.Millisecond,
		Sync: cloud.Off, Kafka: []listener.Settings{{Name: "default", Listen: kafka}}, HTTP: cloud.HTTP{Listen: cloud.Off}, Peer: "127.0.0.1:0", Log: slog.New(h)})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	x := &node{Node: n, stop: stop, ended: make(chan error, 1)}
	go func() { x.ended <- n.Run(ctx) }()
	select {
	case x.kafka = <-h.kafka:
	case err := <-x.ended:
		t.Fatalf("node %s: %v", name, err)
	case <-time.After(20 * time.Second):
		t.Fatalf("node %s is not ready", name)
	}
	return x
}

func (n *node) end(t *testing.T) {
	t.Helper()
	n.stop()
	if err := <-n.ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("node: %v", err)
	}
}

// shared waits until each node owns some shards.
func shared(t *testing.T, nodes []*node) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if nodes[0].Role() == console.RoleOwner && nodes[1].Role() == console.RoleOwner {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("the nodes are %s and %s", nodes[0].Role(), nodes[1].Role())
		}
	}
}

// copied waits until all is copied to another topic.
func copied(t *testing.T, ctx context.Context, o Options, topic string, from Lists) {
	t.Helper()
	for o.Topic = topic; ; sleep(ctx, againTime) {
		to, err := Read(ctx, o)
		wrong, left := Copied(from, to)
		if err == nil && len(wrong) == 0 && left == 0 {
			return
		}
		if len(wrong) > 0 || ctx.Err() != nil {
			t.Fatalf("%v; %d values are left, %v", wrong, left, err)
		}
	}
}

// TestNodes: transactions over the shards of two nodes, one of which stops and starts
// again, in turns. A consumer group copies what is committed, exactly once.
func TestNodes(t *testing.T) {
	bucket, names := mem.New(), []string{"a", "b"}
	data := []string{t.TempDir(), t.TempDir()}
	nodes := []*node{start(t, bucket, "a", "127.0.0.1:0", data[0]), start(t, bucket, "b", "127.0.0.1:0", data[1])}
	addresses := []string{nodes[0].kafka, nodes[1].kafka}
	defer func() {
		for _, n := range nodes {
			n.end(t)
		}
	}()
	o := Options{Brokers: addresses, Topic: "lists", Lists: 6, Writers: 4, Seed: 1, Log: t.Logf,
		Client: []kgo.Opt{kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}}
	admin, err := kgo.NewClient(o.options()...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	const copies = "copies"
	for _, topic := range []string{o.Topic, copies} {
		if _, err := kadm.NewClient(admin).CreateTopic(t.Context(), o.Lists, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []Transaction, 1)
	go func() { done <- Run(ctx, o) }()
	piping, full := context.WithCancel(t.Context())
	piped := make(chan struct{})
	go func() { defer close(piped); Pipe(piping, o, copies) }()
	defer func() { full(); <-piped }()
	for i := range 3 {
		shared(t, nodes)
		sleep(ctx, 800*time.Millisecond)
		which := i % 2
		nodes[which].end(t)
		nodes[which] = start(t, bucket, names[which], addresses[which], data[which])
	}
	cancel()
	all := <-done
	reading, over := context.WithTimeout(t.Context(), time.Minute)
	defer over()
	lists, err := Read(reading, o)
	if err != nil {
		t.Fatal(err)
	}
	copied(t, reading, o, copies, lists)
	full()
	<-piped
	if problems, err := txn.CheckShards(t.Context(), bucket, 5); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	count := make(map[Outcome]int)
	for _, x := range all {
		count[x.Outcome]++
	}
	report := Check(all, lists)
	t.Logf("%v; write cycles, which Kafka allows: %d", count, len(report.G0))
	for _, bad := range report.Bad() {
		t.Error(bad)
	}
	if count[Committed] < 5 || count[Aborted] < 1 {
		t.Errorf("too few transactions: %v", count)
	}
}
