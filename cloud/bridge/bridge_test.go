package bridge

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// TestReadings: a queue gets the readings whose MQTT topic its binding matches, from the
// binding on, and records of Kafka producers by the name of their topic; of a topic that is
// created later all of them. The next owner goes on where the one before was.
func TestReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		w := started(t, bucket)
		sensors, orders := w.topic("sensors"), w.topic("orders")
		w.put(sensors, 0, reading("sensors/a", "before"))
		w.bind("s", "sensors.#")
		w.bind("b", "sensors.b.*", "orders", "new")
		w.put(sensors, 0, reading("sensors/a", "1"), reading("sensors/b/x", "2"), reading("other/a", "3"))
		w.put(sensors, 1, reading("sensors/b", "4"))
		w.expect("s", "1", "2", "4")
		w.expect("b", "2")
		w.put(orders, 0, record.Record{Key: []byte("k"), Value: []byte("5")})
		w.put(w.topic("new"), 1, record.Record{Value: []byte("6")})
		w.expect("b", "2", "5", "6")
		w.expect("s", "1", "2", "4")
		if d := w.deliveries("b")[0]; d.Exchange != "amq.topic" || d.Key != "sensors.b.x" {
			t.Errorf("delivered from %q with key %q", d.Exchange, d.Key)
		}
		if lag := w.Lag(); lag != 0 {
			t.Errorf("lag %d", lag)
		}
		w.counted("weir_bridge_records_read_total", 6)
		w.counted("weir_bridge_records_published_total", 5)
		w.end()

		w = open(t, bucket)
		w.put(sensors, 0, reading("sensors/c", "7"))
		w.put(w.topic("new"), 0, record.Record{Value: []byte("8")})
		w.Start()
		w.put(sensors, 0, reading("sensors/c", "9"))
		w.expect("s", "1", "2", "4", "7", "9")
		w.expect("b", "2", "5", "6", "8")
		w.counted("weir_bridge_records_read_total", 3)
	})
}

// TestStoredOnce: the body of a record is in the log of the vhost once, however many queues
// get it.
func TestStoredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		for i := range 50 {
			w.bind(fmt.Sprint("q", i), "sensors.#")
		}
		w.put(sensors, 0, reading("sensors/a", strings.Repeat("x", 10_000)))
		for i := range 50 {
			if got := w.bodies(fmt.Sprint("q", i)); len(got) != 1 {
				t.Fatalf("queue %d has %d messages", i, len(got))
			}
		}
		_, id, err := w.shard.Queues.IsSource(queue.DefaultVhost, exchange)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := w.shard.Log.Size(id, 0); err != nil || size > 11_000 {
			t.Errorf("%d bytes in the log of the vhost, %v", size, err)
		}
	})
}

// TestFollows: positions are there from the first binding to the last one. What is bound
// again gets nothing of what came in between. A binding of another exchange, and one that
// is refused, change nothing.
func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		expect := func(what string, want bool) {
			t.Helper()
			if all, follows := w.positions(); follows != want || len(all) > 0 != want {
				t.Errorf("%s: follows %v, %v", what, follows, all)
			}
		}
		w.put(sensors, 0, reading("sensors/a", "0"))
		w.declare("q")
		bind := func(source, to string) error {
			return w.shard.Queues.Bind(t.Context(), queue.DefaultVhost, routing.Binding{Source: source, Destination: to, Key: "#"})
		}
		if err := bind("amq.fanout", "q"); err != nil {
			t.Fatal(err)
		}
		expect("another exchange", false)
		if err := bind(exchange, "none"); err == nil {
			t.Fatal("bound to a queue that is not there")
		}
		expect("a binding that was refused", false)
		w.bind("q", "#")
		expect("a binding", true)
		w.put(sensors, 0, reading("sensors/a", "1"))
		w.expect("q", "1")
		w.bind("r", "#")
		w.unbind("q", "#")
		w.put(sensors, 0, reading("sensors/a", "2"))
		w.expect("q", "1")
		w.expect("r", "2")
		if _, err := w.shard.Queues.DeleteQueue(t.Context(), queue.DefaultVhost, "r", "", false, false); err != nil {
			t.Fatal(err)
		}
		expect("without a binding", false)
		w.put(sensors, 0, reading("sensors/a", "3"))
		w.bind("q", "#")
		w.put(sensors, 0, reading("sensors/a", "4"))
		w.expect("q", "1", "4")
	})
}

