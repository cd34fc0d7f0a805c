package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// newTestIngest is the way to a broker that owns an empty log.
func newTestIngest(t *testing.T, autoCreate bool) *ingest {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Options{Self: broker.Node{Name: "a", Addresses: cluster.Addresses{cluster.Sync: {"": "a:7400"}}}, Partitions: 2, AutoCreate: autoCreate})
	b.Lead(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return newIngest(b, nil, func(_, topic string) error {
		if topic == "forbidden" {
			return uplink.ErrNotAllowed
		}
		return nil
	}, DefaultLimits(), quiet)
}

func batchOf(t *testing.T, count int) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	for i := range count {
		if err := b.Append(&record.Record{Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func appendTo(u *ingest, a uplink.Append) error {
	done := make(chan error, 1)
	u.Append(a, func(err error) { done <- err })
	return <-done
}

// is reports whether err is want, and nothing when nothing is wanted.
func is(err, want error) bool { return errors.Is(err, want) && (err == nil) == (want == nil) }

// TestResolve: which topics a gateway gets.
func TestResolve(t *testing.T) {
	for _, c := range []struct {
		topic      string
		autoCreate bool
		want       error
	}{
		{"sensors", true, nil},
		{"sensors", false, uplink.ErrNotAllowed},
		{"weir.gaps", true, nil},
		{"weir.gaps", false, nil}, // a loss is reported whatever is set
		{"weir.routes", true, uplink.ErrNotAllowed},
		{"weir.vhost.x", true, uplink.ErrNotAllowed},
		{"__consumer_offsets", true, uplink.ErrNotAllowed},
		{"no such/name", true, uplink.ErrNotAllowed},
		{"forbidden", true, uplink.ErrNotAllowed},
	} {
		u := newTestIngest(t, c.autoCreate)
		id, n, err := u.Resolve(t.Context(), "gw", c.topic)
		if !is(err, c.want) || (err == nil) != (n == 2) {
			t.Errorf("%+v: %d partitions, %v", c, n, err)
		}
		if again, _, err2 := u.Resolve(t.Context(), "other", c.topic); !is(err2, c.want) || again != id {
			t.Errorf("%+v, again: %v, was %v: %v", c, again, id, err2)
		}
	}
}

// TestResolveCollision: a topic that differs from another one in dots and underscores
// only is refused with a reason that a dead letter can bear.
func TestResolveCollision(t *testing.T) {
	u := newTestIngest(t, true)
	if _, _, err := u.Resolve(t.Context(), "gw", "site.a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Resolve(t.Context(), "gw", "site_a"); !errors.Is(err, uplink.ErrNotAllowed) || !strings.Contains(err.Error(), `"site_a" collides with topic "site.a"`) {
		t.Error(err)
	}
	if _, _, err := u.Resolve(t.Context(), "gw", "site.a"); err != nil {
		t.Error(err)
	}
}

// TestBoundGateway: each batch is judged, not only the first question for its topic,
// and the node's log says so once per gateway and topic.
func TestBoundGateway(t *testing.T) {
	u := newTestIngest(t, true)
	var lines bytes.Buffer
	u.log = slog.New(slog.NewTextHandler(&lines, nil))
	id, _, err := u.Resolve(t.Context(), "gw", "sensors")
	if err != nil {
		t.Fatal(err)
	}
	a := uplink.Append{Stream: weir.Stream{Gateway: "gw", Buffer: weir.BufferID{1}}, Topic: id, First: 1, Last: 1, Batch: batchOf(t, 1)}
	if err := appendTo(u, a); err != nil {
		t.Fatal(err)
	}
	u.mayWrite = func(gateway, topic string) error {
		if gateway == "gw" && topic == "sensors" {
			return uplink.ErrNotAllowed
		}
		return nil
	}
	a.Prev, a.First, a.Last, a.Batch = 1, 2, 2, batchOf(t, 1)
	for range 3 {
		if err := appendTo(u, a); !is(err, uplink.ErrNotAllowed) {
			t.Errorf("a batch after the grant is gone: %v", err)
		}
		if _, _, err := u.Resolve(t.Context(), "gw", "sensors"); !is(err, uplink.ErrNotAllowed) {
			t.Errorf("a question for the topic: %v", err)
		}
	}
	if mark, err := u.Mark(t.Context(), a.Stream, id, 0); err != nil || mark != 1 {
		t.Errorf("mark %d, %v: a refused batch is in the log", mark, err)
	}
	if strings.Count(lines.String(), "\n") != 1 || !strings.Contains(lines.String(), "gateway=gw topic=sensors") {
		t.Errorf("said\n%s", &lines)
	}
	if _, _, err := u.Resolve(t.Context(), "other", "sensors"); err != nil {
		t.Errorf("another gateway: %v", err)
	}
	gaps, _, err := u.Resolve(t.Context(), "gw", weir.GapTopic)
	if err != nil {
		t.Fatal(err)
	}
	a = uplink.Append{Stream: a.Stream, Topic: gaps, Prev: 0, First: 2, Last: 2, Batch: batchOf(t, 1), Gap: true}
	if err := appendTo(u, a); err != nil {
		t.Errorf("a loss cannot be reported: %v", err)
	}
}

// TestTooManyTopics: neither one gateway nor all of them can fill the catalogue; the
// reason names the limit, and unrouted can be had in any case.
func TestTooManyTopics(t *testing.T) {
	u := newTestIngest(t, true)
	var lines bytes.Buffer
	u.log = slog.New(slog.NewTextHandler(&lines, nil))
	u.limits = Limits{Topics: 4, GatewayTopics: 2}
	resolve := func(gateway, topic, want string) {
		t.Helper()
		_, _, err := u.Resolve(t.Context(), gateway, topic)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s of %s: %v", topic, gateway, err)
		case want != "" && (!is(err, uplink.ErrNotAllowed) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), wire.TooManyTopics)):
			t.Errorf("%s of %s: %v, want %s", topic, gateway, err, want)
		}
	}
	resolve("a", "1", "")
	resolve("a", "2", "")
	resolve("a", "3", "--gateway-topics 2")
	resolve("a", "unrouted", "")
	resolve("b", "3", "")
	resolve("a", "3", "") // it is there
	resolve("b", "4", "--max-topics 4")
	resolve("c", "5", "--max-topics 4")
	resolve("a", "6", "--max-topics 4")
	if n := strings.Count(lines.String(), "more topics than may be created"); n != 3 {
		t.Errorf("%d lines for three gateways:\n%s", n, &lines)
	}
	u.limits.Topics = 9
	u.lead(catalogueShard, 2)
	resolve("a", "6", "") // it counts from the beginning of an ownership
	other := newTestIngest(t, true)
	other.limits = Limits{Topics: 1, GatewayTopics: 1}
	for _, topic := range []string{"only", "unrouted", weir.GapTopic} {
		if _, _, err := other.Resolve(t.Context(), "a", topic); err != nil {
			t.Errorf("%s: %v", topic, err)
		}
	}
}

