package cloud

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("never: %s", what)
		}
	}
}

func credential(t *testing.T, password string) auth.Credential {
	t.Helper()
	c, err := auth.NewCredential(auth.SCRAMSHA256, password)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// knows reports whether a node's copy has a topic of that id under that name.
func (r running) knows(name string, id weir.TopicID) bool {
	t, err := r.broker.KnownTopic(name)
	return r.broker.Copy() != nil && err == nil && t.ID == id
}

// TestStandbyKeepsCopy: a node that stands by has a copy when it is ready, and learns
// of each change; nothing is sent while nothing changes.
func TestStandbyKeepsCopy(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	topic, err := first.broker.CreateTopic(t.Context(), "a", 3, map[string]string{"retention.ms": "5000"})
	if err != nil {
		t.Fatal(err)
	}
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	got, err := second.broker.KnownTopic("a")
	if err != nil || got.ID != topic.ID || got.Partitions != 3 || got.Configs["retention.ms"] != "5000" || epochOf(second) != epochOf(first) {
		t.Fatalf("a node that is ready knows %+v, %v, epoch %d", got, err, epochOf(second))
	}
	if age := second.copyAge(); age <= 0 || age > 5 || first.copyAge() != 0 {
		t.Errorf("the copy is %v s old, that of the owner %v s", age, first.copyAge())
	}
	if _, err := first.shards.get(0).Log.CreateTopicIn(t.Context(), 0, "weir.vhost.x"); err != nil {
		t.Fatal(err)
	}
	if c, err := first.copyFor(""); err != nil || len(c.Topics) != 1 || c.Topics[0].ID != topic.ID {
		t.Errorf("a copy has a hidden topic: %+v, %v", c, err)
	}
	second.copies.Refresh(t.Context())
	if all, err := second.broker.KnownTopics(); err != nil || len(all) != 1 || all[0].ID != topic.ID {
		t.Errorf("a mirror has a hidden topic: %+v, %v", all, err)
	}
	users, quotas := first.users(), first.quotas()
	if err := users.SetCredentials(t.Context(), "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the user is in the copy", func() bool { return second.broker.Copy().Users.CheckPassword("ann", "secret") == nil })
	acl := auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: "a"}, Rule: auth.Rule{Principal: "User:ann", Host: auth.Any, Operation: auth.Read, Permission: auth.Allow}}
	if err := users.AddACLs(t.Context(), acl); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ACL is in the copy", func() bool { return len(second.broker.Copy().Users.ACLs(auth.Filter{})) == 1 })
	if err := quotas.Set(t.Context(), quota.Entity{User: "ann"}, func(l *quota.Limits) { l.Produce = 9 }, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota is in the copy", func() bool { return len(second.broker.Copy().Quotas.Entries()) == 1 })
	if err := first.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	again, err := first.broker.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic of the same name is in the copy", func() bool { return second.knows("a", again.ID) })
	whole, err := first.copyFor("")
	if err != nil {
		t.Fatal(err)
	}
	tag := whole.Tag
	if c, err := first.copyFor(tag); err != nil || c.Tag != tag || c.Topics != nil || c.Users != nil || c.Quotas != nil {
		t.Errorf("nothing has changed: %+v, %v", c, err)
	}
	asked := second.broker.Copy().Asked
	eventually(t, "the copy is confirmed", func() bool { return second.broker.Copy().Asked.After(asked) })
	if _, err := second.copyFor(""); !errors.Is(err, peer.ErrNoCopy) {
		t.Errorf("a standby gives copies: %v", err)
	}
	first.broker.Doubt(0, true)
	if _, err := first.copyFor(""); !errors.Is(err, peer.ErrNoCopy) {
		t.Errorf("an owner in doubt gives copies: %v", err)
	}
}

// TestCopyAtTakeover: a standby that takes over answers from its log alone; another
// standby gets its copy from the new owner, which it names.
func TestCopyAtTakeover(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	topic, err := first.broker.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, third := startNode(t, bucket, "second"), startNode(t, bucket, "third")
	second.says(t, "ready")
	third.says(t, "ready")
	if !second.knows("a", topic.ID) || !third.knows("a", topic.ID) {
		t.Fatal("the standbys have no copy")
	}
	first.stop()
	<-first.ended
	eventually(t, "one takes over, the other has its copy", func() bool {
		for _, pair := range [][2]running{{second, third}, {third, second}} {
			owner, other := pair[0], pair[1]
			named, known := other.broker.Controller()
			c := other.broker.Copy()
			if owner.Role() == console.RoleOwner && other.Role() == console.RoleStandby && known && named.Name == owner.o.Node && c != nil && c.Owner == owner.o.Node {
				return owner.broker.LastCopy() == nil && epochOf(other) == epochOf(owner) && other.knows("a", topic.ID)
			}
		}
		return false
	})
}