// TestBindingOnItsWay: a vhost follows the topics from the moment at which a binding is on
// its way, whatever else is declared then.
func TestBindingOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		w.put(sensors, 0, reading("sensors/a", "0"))
		synctest.Wait() // until the queues are served
		done, err := w.binding(t.Context(), queue.DefaultVhost, &routing.Binding{Source: exchange}, true)
		if err != nil {
			t.Fatal(err)
		}
		w.declare("other") // its reader looks at the bindings
		if all, follows := w.positions(); !follows || all[state.Partition{Topic: sensors.ID}] != 1 {
			t.Errorf("follows %v, %v", follows, all)
		}
		done()
		if all, follows := w.positions(); follows || len(all) > 0 {
			t.Errorf("without a binding: follows %v, %v", follows, all)
		}
	})
}

// TestBoundOnly: a binding by a client that may not read all topics does not make the vhost
// follow them, also after a takeover. The same one by another client does.
func TestBoundOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		w := started(t, bucket)
		sensors := w.topic("sensors")
		w.declare("q")
		if err := w.shard.Queues.BindOnly(t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: "q", Key: "#"}); err != nil {
			t.Fatal(err)
		}
		w.put(sensors, 0, reading("sensors/a", "0"))
		w.expect("q")
		w.end()
		w = started(t, bucket)
		w.put(sensors, 0, reading("sensors/a", "1"))
		w.expect("q")
		w.bind("q", "#")
		w.put(sensors, 0, reading("sensors/a", "2"))
		w.expect("q", "2")
	})
}

// TestOwnTopics: what Weir and Kafka keep in topics, and what was published in the vhost
// itself, is not brought to queues.
func TestOwnTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		w.bind("q", "#")
		for _, name := range []string{"weir.gaps", "__own"} {
			topic, err := w.shard.Log.CreateTopic(t.Context(), name, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.put(topic, 0, record.Record{Value: []byte("own")})
		}
		from := func(vhost string) record.Record {
			r := reading("sensors/a", "from "+vhost)
			r.Headers = append(r.Headers, record.Header{Key: "weir.amqp-vhost", Value: []byte(vhost)})
			return r
		}
		w.put(sensors, 0, from(queue.DefaultVhost), from("other"))
		w.expect("q", "from other")
	})
}

// TestTransactions: a queue gets the records of a transaction when it has committed, and
// never those of one that was aborted.
func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		put := func(id string) (end func(commit bool)) {
			txns, err := w.broker.Transactions(id)
			if err != nil {
				t.Fatal(err)
			}
			p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: id, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if err := txns.AddPartitions(t.Context(), id, p, []broker.Place{{Topic: sensors.ID}}); err != nil {
				t.Fatal(err)
			}
			b := record.NewBuilder(record.None)
			b.SetProducer(p.ID, p.Epoch, 0)
			r := reading("sensors/a", id)
			if err := b.Append(&r); err != nil {
				t.Fatal(err)
			}
			batch, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			batch = recordtest.InTransaction(batch)
			answer := make(chan error, 1)
			w.broker.AppendTransactional(t.Context(), broker.Append{Topic: sensors.ID, Batch: batch}, broker.Transaction{ID: id}, func(_ int64, err error) { answer <- err })
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
			return func(commit bool) {
				if _, err := txns.End(t.Context(), txn.EndRequest{ID: id, Producer: p, Commit: commit}); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := put("before")
		w.bind("q", "#")
		aborted, committed := put("aborted"), put("committed")
		w.put(sensors, 0, reading("sensors/a", "plain"))
		w.expect("q")
		before(true)
		committed(true)
		w.expect("q", "before")
		aborted(false)
		w.expect("q", "before", "committed", "plain")
	})
}

// TestRetention: where the next records were deleted, the vhost goes on with the first one
// that is there, and counts what is missing.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		w := started(t, bucket)
		sensors := w.topic("sensors")
		w.bind("q", "#")
		w.put(sensors, 0, reading("sensors/a", "0"))
		w.expect("q", "0")
		w.end()
		w = open(t, bucket)
		for i := range 4 {
			w.put(sensors, 0, reading("sensors/a", fmt.Sprint("later", i)))
		}
		if _, err := w.broker.DeleteRecords(t.Context(), sensors.ID, 0, 4); err != nil {
			t.Fatal(err)
		}
		w.Start()
		w.expect("q", "0", "later3")
		w.counted("weir_bridge_records_missed_total", 3)
	})
}

