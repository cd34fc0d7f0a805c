package queue

import (
	"context"
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
)

// twoShards returns the bucket of a new cluster with two shards.
func twoShards(t *testing.T) *mem.Bucket {
	t.Helper()
	bucket := mem.New()
	if _, err := identity.Open(t.Context(), bucket, 2); err != nil {
		t.Fatal(err)
	}
	return bucket
}

// TestShards: two shards have vhosts of their own, and know nothing of each other.
func TestShards(t *testing.T) {
	bucket := twoShards(t)
	names := []string{"a", "b"}
	open := func() (both []*served) {
		for shard := range names {
			both = append(both, serve(t, bucket, func(o *commitlog.Options) { o.Shard = uint32(shard) }))
		}
		return both
	}
	both := open()
	for i, s := range both {
		if err := s.CreateVhost(t.Context(), names[i]); err != nil {
			t.Fatal(err)
		}
		s.declare("q", nil)
		s.publish("q", "of "+names[i])
		if _, err := s.Queue(names[1-i], "q", ""); !errors.Is(err, ErrNoVhost) {
			t.Errorf("a vhost of the other shard: %v", err)
		}
	}
	both[0].end()
	both[1].publish("q", "more")
	both[1].end()
	for i, s := range open() {
		c := s.consume("q", 0)
		c.settle(Accept, c.expect("of "+names[i])...)
		if there, err := s.HasVhost(t.Context(), names[i]); err != nil || !there {
			t.Errorf("vhost %s: %v, %v", names[i], there, err)
		}
		if n := s.left("q"); n != int64(i) {
			t.Errorf("%d messages are left in shard %d, want %d", n, i, i)
		}
	}
}

// TestLateVhost: in a shard whose default vhost is late, nothing of the queues is written
// before a client uses it. A client that deletes it does not find it again.
func TestLateVhost(t *testing.T) {
	bucket := twoShards(t)
	open := func(late, here bool) *served {
		return serveWith(t, bucket, Options{Late: late, Here: func(string) bool { return here }}, func(o *commitlog.Options) { o.Shard = 1 })
	}
	has := func(s *served, want bool, ask func(context.Context, string) (bool, error)) {
		t.Helper()
		if there, err := ask(t.Context(), DefaultVhost); err != nil || there != want {
			t.Errorf("the default vhost: %v, %v, want %v", there, err, want)
		}
	}
	s := open(true, false)
	has(s, false, s.OpenVhost)
	s.end()
	s = open(true, true)
	has(s, false, s.HasVhost)
	if topics := s.log.Topics(); len(topics) > 0 || s.Snapshot() != nil {
		t.Errorf("the start has written: topics %v", topics)
	}
	has(s, true, s.OpenVhost)
	has(s, true, s.HasVhost)
	s.end()
	s = open(true, true)
	has(s, true, s.HasVhost)
	if err := s.DeleteVhost(t.Context(), DefaultVhost); err != nil {
		t.Fatal(err)
	}
	has(s, false, s.OpenVhost)
	s.end()
	s = open(true, true)
	has(s, true, s.OpenVhost)
}
