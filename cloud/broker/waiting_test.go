package broker

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// clock stands, but for what a test adds.
type clock struct {
	mu    sync.Mutex
	at    time.Time
	asked func() // not nil: called whenever somebody looks
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != nil {
		c.asked()
	}
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// hooked is a bucket that does something before each slot of the log.
type hooked struct {
	storage.Bucket
	mu     sync.Mutex
	before func()
}

func (h *hooked) Create(ctx context.Context, key string, body []byte) error {
	h.mu.Lock()
	before := h.before
	h.mu.Unlock()
	if before != nil && strings.Contains(key, "/log/") {
		before()
	}
	return h.Bucket.Create(ctx, key, body)
}

func (h *hooked) hook(before func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = before
}

// measured returns a context with a stopwatch that runs by the clock.
func measured(t *testing.T, c *clock) (context.Context, *stopwatch.Stopwatch) {
	t.Helper()
	q := quota.New(quota.Options{Now: c.now})
	q.Serve(machinetest.New(q))
	if err := q.Set(t.Context(), quota.Entity{User: "u"}, func(l *quota.Limits) { l.Request = 1 }, false); err != nil {
		t.Fatal(err)
	}
	s := q.Stopwatch()
	return stopwatch.With(t.Context(), s), s
}

// Waiting for the bucket is no work on a request.
func TestWaitingIsNoWork(t *testing.T) {
	now, bucket := &clock{at: time.Unix(1_700_000_000, 0)}, &hooked{Bucket: mem.New()}
	b := newBroker(Options{})
	lead(t, b, bucket)
	ctx, watch := measured(t, now)
	bucket.hook(func() { now.add(time.Minute) })
	txns, err := b.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.catalogue()
	if err != nil {
		t.Fatal(err)
	}
	credential, err := auth.NewCredential(auth.SCRAMSHA256, "pencil")
	if err != nil {
		t.Fatal(err)
	}
	var topic Topic
	var p txn.Producer
	end := func(commit bool) error {
		next, err := txns.End(ctx, txn.EndRequest{ID: "tx", Producer: p, Commit: commit, Bump: true})
		p = next
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"create", func() (err error) { topic, err = b.CreateTopic(ctx, "a", 1, nil); return err }},
		{"grow", func() error { return b.GrowTopic(ctx, topic.ID, 2) }},
		{"alter", func() error {
			return b.AlterTopic(ctx, topic.ID, func(to map[string]string) error { to["retention.ms"] = "5"; return nil })
		}},
		{"append", func() error { _, err := appendTo(b, Append{Topic: topic.ID, Batch: batch(t, 10)}); return err }},
		{"delete records", func() error { _, err := b.DeleteRecords(ctx, topic.ID, 0, -1); return err }},
		{"producer", func() (err error) {
			p, err = txns.InitProducerID(ctx, txn.InitRequest{ID: "tx", Timeout: time.Minute})
			return err
		}},
		{"partitions", func() error { return txns.AddPartitions(ctx, "tx", p, []Place{{Topic: topic.ID}}) }},
		{"group", func() error { return txns.AddOffsets(ctx, "tx", p, "g") }},
		{"offsets", func() error {
			_, err := txns.CommitOffsets(ctx, txn.OffsetsRequest{ID: "tx", Producer: p, Commit: group.CommitRequest{Group: "g", Generation: -1,
				Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID}}}}})
			return err
		}},
		{"end", func() error { return end(true) }},
		{"commit", func() error {
			_, err := c.Groups.Commit(ctx, group.CommitRequest{Group: "h", Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID}}, {Partition: group.Partition{Topic: topic.ID, Index: 1}}}})
			return err
		}},
		{"delete offsets", func() error {
			return c.Groups.DeleteOffsets(ctx, "h", []group.Partition{{Topic: topic.ID}})
		}},
		{"delete group", func() error { return c.Groups.Delete(ctx, "h") }},
		{"ACL", func() error {
			return c.Users.AddACLs(ctx, auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: "a"},
				Rule: auth.Rule{Principal: "User:u", Host: auth.Any, Operation: auth.Read, Permission: auth.Allow}})
		}},
		{"no ACL", func() error { _, err := c.Users.RemoveACLs(ctx, auth.Filter{}); return err }},
		{"user", func() error { return c.Users.SetCredentials(ctx, "u", credential) }},
		{"no user", func() error { return c.Users.RemoveUser(ctx, "u") }},
		{"quota", func() error {
			return c.Quotas.Set(ctx, quota.Entity{User: "v"}, func(l *quota.Limits) { l.Produce = 1 }, false)
		}},
		{"setting", func() error {
			return b.AlterGroup(ctx, "g", func(to map[string]string) error { to[consumerSession] = "30000"; return nil })
		}},
		{"delete", func() error { return b.DeleteTopic(ctx, topic.ID) }},
	} {
		began := now.now()
		watch.Lap()
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if step.what == "append" { // which has no request: it is there for the next step
			continue
		}
		if worked := watch.Lap(); worked != 0 || now.now().Equal(began) {
			t.Errorf("%s: of %v, %v are work", step.what, now.now().Sub(began), worked)
		}
	}
}

