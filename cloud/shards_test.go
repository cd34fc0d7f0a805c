package cloud

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// owns reports whether a node serves exactly these shards.
func (r running) owns(ids ...uint32) bool {
	all := r.shards.all()
	if len(all) != len(ids) {
		return false
	}
	for i, own := range all {
		if own.ID != ids[i] || r.shards.roleOf(own.ID) != console.RoleOwner {
			return false
		}
	}
	return true
}

// asks asks another node what it has of a shard; nil if nothing.
func (r running) asks(t *testing.T, to broker.Node, shard uint32) (*cluster.ShardReport, error) {
	t.Helper()
	answer, err := r.ask(t.Context(), to, cluster.Report{Node: r.self})
	if err == nil && answer.Node.Name != to.Name {
		err = fmt.Errorf("node %q answers", answer.Node.Name)
	}
	for _, has := range answer.Shards {
		if has.Shard == shard {
			return &has, err
		}
	}
	return nil, err
}

// TestShards: a node owns all shards of a cluster, loses one and goes on with the others.
// When it stops, the other node has all of them.
func TestShards(t *testing.T) {
	bucket := bucketOf(t, 3)
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	eventually(t, "the first node has all shards", func() bool { return first.owns(0, 1, 2) && first.Role() == console.RoleOwner })
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	if !second.owns() || second.Role() != console.RoleStandby {
		t.Fatalf("the second node is %s", second.Role())
	}

	// The second one claims shard 2, as if it had heard nothing of its owner.
	info, err := second.self.Info(2)
	if err != nil {
		t.Fatal(err)
	}
	thief := second.newOwned(2, second.self)
	if err := thief.Open(t.Context(), second.logOptions(thief, info, uint64(first.shards.get(2).Log.Epoch())+1)); err != nil {
		t.Fatal(err)
	}
	if err := thief.Close(); err != nil {
		t.Error(err)
	}
	slice := sliceIn(2)
	eventually(t, "shard 2 has moved, and the nodes have one or two each", func() bool {
		named, known := first.broker.Coordinator(slice)
		has := len(second.shards.all())
		return second.shards.get(2) != nil && len(first.shards.all()) == 3-has && has < 3 && known && named.Name == "second"
	})
	if first.Role() != console.RoleOwner || second.Role() != console.RoleOwner {
		t.Errorf("the nodes are %s and %s", first.Role(), second.Role())
	}
	if has, err := second.asks(t, first.self, 2); err != nil || has != nil {
		t.Errorf("the former owner says of the shard: %+v, %v", has, err)
	}
	eventually(t, "each names both to clients", func() bool { return len(first.broker.Nodes()) == 2 && len(second.broker.Nodes()) == 2 })
	if l, known := first.broker.Coordinator(slice); !known || l.Epoch != second.shards.get(2).Log.Epoch() {
		t.Errorf("the leader of shard 2: %+v", l)
	}
	kept := first.shards.all()[0].ID
	if has, err := second.asks(t, first.self, kept); err != nil || has == nil || has.Epoch == 0 || has.Slot == 0 {
		t.Errorf("the owner of shard %d: %+v, %v", kept, has, err)
	}

	first.stop()
	<-first.ended
	if err := *first.err; err != nil {
		t.Errorf("the first node ended with %v", err)
	}
	eventually(t, "the second node has all shards", func() bool { return second.owns(0, 1, 2) })
	second.stop()
	<-second.ended
	if err := *second.err; err != nil {
		t.Errorf("the second node ended with %v", err)
	}
}

// sliceIn returns a slice that is in a shard of a new cluster of three.
func sliceIn(shard uint32) weir.Slice {
	for s, in := range weir.FirstMap(3) {
		if in == shard {
			return weir.Slice(s)
		}
	}
	panic("no slice")
}

// TestShardRoles: a node is what it is for its shards together.
func TestShardRoles(t *testing.T) {
	s := newShards(3)
	for _, c := range []struct {
		id      uint32
		role    string
		settled bool
		want    string
	}{
		{0, console.RoleStandby, false, console.RoleRecovering},
		{1, console.RoleStandby, false, console.RoleRecovering},
		{2, console.RoleRecovering, false, console.RoleRecovering},
		{2, console.RoleStandby, true, console.RoleStandby},
		{0, console.RoleOwner, true, console.RoleOwner},
		{1, console.RoleRecovering, false, console.RoleOwner},
		{1, console.RoleOwner, true, console.RoleOwner},
	} {
		if settled := s.become(c.id, c.role); settled != c.settled || s.role() != c.want || s.roleOf(c.id) != c.role {
			t.Errorf("shard %d is %s: settled %v, the node is %s; want %v, %s", c.id, c.role, settled, s.role(), c.settled, c.want)
		}
	}
	if s.share(32<<20) != 16<<20 || s.share(1<<10) != 1<<10 || new(shards).share(64) != 64 {
		t.Error("budgets are divided wrong")
	}
}

// TestDrain: a node that is stopped hands its shards over first: nobody has to find out
// that it is gone. A node that is alone has nobody to wait for.
func TestDrain(t *testing.T) {
	for _, count := range []int{1, 3} {
		bucket := mem.New()
		if _, err := identity.Open(t.Context(), bucket, count); err != nil {
			t.Fatal(err)
		}
		drains := func(o *Options) { o.Drain, o.Takeover = 30*time.Second, 10*time.Second }
		first := openNode(t, bucket, "first", t.TempDir(), drains)
		first.run(t)
		first.says(t, "ready")
		second := openNode(t, bucket, "second", t.TempDir(), drains)
		second.run(t)
		second.says(t, "ready")
		eventually(t, "they know each other", func() bool { return len(first.manager.Members()) == 1 && len(second.manager.Members()) == 1 })
		first.stop()
		<-first.ended
		if err := *first.err; err != nil {
			t.Errorf("of %d shards: the first node ended with %v", count, err)
		}
		eventually(t, "the second node has all shards", func() bool { return len(second.shards.all()) == count })
		for _, own := range second.shards.all() {
			if claim := own.claim; !claim.Handed || len(claim.Takeovers) > 0 {
				t.Errorf("of %d shards: shard %d was taken over: %+v", count, own.ID, claim)
			}
		}
		second.stop()
		<-second.ended
		if err := *second.err; err != nil {
			t.Errorf("of %d shards: the second node ended with %v", count, err)
		}
		if left, err := bucket.List(t.Context(), "member/", "", 10); err != nil || len(left) > 0 {
			t.Errorf("member objects are left: %v, %v", left, err)
		}
	}
}
