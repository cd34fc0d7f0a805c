package cloud

import (
	"testing"

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

// TestShards: a node owns all shards of a cluster, loses one and goes on with the others.
// When it stops, the other node has all of them.
func TestShards(t *testing.T) {
	bucket := mem.New()
	if _, err := identity.Open(t.Context(), bucket, 3); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	if !first.owns(0, 1, 2) || first.Role() != console.RoleOwner {
		t.Fatalf("the first node is %s", first.Role())
	}
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
	eventually(t, "shard 2 has moved", func() bool {
		named, known := first.broker.Coordinator(slice)
		return first.owns(0, 1) && second.owns(2) && known && named.Name == "second"
	})
	if first.Role() != console.RoleOwner || second.Role() != console.RoleOwner {
		t.Errorf("the nodes are %s and %s", first.Role(), second.Role())
	}
	if named, _ := second.broker.Controller(); named.Name != "first" {
		t.Errorf("the controller is %q", named.Name)
	}
	if _, err := second.ask(t.Context(), 2, first.self); err == nil {
		t.Error("the former owner says that it leads")
	}
	if sign, err := second.ask(t.Context(), 1, first.self); err != nil || sign.Next.Epoch == 0 {
		t.Errorf("the owner of shard 1: %+v, %v", sign, err)
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