// TestAskedThere: what a client of a standby asks the owner for is done there.
func TestAskedThere(t *testing.T) {
	bucket := mem.New()
	first := openNode(t, bucket, "first", t.TempDir())
	first.run(t)
	first.says(t, "ready")
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	there := owner{second.Node}
	who := auth.Who{Principal: "User:ANONYMOUS", Host: "192.0.2.1"}
	id, code, err := there.NewProducerID(t.Context(), who)
	next, _, _ := there.NewProducerID(t.Context(), who)
	if err != nil || code != 0 || next == id {
		t.Errorf("ids %d and %d, code %d, %v", id, next, code, err)
	}
	const unknown, invalid = 3, 17
	if _, code, err := there.CreateTopic(t.Context(), who, "new"); err != nil || code != unknown {
		t.Errorf("an owner that creates no topics: %d, %v", code, err)
	}
	if _, code, err := there.CreateTopic(t.Context(), who, "?"); err != nil || code != invalid {
		t.Errorf("a name that is none: %d, %v", code, err)
	}
	topic, err := first.broker.CreateTopic(t.Context(), "new", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, code, err := there.CreateTopic(t.Context(), who, "new"); err != nil || code != 0 || got.ID != topic.ID {
		t.Errorf("one that is there: %+v, %d, %v", got, code, err)
	}
	if _, _, err := (owner{first.Node}).NewProducerID(t.Context(), who); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("an owner asks itself: %v", err)
	}
}

// besideOther starts an owner whose peer port is that of another version, and a standby.
func besideOther(t *testing.T, change func(*peer.Options, running)) (first, second running) {
	t.Helper()
	bucket := mem.New()
	first = openNode(t, bucket, "first", t.TempDir())
	identity, err := join.NewNodeIdentity(first.ca, "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	o := peer.Options{Listener: ln, Identity: identity, Self: first.answer, Log: quiet, Gate: budget.NewConns(budget.ConnsOptions{Log: quiet}).Gate(budget.GateOptions{})}
	change(&o, first)
	other := peer.New(o)
	served := make(chan error, 1)
	go func() { served <- other.Serve() }()
	t.Cleanup(func() {
		if err := errors.Join(other.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	first.self.Addresses.Add(cluster.Peer, "", ln.Addr().String())
	first.run(t)
	first.says(t, "ready")
	second = startNode(t, bucket, "second")
	second.says(t, "ready")
	return first, second
}

// TestOwnerOfEarlierVersion: a node beside an owner that gives no copies stands by all
// the same, and says nothing that it does not know.
func TestOwnerOfEarlierVersion(t *testing.T) {
	first, second := besideOther(t, func(*peer.Options, running) {})
	if err := second.copyFrom(t.Context(), first.self); !errors.Is(err, peer.ErrUnknownVerb) {
		t.Errorf("got %v", err)
	}
	second.copies.mu.Lock()
	second.copies.since = time.Now().Add(-broker.MaxCopyAge - time.Second)
	second.copies.mu.Unlock()
	second.says(t, copyMissing)
	if age := second.copyAge(); age < broker.MaxCopyAge.Seconds() {
		t.Errorf("without a copy its age is %v s", age)
	}
	if _, err := second.broker.KnownTopics(); !errors.Is(err, broker.ErrNotOwner) || second.Role() != console.RoleStandby {
		t.Errorf("%s: %v", second.Role(), err)
	}
	if _, _, err := (owner{second.Node}).NewProducerID(t.Context(), auth.Who{}); !errors.Is(err, peer.ErrUnknownVerb) {
		t.Errorf("got %v", err)
	}
}

// TestOwnerOfOtherVersion: a node gets copies from an owner that knows no mirrors, and
// from one whose snapshot it does not understand.
func TestOwnerOfOtherVersion(t *testing.T) {
	for what, change := range map[string]func(*peer.Options, running){
		"earlier": func(o *peer.Options, first running) { o.Copy = first.copyFor },
		"later": func(o *peer.Options, first running) {
			o.Copy = first.copyFor
			o.Catalogue = func(ctx context.Context, q peer.CatalogueQuestion) (*peer.Catalogue, error) {
				c, err := first.catalogueFor(ctx, q)
				if err == nil {
					c.Update.Snapshot = []byte("\xffof a later version")
				}
				return c, err
			}
		},
	} {
		first, second := besideOther(t, change)
		topic, err := first.broker.CreateTopic(t.Context(), "a", 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, what+": the topic is in the copy", func() bool { return second.knows("a", topic.ID) })
		if c := second.broker.Copy(); c.Tag == "" || !c.Position.IsZero() {
			t.Errorf("%s: it comes from a mirror, at %v", what, c.Position)
		}
	}
}

// epochOf is the leader epoch that a node tells its clients.
func epochOf(n running) int32 {
	l, _ := n.broker.Controller()
	return l.Epoch
}
