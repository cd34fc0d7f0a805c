package streamqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// publish submits publications and returns their outcomes.
func (n *node) publish(all ...queue.Publication) []error {
	n.t.Helper()
	type answer struct {
		outcomes []error
		err      error
	}
	done := make(chan answer, 1)
	n.Submit(queue.DefaultVhost, queue.Work{Publications: all}, func(outcomes []error, err error) { done <- answer{outcomes, err} })
	a := <-done
	if a.err != nil {
		n.t.Fatal(a.err)
	}
	return a.outcomes
}

// records returns all records of a partition.
func (n *node) records(topic broker.Topic, partition int32) (all []record.Record) {
	n.t.Helper()
	f, err := n.broker.Fetch(n.t.Context(), topic.ID, partition, 0, 64<<20)
	if err != nil {
		n.t.Fatal(err)
	}
	if len(f.Batches) == 0 {
		return nil
	}
	defer f.Lease.Release()
	for _, b := range f.Batches {
		if err := record.Batch(b).Each(64<<20, func(r *record.Record) error {
			all = append(all, record.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)})
			return nil
		}); err != nil {
			n.t.Fatal(err)
		}
	}
	return all
}

// TestPublish: what is published to a stream queue is appended to its topic, by key where
// Kafka's producers put it, and comes back to its consumers with its properties.
func TestPublish(t *testing.T) {
	n := newNode(t)
	topic := n.create("orders", 8)
	n.declare("orders")
	k := n.consume("orders", 0, queue.Offset{})
	var all []queue.Publication
	for i := range 40 {
		var headers wire.Builder
		headers.Add("x-key", wire.Text(fmt.Sprint("customer ", i%5)))
		headers.Add("n", wire.Int32(int32(i)))
		table, err := headers.Table()
		if err != nil {
			t.Fatal(err)
		}
		p := wire.Properties{Flags: wire.HasHeaders | wire.HasMessageID, MessageID: fmt.Sprint("m", i), Headers: table}
		raw, err := p.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, queue.Publication{Key: "orders", Properties: raw, Body: fmt.Append(nil, i)})
	}
	began := time.Now().UnixMilli()
	for i, err := range n.publish(all...) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	seen := 0
	for p := range topic.Partitions {
		last := make(map[string]int)
		for _, r := range n.records(topic, p) {
			key := string(r.Key)
			if record.Partition(r.Key, topic.Partitions) != p {
				t.Errorf("key %q is in partition %d", key, p)
			}
			i := 0
			fmt.Sscan(string(r.Value), &i)
			if before, ok := last[key]; ok && i <= before || r.Timestamp < began {
				t.Errorf("%d follows %d of the same key", i, before)
			}
			last[key] = i
			seen++
		}
	}
	if seen != len(all) {
		t.Errorf("%d of %d messages are in the topic", seen, len(all))
	}
	got := k.take(len(all))
	numbers := make(map[int64]bool)
	for i := range got {
		var p wire.Properties
		if err := p.Decode(got[i].Properties); err != nil {
			t.Fatal(err)
		}
		number, _ := p.Headers.Lookup("n").Int()
		if p.MessageID != "m"+string(got[i].Body) || fmt.Sprint(number) != string(got[i].Body) || got[i].Key != "orders" || got[i].Exchange != "" {
			t.Errorf("message %s came with %+v and routing key %q", got[i].Body, p, got[i].Key)
		}
		numbers[number] = true
	}
	if len(numbers) != len(all) {
		t.Errorf("%d different messages came", len(numbers))
	}
}