// TestDeletedTopic: the positions of a topic go with it, also if nobody reads at that time.
func TestDeletedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		w := started(t, bucket)
		a, b := w.topic("a"), w.topic("b")
		w.bind("q", "#")
		if err := w.broker.DeleteTopic(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if all, follows := w.positions(); len(all) != 2 || !follows {
			t.Errorf("positions after a topic was deleted: %v", all)
		}
		w.end()
		w = open(t, bucket)
		if err := w.broker.DeleteTopic(t.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
		w.put(w.topic("b"), 0, record.Record{Value: []byte("of the second b")})
		w.Start()
		w.expect("q", "of the second b")
		time.Sleep(time.Minute)
		all, _ := w.positions()
		for p := range all {
			if p.Topic != w.topic("b").ID {
				t.Errorf("a position of the former topic is left: %v", all)
			}
		}
	})
}

// TestForNobody: how far records were read that no queue wants is noted after a while, once.
func TestForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		w.bind("q", "nothing")
		w.put(sensors, 0, reading("sensors/a", "0"))
		at := state.Partition{Topic: sensors.ID}
		if all, _ := w.positions(); all[at] != 0 {
			t.Errorf("a slot for a record that nobody wants: %v", all)
		}
		time.Sleep(2 * unsaidTime)
		if all, _ := w.positions(); all[at] != 1 {
			t.Errorf("it is not noted that a record was read: %v", all)
		}
		before := w.shard.Log.Acked()
		time.Sleep(10 * unsaidTime)
		if now := w.shard.Log.Acked(); now != before {
			t.Errorf("slots without a record: %v, then %v", before, now)
		}
	})
}

// TestLargeBatch: a batch that inflates to more than a Work holds is published in several,
// each record once.
func TestLargeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		w.bind("q", "sensors.a")
		var all []record.Record
		want := numbered("", 30)
		for _, n := range want {
			all = append(all, reading("sensors/a", n+strings.Repeat(" ", 500_000)), reading("sensors/b", n))
		}
		answer := make(chan error, 1)
		w.broker.Append(broker.Append{Topic: sensors.ID, Batch: batchOf(t, record.Zstd, all...)}, func(_ int64, err error) { answer <- err })
		if err := <-answer; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, d := range w.deliveries("q") {
			if got := strings.TrimRight(string(d.Body), " "); i >= len(want) || got != want[i] {
				t.Fatalf("message %d is %s", i, got)
			}
			want[i] = ""
		}
		if strings.Join(want, "") != "" {
			t.Errorf("not there: %v", want)
		}
	})
}

// TestManyRecords: a Work is submitted in parts, each with the positions of its records. The
// node is killed between two parts: what the next owner does has each record once.
func TestManyRecords(t *testing.T) {
	const records = 3 * mostAtOnce
	synctest.Test(t, func(t *testing.T) {
		memory := mem.New()
		bucket := storagetest.NewFaults(memory, 1)
		w := started(t, bucket)
		sensors := w.topic("sensors")
		w.bind("q", "#")
		w.end()
		w = open(t, bucket, func(o *commitlog.Options) { o.SlotBytes = 400 << 10 }) // a part has a slot of its own
		for n := 0; n < records; n += mostAtOnce {
			var some []record.Record
			for i := range mostAtOnce {
				some = append(some, reading("sensors/a", fmt.Sprint(n+i, strings.Repeat(" ", 1000))))
			}
			w.put(sensors, 0, some...)
		}
		synctest.Wait() // until the node has written what a new owner writes
		second := w.shard.Log.Acked()
		second.Slot += 2
		bucket.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Create && c.Keys[0] == journal.SlotKey(0, second) {
				return storagetest.Outcome{Fate: storagetest.Late, Before: time.Hour}
			}
			return storagetest.Outcome{}
		})
		w.Start()
		time.Sleep(time.Second)
		if before := len(w.deliveries("q")); before == 0 || before == records {
			t.Errorf("%d records were published before the node was killed", before)
		}
		if err := bucket.Close(); err != nil {
			t.Fatal(err)
		}
		w.end()
		w = started(t, memory)
		synctest.Wait()
		got := w.deliveries("q")
		if len(got) != records {
			t.Fatalf("%d messages, want %d", len(got), records)
		}
		for i, d := range got {
			if body := strings.TrimRight(string(d.Body), " "); body != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, body)
			}
		}
	})
}

// TestCut: the parts of a Work have all of it, in order.
func TestCut(t *testing.T) {
	for _, n := range []int{0, 1, mostAtOnce, mostAtOnce + 1, 3*mostAtOnce + 5} {
		w := queue.Work{Publications: make([]queue.Publication, n), Positions: []queue.Position{position(broker.Place{}, 0, 0)}}
		for i := range n {
			w.Positions = append(w.Positions, position(broker.Place{}, int64(i+1), i+1))
		}
		w.Positions = append(w.Positions, position(broker.Place{}, int64(n+1), n))
		published, next := 0, int64(0)
		for len(w.Publications)+len(w.Positions) > 0 {
			var some queue.Work
			some, w = cut(w)
			for _, p := range some.Positions {
				if p.Offset != next || p.After > len(some.Publications) || p.Offset <= int64(n) && int64(published+p.After) != p.Offset {
					t.Fatalf("of %d: %+v after %d, want position %d", n, p, published, next)
				}
				next++
			}
			published += len(some.Publications)
		}
		if published != n || next != int64(n+2) {
			t.Errorf("of %d: %d publications, %d positions", n, published, next)
		}
	}
}

