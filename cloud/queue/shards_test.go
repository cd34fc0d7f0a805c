package queue

import (
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
