package cloud

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestUnreachableOwner: a standby that reaches the bucket and not the idle owner
// asks through the bucket, is answered, and leaves the shard where it is. When
// the owner is gone it takes over.
func TestUnreachableOwner(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	bucket := mem.New()
	first := openNode(t, bucket, "first", t.TempDir())
	first.self.Addresses.Add(cluster.Peer, "", silent.Addr().String())
	first.run(t)
	first.says(t, "ready")
	second := openNode(t, bucket, "second", t.TempDir())
	second.self.Addresses.Add(cluster.Peer, "", silent.Addr().String()) // else the owner asks it, and is heard
	second.run(t)
	second.says(t, "the owner does not answer this node, which does not take over for now: check the network between their --peer")
	first.says(t, "another node cannot reach --peer of this one and asks through the bucket whether it is alive: check the network between them")
	late := time.Now().Add(60 * time.Second)
	for second.peers.counters.WithheldAlive.Load() < 10 {
		if time.Now().After(late) {
			t.Fatalf("%d takeovers withheld, %d questions, %d answers", second.peers.counters.WithheldAlive.Load(),
				second.peers.counters.Asks.Load(), first.peers.answers.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if claim, _, err := journal.NewestClaim(t.Context(), bucket, 0); err != nil || claim.Epoch != 1 {
		t.Errorf("the shard has epoch %d, %v", claim.Epoch, err)
	}
	if first.peers.answers.Load() == 0 || first.peers.looks.Load() < first.peers.answers.Load() || first.peers.heard.Load() == 0 {
		t.Errorf("the owner has answered %d times in %d looks", first.peers.answers.Load(), first.peers.looks.Load())
	}
	first.stop()
	if <-first.ended; *first.err != nil {
		t.Error(*first.err)
	}
	second.says(t, "leading")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for ctx.Err() == nil { // the new owner deletes what was asked of the old one
		left, err := bucket.List(ctx, "0000/ask/", "", 10)
		if err == nil && len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("questions to the earlier owner are left")
}

// TestOwnerWithoutBucket: an owner that answers the other nodes and does not reach the bucket
// loses the shard to one that does, and both say why. When it reaches the bucket again it
// ends, so that the service manager starts it as a standby.
func TestOwnerWithoutBucket(t *testing.T) {
	bucket := mem.New()
	way := storagetest.NewFaults(bucket, 1)
	slow := func(o *Options) { o.Takeover = time.Second }
	first := openNode(t, way, "first", t.TempDir(), slow)
	first.run(t)
	first.says(t, "ready")
	second := openNode(t, bucket, "second", t.TempDir(), slow)
	second.run(t)
	second.says(t, "ready")
	way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
	first.says(t, "the bucket does not answer this node, which may no longer own the shard: clients have to wait until it answers, or another node takes the shard")
	second.says(t, "the owner says that it does not serve the shard, or that the bucket does not answer it: taking over")
	second.says(t, "leading")
	if _, err := second.broker.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Errorf("the new owner, while the former one does not reach the bucket: %v", err)
	}
	way.Plan(nil)
	if <-first.ended; !errors.Is(*first.err, journal.ErrFenced) {
		t.Errorf("the former owner ended with %v", *first.err)
	}
	if claim, _, err := journal.NewestClaim(t.Context(), bucket, 0); err != nil || claim.Epoch != 2 || claim.Node != "second" {
		t.Errorf("the shard has epoch %d of %s, %v", claim.Epoch, claim.Node, err)
	}
}
