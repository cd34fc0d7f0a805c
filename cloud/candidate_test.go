package cloud

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/storagetest"
)

// leads makes a node that does not run lead the catalogue. The channel gets what lead
// returns.
func (r running) leads(t *testing.T, epoch uint64, c cluster.Candidate) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- r.lead(r.ctx, catalogueShard, r.self, epoch, c) }()
	eventually(t, "it leads", func() bool {
		own := r.shards.get(catalogueShard)
		return own != nil && r.shards.roleOf(catalogueShard) == console.RoleOwner && uint64(own.Log.Epoch()) == epoch
	})
	return ended
}

// TestHandOver: a node that has read the log along takes over with all that the machines
// know. If nobody takes over, the node that has ended the log goes on with what it had, and
// reads nothing again.
func TestHandOver(t *testing.T) {
	bucket := storagetest.NewFaults(bucketOf(t, 3), 1)
	var nodes []running
	for _, name := range []string{"first", "second"} {
		n := openNode(t, bucket, name, t.TempDir())
		t.Cleanup(func() { _ = n.Close() })
		nodes = append(nodes, n)
	}
	first, second := nodes[0], nodes[1]
	ended := first.leads(t, 1, nil)
	topic, err := first.broker.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := second.prepare(t.Context(), catalogueShard, second.self)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.users().SetCredentials(t.Context(), "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	nonce := [16]byte{7}
	claims := func(ctx context.Context) error {
		return errors.Join(prepared.Claim(ctx, 2, nonce), prepared.Follow(ctx))
	}
	refuses := errors.New("not now")
	if err := first.handOver(t.Context(), catalogueShard, nonce, func(context.Context) error { return refuses }); !errors.Is(err, refuses) {
		t.Errorf("a successor that does not come: %v", err)
	}
	if _, err := first.broker.CreateTopic(t.Context(), "u", 1, nil); err != nil {
		t.Errorf("the owner does not go on: %v", err)
	}
	if err := first.handOver(t.Context(), catalogueShard, nonce, claims); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the former owner ended with %v", err)
	}
	knows := func(n running) {
		t.Helper()
		got, err := n.broker.Topic("t")
		if _, other := n.broker.Topic("u"); err != nil || got.ID != topic.ID || other != nil || n.users().CheckPassword("ann", "secret") != nil {
			t.Errorf("%s knows %+v, %v, %v", n.self.Name, got, err, other)
		}
	}
	ended = second.leads(t, 2, prepared)
	knows(second)
	if own := second.shards.get(catalogueShard); own.claim.Name != "second" {
		t.Errorf("the owner: %+v", own.claim)
	}
	if err := first.handOver(t.Context(), catalogueShard, nonce, claims); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("a node that does not lead: %v", err)
	}

	// The next successor claims, and does not take over.
	lost, err := first.prepare(t.Context(), catalogueShard, first.self)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.handOver(t.Context(), catalogueShard, nonce, func(ctx context.Context) error { return lost.Claim(ctx, 3, nonce) }); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the former owner ended with %v", err)
	}
	lost.Close()
	former := second.shards.ended[catalogueShard]
	if former == nil || !errors.Is(former.Log.Err(), commitlog.ErrHandedOver) {
		t.Fatalf("it has kept %+v", former)
	}
	var again atomic.Int32
	bucket.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Get && (strings.HasPrefix(c.Keys[0], journal.SlotKey(0, journal.Position{Epoch: 1})[:len("0000/log/")+20]) || strings.Contains(c.Keys[0], "/checkpoint/")) {
			again.Add(1)
		}
		return storagetest.Outcome{}
	})
	second.leads(t, 4, nil)
	knows(second)
	if n := again.Load(); n > 0 {
		t.Errorf("%d objects were read again", n)
	}
	if second.shards.takeBack(catalogueShard) != nil {
		t.Error("it keeps what it has taken back")
	}
}