// TestRefused: what a queue rejects, and what is too large to be a message, is counted; the
// records after it come.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		w := open(t, mem.New())
		w.o.Log = slog.New(slog.NewTextHandler(&lines, nil))
		w.Start()
		sensors, err := w.broker.CreateTopic(t.Context(), "sensors", 1, map[string]string{"max.message.bytes": "12000000"})
		if err != nil {
			t.Fatal(err)
		}
		s := plain()
		s.MaxLength, s.Overflow = 1, state.RejectPublish
		if _, err := w.shard.Queues.DeclareQueue(t.Context(), queue.DefaultVhost, "short", s); err != nil {
			t.Fatal(err)
		}
		w.bind("short", "sensors.short")
		w.bind("q", "sensors.q")
		w.put(sensors, 0, reading("sensors/short", "0"), reading("sensors/short", "1"), reading("sensors/q", "2"))
		w.put(sensors, 0, reading("sensors/q", strings.Repeat("x", 5<<20)))
		w.put(sensors, 0, reading("sensors/q", "3"))
		w.expect("short", "0")
		w.expect("q", "2", "3")
		w.counted(`weir_bridge_records_refused_total{reason="full"}`, 1)
		w.counted(`weir_bridge_records_refused_total{reason="invalid"}`, 1)
		if got := lines.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "key=sensors.q ") {
			t.Errorf("the log says %q", got)
		}
	})
}

// TestDeletedVhost: a vhost that is deleted and created again begins anew.
func TestDeletedVhost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := started(t, mem.New())
		sensors := w.topic("sensors")
		for _, body := range []string{"0", "1"} {
			if err := w.shard.Queues.CreateVhost(t.Context(), "v"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.shard.Queues.DeclareQueue(t.Context(), "v", "q", plain()); err != nil {
				t.Fatal(err)
			}
			if err := w.shard.Queues.Bind(t.Context(), "v", routing.Binding{Source: exchange, Destination: "q", Key: "#"}); err != nil {
				t.Fatal(err)
			}
			w.put(sensors, 0, reading("sensors/a", body))
			synctest.Wait()
			got, err := w.shard.Queues.Peek(t.Context(), "v", "q", "", 0, 10)
			if err != nil || len(got) != 1 || string(got[0].Body) != body {
				t.Fatalf("%d messages, %v", len(got), err)
			}
			if err := w.shard.Queues.DeleteVhost(t.Context(), "v"); err != nil {
				t.Fatal(err)
			}
			w.put(sensors, 0, reading("sensors/a", "between"))
		}
	})
}

// TestSplit: a vhost goes on when a cluster of one shard gets another one, with what comes to
// partitions that move there.
func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		w := started(t, bucket)
		sensors := w.topic("sensors")
		w.bind("s", "#")
		w.put(sensors, 0, reading("sensors/a", "1"))
		w.expect("s", "1")
		quiet := slog.New(slog.DiscardHandler)
		second := shard.New(shard.Options{Log: quiet, Part: shard.Data, Topics: &machine.Topics{All: w.shard.Log.Topics, ByID: w.shard.Log.TopicByID},
			Queues: queue.Options{Here: func(string) bool { return false }}})
		if err := second.Open(t.Context(), commitlog.Options{Bucket: bucket, Shard: 1, Node: "a", Log: quiet}); err != nil {
			t.Fatal(err)
		}
		w.shards = append(w.shards, second)
		var moved weir.Map
		moved[weir.SliceOf(sensors.ID, 1)] = 1
		w.broker.Lead(second)
		w.broker.SetMap(moved, 2)
		w.put(sensors, 0, reading("sensors/a", "2"))
		w.put(sensors, 1, reading("sensors/b", "3"))
		w.put(sensors, 1, reading("sensors/b", "4"))
		synctest.Wait()
		got := make(map[string]int)
		for _, body := range w.bodies("s") {
			got[body]++
		}
		if len(got) != 4 || got["1"]+got["2"]+got["3"]+got["4"] != 4 {
			t.Errorf("the queue has %v", got)
		}
	})
}