// TestIngest: the marks' rules arrive at the receiver in its own words.
func TestIngest(t *testing.T) {
	u := newTestIngest(t, true)
	ctx := t.Context()
	id, _, err := u.Resolve(ctx, "gw", "sensors")
	if err != nil {
		t.Fatal(err)
	}
	gaps, _, err := u.Resolve(ctx, "gw", weir.GapTopic)
	if err != nil {
		t.Fatal(err)
	}
	buffer := weir.BufferID{3: 1}
	s := weir.Stream{Gateway: "gw", Buffer: buffer, Lane: 1}
	damaged := batchOf(t, 1)
	damaged[len(damaged)-1] ^= 1
	for _, step := range []struct {
		name string
		a    uplink.Append
		want error
		mark uint64
	}{
		{"the first", uplink.Append{Topic: id, First: 1, Last: 2, Batch: batchOf(t, 2)}, nil, 2},
		{"again", uplink.Append{Topic: id, First: 1, Last: 2, Batch: batchOf(t, 2)}, nil, 2},
		{"a hole", uplink.Append{Topic: id, Prev: 4, First: 5, Last: 5, Batch: batchOf(t, 1)}, uplink.ErrHole, 2},
		{"corrupt", uplink.Append{Topic: id, Prev: 2, First: 3, Last: 3, Batch: damaged}, uplink.ErrCorrupt, 2},
		{"too large", uplink.Append{Topic: id, Prev: 2, First: 3, Last: 3, Batch: make([]byte, broker.DefaultMaxMessageBytes+1)}, uplink.ErrTooLarge, 2},
		{"gone", uplink.Append{Topic: weir.TopicID{1}, Prev: 2, First: 3, Last: 3, Batch: batchOf(t, 1)}, uplink.ErrGone, 2},
		{"no such partition", uplink.Append{Topic: id, Partition: 2, Prev: 2, First: 3, Last: 3, Batch: batchOf(t, 1)}, uplink.ErrGone, 2},
		{"the cloud's own topic", uplink.Append{Topic: gaps, First: 3, Last: 3, Batch: batchOf(t, 1)}, uplink.ErrNotAllowed, 2},
		{"a gap", uplink.Append{Topic: gaps, First: 3, Last: 3, Batch: batchOf(t, 1), Gap: true}, nil, 2},
		{"the next", uplink.Append{Topic: id, Row: weir.Row{Partitions: 2, From: 4}, Prev: 2, First: 4, Last: 4, Batch: batchOf(t, 1)}, nil, 4},
	} {
		step.a.Stream = s
		if err := appendTo(u, step.a); !is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
		if mark, err := u.Mark(ctx, s, id, 0); err != nil || mark != step.mark {
			t.Errorf("%s: mark %d %v, want %d", step.name, mark, err, step.mark)
		}
	}
	if mark, err := u.Mark(ctx, s, weir.TopicID{1}, 0); err != nil || mark != 0 {
		t.Errorf("mark in a topic that is gone: %d %v", mark, err)
	}

	offer := func(want weir.BufferState, marks int) {
		t.Helper()
		got, err := (shardLog{u, 0}).Offer(ctx, "gw", []weir.Buffer{{ID: buffer}})
		if err != nil || len(got.Buffers) != 1 || got.Buffers[0].ID != buffer || got.Buffers[0].State != want || (got.Buffers[0].Reached[1] == 4) != (marks > 0) || len(got.Marks) != marks {
			t.Errorf("offered: %+v, %v; want state %v and %d marks", got, err, want, marks)
		}
		row := weir.MapRow{Buffer: buffer, Lane: s.Lane, Topic: id, Name: "sensors", Row: weir.Row{Partitions: 2, From: 4}}
		if marks > 0 && !slices.Equal(got.Rows, []weir.MapRow{row}) {
			t.Errorf("rows %+v, want %+v", got.Rows, row)
		}
	}
	offer(weir.BufferKnown, 2)
	if got, err := (shardLog{u, 0}).Offer(ctx, "stranger", []weir.Buffer{{ID: buffer}}); err != nil || got.Buffers[0].State != weir.BufferNew || len(got.Marks)+len(got.Rows) != 0 {
		t.Errorf("another gateway's buffer of that id: %+v %v", got, err)
	}
	for range 2 {
		if err := (shardLog{u, 0}).Retire(ctx, "gw", buffer); err != nil {
			t.Fatal(err)
		}
	}
	offer(weir.BufferRetired, 0)
	if err := appendTo(u, uplink.Append{Stream: s, Topic: id, Prev: 4, First: 5, Last: 5, Batch: batchOf(t, 1)}); !is(err, uplink.ErrRetired) {
		t.Errorf("append to a retired buffer: %v", err)
	}
}

