package shard

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
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
		if m, ok := fields.Field(i).Interface().(state.Machine); ok && !listed[m] {
			t.Errorf("%s is not in the list", fields.Type().Field(i).Name)
		}
	}
	if len(listed) != 8 {
		t.Errorf("%d machines, want 8", len(listed))
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

// TestNotOpened: machines that never got a log can be closed.
func TestNotOpened(t *testing.T) {
	if err := New(Options{}).Close(); err != nil {
		t.Error(err)
	}
}
