package shard

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	queuestate "github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
)

// TestMachines: each machine of a shard is in the list, and no two take the same kinds
// of entries.
func TestMachines(t *testing.T) {
	s := New(Options{})
	listed := make(map[state.Machine]bool)
	kinds := make(map[uint16]state.Machine)
	for _, m := range s.Machines() {
		listed[m] = true
		for _, k := range m.Kinds() {
			if other, taken := kinds[k]; taken {
				t.Errorf("kind %d is of %T and of %T", k, other, m)
			}
			kinds[k] = m
		}
	}
	fields := reflect.ValueOf(*s)
	for i := range fields.NumField() {
		if !fields.Type().Field(i).IsExported() {
			continue
		}
		if m, ok := fields.Field(i).Interface().(state.Machine); ok && !listed[m] {
			t.Errorf("%s is not in the list", fields.Type().Field(i).Name)
		}
	}
	if len(listed) != 9 {
		t.Errorf("%d machines, want 9", len(listed))
	}
}

// TestShard: what the machines know is there again after a recovery, and a closed
// shard serves nothing.
func TestShard(t *testing.T) {
	bucket, quiet := mem.New(), slog.New(slog.DiscardHandler)
	open := func() *Shard {
		s := New(Options{Log: quiet})
		if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: "a", Log: quiet}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open()
	c, err := auth.NewCredential(auth.SCRAMSHA256, "pencil")
	if err != nil {
		t.Fatal(err)
	}
	topic, err := first.Log.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := txn.InitRequest{ID: "x", Timeout: time.Minute}
	_, failed := first.Txns.InitProducerID(t.Context(), begin)
	_, uncommitted := first.Groups.Commit(t.Context(), group.CommitRequest{Group: "g", Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID}, Offset: 7}}})
	if err := errors.Join(failed, uncommitted,
		first.Users.SetCredentials(t.Context(), "ann", c),
		first.Quotas.Set(t.Context(), quota.Entity{User: "ann"}, func(l *quota.Limits) { l.Produce = 1 }, false),
		first.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Txns.InitProducerID(t.Context(), begin); !errors.Is(err, txn.ErrClosed) {
		t.Errorf("transactions of a closed shard: %v", err)
	}
	if _, err := first.Groups.Offsets("g", nil); !errors.Is(err, group.ErrClosed) {
		t.Errorf("groups of a closed shard: %v", err)
	}
	second := open()
	defer second.Close()
	if known, err := second.Groups.Offsets("g", nil); err != nil || len(known) != 1 || known[0].Offset != 7 {
		t.Errorf("offsets %+v, %v", known, err)
	}
	if _, err := second.Txns.Describe("x"); err != nil {
		t.Error(err)
	}
	if len(second.Users.Users()) != 1 || len(second.Quotas.Entries()) != 1 {
		t.Errorf("%d users, %d quotas", len(second.Users.Users()), len(second.Quotas.Entries()))
	}
	if !second.Groups.HasHistory() {
		t.Error("the offsets topic was not begun")
	}
}

// TestParts: in a cluster of several shards, shard 0 has the catalogue and the others the
// rest. Their groups know the topics of the cluster, which their logs do not have.
func TestParts(t *testing.T) {
	if PartOf(0, 1) != Whole || PartOf(0, 3) != Catalogue || PartOf(2, 3) != Data {
		t.Error("parts of the shards are wrong")
	}
	bucket, quiet := mem.New(), slog.New(slog.DiscardHandler)
	open := func(id uint32, o Options) *Shard {
		o.Log, o.Part = quiet, PartOf(id, 3)
		s := New(o)
		if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: 3, Node: "a", Log: quiet}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	catalogue := open(0, Options{})
	if len(catalogue.Machines()) != 4 || catalogue.Groups != nil || catalogue.Txns != nil || catalogue.Shares != nil || catalogue.Queues != nil {
		t.Errorf("the catalogue has %d machines", len(catalogue.Machines()))
	}
	topic, err := catalogue.Log.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	data := open(2, Options{Topics: &machine.Topics{All: catalogue.Log.Topics, ByID: catalogue.Log.TopicByID}})
	if len(data.Machines()) != 5 || data.Fleet != nil || data.Users != nil || data.Quotas != nil || data.Settings != nil {
		t.Errorf("a data shard has %d machines", len(data.Machines()))
	}
	h, err := data.Groups.ConsumerHeartbeat(group.ConsumerHeartbeatRequest{Group: "g", Identity: group.Identity{Member: "m"}, Topics: []string{"t"}, Owned: []group.Partition{}, Rebalance: time.Minute})
	if err != nil || len(h.Assigned) != 2 || h.Assigned[0].Topic != topic.ID {
		t.Errorf("a member of a group gets %+v, %v", h, err)
	}
	if data.Groups.HasHistory() || len(data.Log.Topics()) != 0 {
		t.Error("a data shard has topics of its own")
	}
}

// TestNeeded: the log is told which messages queues need, and drops the others.
func TestNeeded(t *testing.T) {
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: slog.New(slog.DiscardHandler), Upkeep: upkeep.Options{Bytes: 64 << 10, Segment: 32 << 10}}); err != nil {
		t.Fatal(err)
	}
	settings := queuestate.Settings{TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	for _, name := range []string{"old", "young"} {
		if _, err := s.Queues.DeclareQueue(t.Context(), queue.DefaultVhost, name, settings); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		p := queue.Publication{Key: "young", Body: make([]byte, 4000)}
		if i == 0 {
			p.Key = "old"
		}
		done := make(chan error, 1)
		s.Queues.Submit(queue.DefaultVhost, queue.Work{Publications: []queue.Publication{p}}, func(_ []error, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		for range 2 {
			if err := s.Log.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		topics := s.Log.Topics()
		n, err := s.Log.Size(topics[len(topics)-1].ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := size()
	if _, err := s.Queues.Purge(t.Context(), queue.DefaultVhost, "young", ""); err != nil {
		t.Fatal(err)
	}
	if after := size(); before < 300_000 || after > before/3 {
		t.Errorf("%d bytes of %d are left", after, before)
	}
}

// TestNotOpened: machines that never got a log can be closed.
func TestNotOpened(t *testing.T) {
	if err := New(Options{}).Close(); err != nil {
		t.Error(err)
	}
}
