package cloud

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/journal"
)

// TestFormerOwnerKnowsTopics: a node that gives the catalogue away in good order goes on
// with what it knew, before any other node has answered. What it knows from later stays.
func TestFormerOwnerKnowsTopics(t *testing.T) {
	n := openNode(t, bucketOf(t, 3), "first", t.TempDir()) // it does not run: nobody follows anybody
	t.Cleanup(func() { _ = n.Close() })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.lead(ctx, catalogueShard, n.self, 1, nil) }()
	eventually(t, "it leads", func() bool { return n.shards.roleOf(catalogueShard) == console.RoleOwner })
	topic, err := n.broker.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.users().SetCredentials(t.Context(), "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	own := n.shards.get(catalogueShard)
	generation := own.Users.Generation()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	c := n.broker.Copy()
	if got, err := n.broker.KnownTopic("t"); err != nil || got.ID != topic.ID || c == nil {
		t.Fatalf("it knows %+v, %v", got, err)
	}
	if _, known := n.broker.Controller(); known {
		t.Error("an owner is known")
	}
	if c.Users.CheckPassword("ann", "secret") != nil || c.Fleet == nil || c.MaxAge != severalAge {
		t.Errorf("the copy: %+v", c)
	}
	if own.Users.Generation() == generation {
		t.Error("a login under way would succeed with the users of the log")
	}

	later := &broker.Copy{Position: journal.Position{Epoch: 2}, Users: c.Users, Quotas: c.Quotas, Settings: c.Settings, Asked: time.Now()}
	n.broker.SetCopy(later)
	n.keepView(own)
	if n.broker.LastCopy() != later {
		t.Error("it has gone back behind what it knew")
	}
}