// TestPublishLarge: messages that are larger than a batch together are in several; one that is
// larger than its topic allows is refused, and the others are not.
func TestPublishLarge(t *testing.T) {
	n := newNode(t)
	topic := n.create("orders", 1)
	n.declare("orders")
	var all []queue.Publication
	for i := range 6 {
		all = append(all, queue.Publication{Key: "orders", Body: []byte(strings.Repeat(fmt.Sprint(i), 400_000))})
	}
	all[3].Body = make([]byte, 2<<20)
	for i, err := range n.publish(all...) {
		if i == 3 != errors.Is(err, queue.ErrTooLarge) || i != 3 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	var got []string
	for _, r := range n.records(topic, 0) {
		got = append(got, string(r.Value[:1]))
	}
	if want := []string{"0", "1", "2", "4", "5"}; !slices.Equal(got, want) {
		t.Errorf("the topic has %q, want %q", got, want)
	}
}

// TestPublishWithoutTopic: a message for a topic that was deleted is refused.
func TestPublishWithoutTopic(t *testing.T) {
	n := newNode(t)
	topic := n.create("orders", 1)
	n.declare("orders")
	if err := n.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	if outcomes := n.publish(queue.Publication{Key: "orders"}); !errors.Is(outcomes[0], queue.ErrRefused) || !errors.Is(outcomes[0], queue.ErrNoTopic) {
		t.Errorf("outcome %v", outcomes)
	}
}

// anything allows a publisher everything.
func anything(auth.Operation, string) bool { return true }

// TestRouteRights: a message for amq.topic goes to a topic only if its publisher may write to
// it, and no topic is made by one who may not make it and write to it.
func TestRouteRights(t *testing.T) {
	n := newNode(t, func(o *broker.Options) { o.AutoCreate = true })
	n.create("sensors", 1)
	n.topics.o.MaxTopics = 2
	for _, c := range []struct {
		may             []auth.Operation
		existing, other string
	}{
		{nil, "", ""},
		{[]auth.Operation{auth.Create}, "", ""},
		{[]auth.Operation{auth.Write}, "sensors", ""},
		{[]auth.Operation{auth.Write, auth.Create}, "sensors", "other"},
	} {
		may := func(op auth.Operation, _ string) bool { return slices.Contains(c.may, op) }
		if got, err := n.topics.Existing(t.Context(), "sensors.x", may); got != c.existing || err != nil {
			t.Errorf("with %v: topic %q, %v", c.may, got, err)
		}
		if got, err := n.topics.Ensured(t.Context(), "other.x", may); got != c.other || err != nil {
			t.Errorf("with %v: new topic %q, %v", c.may, got, err)
		}
		if _, err := n.broker.Topic("other"); (err == nil) != (c.other != "") {
			t.Errorf("with %v: the topic: %v", c.may, err)
		}
	}
}

// TestRoute: a message for amq.topic goes to the topic of its first word if there is one,
// or if it may be made.
func TestRoute(t *testing.T) {
	for _, auto := range []bool{false, true} {
		n := newNode(t, func(o *broker.Options) { o.AutoCreate = auto })
		n.create("sensors", 1)
		n.topics.o.MaxTopics = 2
		for key, want := range map[string]string{"sensors.pump.7": "sensors", "sensors": "sensors", "other.x": "", "": "", ".sensors": "", "__consumer_offsets.x": "", "$SYS.x": ""} {
			if got, err := n.topics.Existing(t.Context(), key, anything); got != want || err != nil {
				t.Errorf("key %q: topic %q, %v, want %q", key, got, err, want)
			}
		}
		made := map[bool]string{true: "other"}[auto]
		for _, c := range [][2]string{{"sensors.pump.7", "sensors"}, {"__x.y", ""}, {"weir/x", ""}, {"other.x", made}, {"third.x", ""}, {"other.y", made}} {
			if got, err := n.topics.Ensured(t.Context(), c[0], anything); got != c[1] || err != nil {
				t.Errorf("key %q, if topics are made %v: topic %q, %v, want %q", c[0], auto, got, err, c[1])
			}
		}
	}
}

// TestCommitted: a consumer gets the records of a transaction when that has committed, and
// never those of one that was aborted.
func TestCommitted(t *testing.T) {
	n := newNode(t)
	topic := n.create("orders", 1)
	n.declare("orders")
	k := n.consume("orders", 0, queue.Offset{From: queue.FromFirst})
	txns, err := n.broker.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	for i, commit := range []bool{false, true} {
		p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "tx", Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		n.broker.AppendTransactional(context.Background(), broker.Append{Topic: topic.ID, Batch: recordtest.Transactional(p.ID, p.Epoch, 0, fmt.Sprint("in ", i))},
			broker.Transaction{ID: "tx", Implicit: true}, func(_ int64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		n.append(topic, 0, 0, fmt.Sprint("after ", i))
		if got := k.Take(nil, 10); len(got) > 0 {
			t.Fatalf("%q came before the end of the transaction", bodies(got))
		}
		next := n.consume("orders", 0, queue.Offset{From: queue.FromNext})
		if _, err := txns.End(t.Context(), txn.EndRequest{ID: "tx", Producer: p, Commit: commit}); err != nil {
			t.Fatal(err)
		}
		want := []string{"after 0"}
		if commit {
			want = []string{"in 1", "after 1"}
		}
		k.expect(want...)
		next.expect(want...)
		n.consume("orders", 0, queue.Offset{From: queue.FromLast}).expect(want[len(want)-1])
	}
}

// TestLastIsNoMarker: the last record is one that is delivered, though markers and an aborted
// transaction follow it; without one a consumer gets what follows.
func TestLastIsNoMarker(t *testing.T) {
	n := newNode(t)
	n.declare("orders")
	topic, err := n.broker.Topic("orders")
	if err != nil {
		t.Fatal(err)
	}
	txns, err := n.broker.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	transact := func(commit bool, values ...string) {
		t.Helper()
		p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "tx", Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		n.broker.AppendTransactional(context.Background(), broker.Append{Topic: topic.ID, Batch: recordtest.Transactional(p.ID, p.Epoch, 0, values...)},
			broker.Transaction{ID: "tx", Implicit: true}, func(_ int64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := txns.End(t.Context(), txn.EndRequest{ID: "tx", Producer: p, Commit: commit}); err != nil {
			t.Fatal(err)
		}
	}
	last := func() *client { return n.consume("orders", 0, queue.Offset{From: queue.FromLast}) }
	transact(false, "a", "b", "c")
	none := last()
	transact(true, "0", "1")
	none.expect("0", "1")
	last().expect("1")
	for range 3 {
		transact(false, "a", "b", "c")
	}
	k := last()
	k.expect("1")
	n.append(topic, 0, 0, "2")
	k.expect("2")
}
