package broker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

// lagging checks the lags of a broker, each as group, topic, records.
func lagging(t *testing.T, b *Broker, when string, want ...string) {
	t.Helper()
	c, err := b.Coordination()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, l := range c.Lags {
		got = append(got, fmt.Sprint(l.Group, " ", l.Topic, " ", l.Records))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// commit stores the offsets of partitions 0, 1, …
func commit(t testing.TB, b *Broker, name string, topic Topic, offsets ...int64) {
	t.Helper()
	groups, err := b.Groups("g")
	if err != nil {
		t.Fatal(err)
	}
	r := group.CommitRequest{Group: name, Generation: -1}
	for i, o := range offsets {
		r.Offsets = append(r.Offsets, group.Offset{Partition: group.Partition{Topic: topic.ID, Index: int32(i)}, Offset: o})
	}
	if _, err := groups.Commit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, b *Broker, name string, partitions int32) Topic {
	t.Helper()
	topic, err := b.CreateTopic(t.Context(), name, partitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// write appends records of one batch each.
func write(t *testing.T, b *Broker, topic Topic, partition int32, n int) {
	t.Helper()
	for range n {
		if _, err := appendTo(b, Append{Topic: topic.ID, Partition: partition, Batch: batch(t, 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLag(t *testing.T) {
	bucket := mem.New()
	b := newBroker(Options{})
	lead(t, b, bucket)
	lagging(t, b, "without groups")
	x, y := create(t, b, "x", 3), create(t, b, "y", 1)
	commit(t, b, "one", x, 0, 0)
	lagging(t, b, "without records", "one x 0")
	write(t, b, x, 0, 5)
	write(t, b, x, 1, 2)
	write(t, b, x, 2, 1) // a topic in which no group has committed
	write(t, b, y, 0, 3)
	commit(t, b, "two", x, 5)
	commit(t, b, "two", y, 1)
	lagging(t, b, "records", "one x 7", "two x 0", "two y 2")
	commit(t, b, "one", x, 4)
	commit(t, b, "two", y, 99) // beyond the end
	lagging(t, b, "commits", "one x 3", "two x 0", "two y 0")
	write(t, b, x, 0, 1)
	lagging(t, b, "a record", "one x 4", "two x 1", "two y 0")

	if err := b.DeleteTopic(t.Context(), x.ID); err != nil {
		t.Fatal(err)
	}
	lagging(t, b, "a topic is gone", "two y 0")
	commit(t, b, "one", x, 1) // the client does not know that the topic was deleted
	lagging(t, b, "an offset of a topic that is gone", "two y 0")
	again := create(t, b, "x", 3)
	lagging(t, b, "the topic is back", "two y 0")
	write(t, b, again, 0, 2)
	commit(t, b, "one", again, 0)
	lagging(t, b, "and read", "one x 2", "two y 0")

	groups, _ := b.Groups("g")
	if err := groups.Delete(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	lagging(t, b, "a group is gone", "one x 2")
}

// TestSharing: what share groups do with each topic, however many partitions it has.
func TestSharing(t *testing.T) {
	bucket := mem.New()
	b := newBroker(Options{})
	lead(t, b, bucket)
	x := create(t, b, "x", 2)
	write(t, b, x, 0, 3)
	write(t, b, x, 1, 2)
	for p := range int32(2) {
		at := share.Place{Group: "s", Topic: x.ID, Partition: p}
		if err := b.BeginShare(t.Context(), at, 0); err != nil {
			t.Fatal(err)
		}
		got, err := b.Acquire(t.Context(), share.Request{Place: at, Member: "m", Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		got.Lease.Release()
		done := make(chan error, 1)
		b.Acknowledge(at, "m", []share.Acknowledgement{{First: 0, Last: 0, Verdicts: []share.Verdict{share.Accept}}}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	c, err := b.Coordination()
	if want := (Sharing{Lag: Lag{Group: "s", Topic: "x", Records: 3}, Acquired: 3, Accepted: 2}); err != nil || !slices.Equal(c.Sharing, []Sharing{want}) {
		t.Errorf("%+v, %v; want %+v", c.Sharing, err, want)
	}
	if err := b.DeleteTopic(t.Context(), x.ID); err != nil {
		t.Fatal(err)
	}
	if c, err := b.Coordination(); err != nil || len(c.Sharing) != 0 {
		t.Errorf("of a deleted topic: %+v, %v", c.Sharing, err)
	}
}

// TestCoordinationOfTheOwner: what an owner knows is gone with the shard; the next one
// goes on with it.
func TestCoordinationOfTheOwner(t *testing.T) {
	bucket := mem.New()
	first, second := newBroker(Options{}), newBroker(Options{})
	standsBy := func(b *Broker, when string, want error) {
		t.Helper()
		if got, err := b.Coordination(); !errors.Is(err, want) || got.Groups != nil || got.Lags != nil || got.Transactions != 0 {
			t.Errorf("%s: %+v, %v, want %v", when, got, err, want)
		}
	}
	owns := func(b *Broker, when string, lag uint64, open int) {
		t.Helper()
		got, err := b.Coordination()
		if err != nil || len(got.Groups) != 1 || got.Groups[0].Group != "g" || got.Groups[0].State != group.Empty || got.Groups[0].Members != 0 ||
			!slices.Equal(got.Lags, []Lag{{Group: "g", Topic: "x", Records: lag}}) || got.Transactions != open {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
	}
	standsBy(first, "before it leads", ErrNotOwner)
	log := lead(t, first, bucket)
	x := create(t, first, "x", 1)
	write(t, first, x, 0, 3)
	commit(t, first, "g", x, 1)
	txns, _ := first.Transactions("tx")
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "open", Timeout: 10 * time.Minute})
	if err == nil {
		err = txns.AddPartitions(t.Context(), "open", p, []Place{{Topic: x.ID}})
	}
	if err != nil {
		t.Fatal(err)
	}
	owns(first, "leading", 2, 1)
	first.Doubt(0, true)
	standsBy(first, "in doubt", ErrUnavailable)
	first.Doubt(0, false)
	owns(first, "sure again", 2, 1)

	lead(t, second, bucket) // which fences the first, that may not know yet
	write(t, second, x, 0, 1)
	if err := log.Confirm(t.Context()); !errors.Is(err, commitlog.ErrFenced) {
		t.Errorf("confirm: %v", err)
	}
	standsBy(first, "fenced", ErrNotOwner)
	first.Follow(0, second.Self(), "c")
	standsBy(first, "following", ErrNotOwner)
	owns(second, "after the takeover", 3, 1)
	commit(t, second, "g", x, 4)
	owns(second, "and a commit", 0, 1)
}

// The cost of looking at 500 groups that have committed offsets in a tenth each of
// 5,000 partitions of 50 topics.
func BenchmarkCoordination(b *testing.B) {
	o := newBroker(Options{})
	lead(b, o, mem.New())
	topics := make([]Topic, 50)
	for i := range topics {
		topics[i] = create(b, o, fmt.Sprint("t", i), 100)
	}
	for i := range 500 {
		for j := range 5 {
			commit(b, o, fmt.Sprint("g", i), topics[(i+j)%len(topics)], make([]int64, 100)...)
		}
	}
	for b.Loop() {
		if c, err := o.Coordination(); err != nil || len(c.Lags) != 2_500 {
			b.Fatalf("%d lags, %v", len(c.Lags), err)
		}
	}
}