// A producer id waits for the bucket too, if it is the first of a range.
func TestProducerIDWaits(t *testing.T) {
	c, bucket := &clock{at: time.Unix(1_700_000_000, 0)}, &hooked{Bucket: mem.New()}
	b := newBroker(Options{})
	lead(t, b, bucket)
	ctx, watch := measured(t, c)
	bucket.hook(func() { c.add(time.Minute) })
	began := c.now()
	if _, err := b.NewProducerID(ctx); err != nil {
		t.Fatal(err)
	}
	if worked := watch.Lap(); worked != 0 || c.now().Equal(began) {
		t.Errorf("of %v, %v are work", c.now().Sub(began), worked)
	}
}

// What a Produce does before the log has it is work; that the log has no room is not.
// The log refuses this batch at once, and takes its time for that.
func TestProduceWaits(t *testing.T) {
	c := &clock{at: time.Unix(1_700_000_000, 0)}
	b := newBroker(Options{})
	lead(t, b, mem.New())
	topic, err := b.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, watch := measured(t, c)
	bad := batch(t, 10)
	bad[len(bad)-1]++
	b.Produce(ctx, Append{Topic: topic.ID, Batch: bad}, func(int64, error) { c.add(time.Minute) })
	if worked := watch.Lap(); worked != 0 || c.now().Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("%v are work", worked)
	}
}

// The end of a transaction waits for what flies: that is no work either.
func TestQuietWaits(t *testing.T) {
	c, bucket := &clock{at: time.Unix(1_700_000_000, 0)}, &hooked{Bucket: mem.New()}
	b := newBroker(Options{})
	lead(t, b, bucket)
	topic, err := b.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	txns, err := b.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "tx", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, watch := measured(t, c)
	stands := make(chan struct{})
	c.mu.Lock()
	c.asked = sync.OnceFunc(func() { close(stands) })
	c.mu.Unlock()
	bucket.hook(func() { // the batch lands when the end waits for it
		select {
		case <-stands:
		case <-time.After(10 * time.Second):
		}
		c.add(time.Minute)
	})
	builder := record.NewBuilder(record.None)
	builder.SetProducer(p.ID, p.Epoch, 0)
	if err := builder.Append(&record.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	flying, err := builder.Build()
	if err != nil {
		t.Fatal(err)
	}
	flying[22] |= 0x10 // an attribute that only clients set
	binary.BigEndian.PutUint32(flying[17:], crc.Sum(flying[21:]))
	b.AppendTransactional(t.Context(), Append{Topic: topic.ID, Batch: flying}, Transaction{ID: "tx", Implicit: true}, func(_ int64, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if _, err := txns.End(ctx, txn.EndRequest{ID: "tx", Producer: p, Commit: true}); err != nil {
		t.Fatal(err)
	}
	if worked := watch.Lap(); worked != 0 {
		t.Errorf("%v are work", worked)
	}
}