// TestNotOwner: every call sends the gateway to the owner, or tells it that
// there is none to be sent to; doubt only makes it wait.
func TestNotOwner(t *testing.T) {
	u := newTestIngest(t, true)
	calls := map[string]func() error{
		"Offer": func() error {
			_, err := (shardLog{u, 0}).Offer(t.Context(), "gw", []weir.Buffer{{}})
			return err
		},
		"Offer of nothing": func() error { _, err := (shardLog{u, 0}).Offer(t.Context(), "gw", nil); return err },
		"Resolve":          func() error { _, _, err := u.Resolve(t.Context(), "gw", "t"); return err },
		"Append":           func() error { return appendTo(u, uplink.Append{}) },
		"Mark":             func() error { _, err := u.Mark(t.Context(), weir.Stream{}, weir.TopicID{}, 0); return err },
		"Retire":           func() error { return (shardLog{u, 0}).Retire(t.Context(), "gw", weir.BufferID{}) },
	}
	u.broker.Doubt(0, true)
	for name, call := range calls {
		if err := call(); !errors.Is(err, uplink.ErrBusy) {
			t.Errorf("%s in doubt: %v", name, err)
		}
	}
	for _, owner := range []broker.Node{{}, {Name: "b", Addresses: cluster.Addresses{cluster.Sync: {"": "b:7400"}}}, {Name: "c"},
		{Name: "a", Addresses: cluster.Addresses{cluster.Sync: {"": "a:7400"}}}} {
		want := owner.Address(cluster.Sync)
		if owner.Name == u.broker.Self().Name {
			want = "" // never to itself
		}
		u.broker.Follow(0, owner, "id")
		for name, call := range calls {
			moved, ok := errors.AsType[*uplink.NotOwnerError](call())
			if !ok || moved.Addr != want {
				t.Errorf("%s, owner %+v: %v", name, owner, moved)
			}
		}
	}
}
