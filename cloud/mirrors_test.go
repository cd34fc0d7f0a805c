package cloud

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/journal"
)

// TestCatalogueOverNodes: a topic that one node creates is known to the other at once,
// which opens it in its shard, and can create topics, too. A deleted topic leaves both.
func TestCatalogueOverNodes(t *testing.T) {
	bucket := bucketOf(t, 3)
	var nodes []running
	for _, name := range []string{"first", "second"} {
		n := openNode(t, bucket, name, t.TempDir(), func(o *Options) { o.Takeover = 2 * time.Second })
		n.run(t)
		n.says(t, "ready")
		nodes = append(nodes, n)
	}
	eventually(t, "both nodes have shards", func() bool {
		a, b := len(nodes[0].shards.all()), len(nodes[1].shards.all())
		return a > 0 && b > 0 && a+b == 3 && nodes[0].broker.IsController() != nodes[1].broker.IsController()
	})
	owner, other := nodes[0], nodes[1]
	if other.broker.IsController() {
		owner, other = other, owner
	}
	eventually(t, "the other node keeps a mirror", func() bool {
		owner.mirrors.mu.Lock()
		defer owner.mirrors.mu.Unlock()
		return !owner.mirrors.nodes[other.o.Node].at.IsZero()
	})
	topic, err := owner.broker.CreateTopic(t.Context(), "a", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.broker.Topic("a"); err != nil || got.ID != topic.ID {
		t.Errorf("when it is answered, the other node knows %+v, %v", got, err)
	}
	opened := func() (count int) {
		for _, n := range nodes {
			for _, own := range n.shards.all() {
				if _, ok := own.Log.Log.TopicByID(topic.ID); ok {
					count++
				}
			}
		}
		return count
	}
	eventually(t, "the catalogue and both data shards have the topic", func() bool { return opened() == 3 })
	for range 2 {
		made, err := other.broker.CreateTopic(t.Context(), "b", 3, map[string]string{"retention.ms": "7000"})
		if err != nil || made.Name != "b" || made.Partitions != 3 || made.Configs["retention.ms"] != "7000" {
			t.Errorf("created by the other node: %+v, %v", made, err)
		}
	}
	if _, err := other.broker.CreateTopic(t.Context(), "..", 1, nil); !errors.Is(err, broker.ErrInvalidTopic) {
		t.Errorf("a name that no topic can have: %v", err)
	}
	if _, err := other.createHere(t.Context(), "c", 1, nil); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("created without the catalogue: %v", err)
	}
	if err := owner.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	if opened() != 0 {
		t.Errorf("%d shards have the deleted topic", opened())
	}
}

// TestMirrors: a change waits for the mirrors that ask, and not for those that are gone.
func TestMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m mirrors
		at := func(slot uint64) journal.Position { return journal.Position{Epoch: 1, Slot: slot} }
		waits := func(slot uint64) time.Duration {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			m.await(ctx, at(slot))
			return time.Since(began)
		}
		if took := waits(1); took != 0 {
			t.Errorf("without mirrors it took %v", took)
		}
		m.asks(peer.CatalogueQuestion{Node: "a", After: at(5)})
		m.asks(peer.CatalogueQuestion{Node: "b", After: at(3)})
		if took := waits(3); took != 0 {
			t.Errorf("for what all know it took %v", took)
		}
		go func() {
			time.Sleep(time.Second)
			m.asks(peer.CatalogueQuestion{Node: "a", After: at(6)})
			time.Sleep(time.Second)
			m.asks(peer.CatalogueQuestion{Node: "b", After: at(4)})
		}()
		if took := waits(4); took != 2*time.Second {
			t.Errorf("for the slower mirror it took %v", took)
		}
		time.Sleep(2 * mirrorGone)
		if took := waits(9); took != 0 {
			t.Errorf("for mirrors that are gone it took %v", took)
		}
	})
}
