package cloud

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
)

// TestOtherShards: a node that found the bucket empty ends when another one has created the
// cluster with more shards. Started again, it fits.
func TestOtherShards(t *testing.T) {
	bucket, data := mem.New(), t.TempDir()
	early := openNode(t, bucket, "early", data)
	if _, err := identity.Open(t.Context(), bucket, 3); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	early.run(t)
	select {
	case <-early.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if err := *early.err; !errors.Is(err, errOtherShards) || errors.Is(err, ErrShards) { // with ErrShards nobody starts it again
		t.Errorf("it ended with %v", err)
	}
	again := startNodeIn(t, bucket, "early", data)
	again.says(t, "ready")
	if again.shards.number() != 3 {
		t.Errorf("it knows %d shards", again.shards.number())
	}
}

// looked counts how often the object of the cluster is read.
type looked struct {
	storage.Bucket
	times *atomic.Int32
}

func (l looked) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == identity.Key {
		l.times.Add(1)
	}
	return l.Bucket.Get(ctx, key, off, n)
}

// TestFollowAtOnce: a node that follows an owner does not wait for it, nor does it read
// again which cluster it is in; it is ready when the owner has had its time to answer.
func TestFollowAtOnce(t *testing.T) {
	bucket := bucketOf(t, 1)
	n := openNode(t, bucket, "second", t.TempDir())
	t.Cleanup(func() { _ = n.Close() })
	var times atomic.Int32
	n.bucket = looked{n.bucket, &times}
	ctx, cancel := context.WithCancel(t.Context())
	n.races.once.Do(func() {})
	n.follow(ctx, 0, broker.Node{Name: "first", Addresses: cluster.Addresses{cluster.Peer: {"": "127.0.0.1:1"}}}, 1)
	for len(n.said) > 0 {
		if <-n.said == "ready" {
			t.Error("it has waited for a copy")
		}
	}
	if got := times.Load(); got > 0 || n.broker.ClusterID() == "" {
		t.Errorf("the cluster %q was read %d times", n.broker.ClusterID(), got)
	}
	n.says(t, "ready")
	cancel()
	n.waiting.Wait()
}

// TestFailedLead: a node that cannot recover a shard stands by for it, and is ready, also
// if nobody else leads the shard.
func TestFailedLead(t *testing.T) {
	bucket, other := mem.New(), mem.New()
	for b, count := range map[storage.Bucket]int{bucket: 3, other: 4} {
		if _, err := identity.Open(t.Context(), b, count); err != nil {
			t.Fatal(err)
		}
	}
	n := openNode(t, bucket, "first", t.TempDir())
	t.Cleanup(func() { _ = n.Close() })
	n.shards.become(0, console.RoleStandby)
	n.shards.become(1, console.RoleStandby)
	n.bucket = other // of a cluster that it does not fit
	if err := n.lead(t.Context(), 2, n.self, 1, nil); !errors.Is(err, identity.ErrShards) {
		t.Fatalf("it leads: %v", err)
	}
	if role := n.shards.roleOf(2); role != console.RoleStandby {
		t.Errorf("it is %s", role)
	}
	n.says(t, "ready")
	n.waiting.Wait()
}
