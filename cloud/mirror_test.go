package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/sync/join"
)

// TestCatalogueFor: who knows nothing gets everything; others get what has changed, as
// soon as it has, and nothing else.
func TestCatalogueFor(t *testing.T) {
	first := startNode(t, mem.New(), "first")
	first.says(t, "ready")
	ctx := t.Context()
	whole, err := first.catalogueFor(ctx, peer.CatalogueQuestion{Epoch: 99})
	if err != nil || whole.Update.Snapshot == nil || whole.Epoch != epochOf(first) || whole.Cluster != first.broker.ClusterID() || !whole.Offsets {
		t.Fatalf("%+v, %v", whole, err)
	}
	q := peer.CatalogueQuestion{Epoch: whole.Epoch, After: whole.Update.At}
	if c, err := first.catalogueFor(ctx, q); err != nil || c.Update.Snapshot != nil || len(c.Update.Slots) > 0 {
		t.Errorf("nothing has changed: %+v, %v", c, err)
	}
	q.Wait = 20 * time.Second
	answer := func(ctx context.Context) <-chan error {
		answered := make(chan error, 1)
		go func() {
			c, err := first.catalogueFor(ctx, q)
			if err == nil && len(c.Update.Slots) == 0 {
				err = errors.New("no change")
			}
			answered <- err
		}()
		return answered
	}
	waiting := answer(ctx)
	if err := first.users().SetCredentials(ctx, "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("who waits for a change: %v", err)
	}
	late, err := first.catalogueFor(ctx, peer.CatalogueQuestion{})
	if err != nil {
		t.Fatal(err)
	}
	q.After = late.Update.At
	short, cancel := context.WithCancel(ctx)
	waiting = answer(short)
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves: %v", err)
	}
	waiting = answer(ctx)
	first.stop()
	if err := <-waiting; err == nil {
		t.Error("an owner that stops answers")
	}
}

// TestRefresh: after a refresh the copy is newer than the call.
func TestRefresh(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	for _, name := range []string{"a", "b", "c"} {
		topic, err := first.broker.CreateTopic(t.Context(), name, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		called := time.Now()
		second.copies.Refresh(t.Context())
		if !second.knows(name, topic.ID) || second.broker.Copy().Asked.Before(called) {
			t.Errorf("after the refresh topic %s is not known", name)
		}
	}
}

// TestMirrorKeepsUse: a change of limits, of users and of settings reaches the machines of
// a copy; the copy itself is replaced only with its owner.
func TestMirrorKeepsUse(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	before := second.broker.Copy()
	if err := first.users().SetCredentials(t.Context(), "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the user is there", func() bool { return before.Users.CheckPassword("ann", "secret") == nil })
	generation := before.Users.Generation()
	if err := first.users().RemoveCredential(t.Context(), "ann", auth.SCRAMSHA256); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the user is gone", func() bool { return before.Users.Empty() })
	if before.Users.Generation() == generation {
		t.Error("a login under way would succeed")
	}
	after := second.broker.Copy()
	if after.Users != before.Users || after.Quotas != before.Quotas || after.Fleet != nil || before.Position == after.Position && before.Asked == after.Asked {
		t.Errorf("the copy at %v was replaced by that at %v", before.Position, after.Position)
	}
}

// TestMirrorOfShards: in a cluster of several shards gateways are in the copy, too, and it
// may become older.
func TestMirrorOfShards(t *testing.T) {
	bucket := bucketOf(t, 3)
	first, second := startPair(t, bucket)
	c := second.broker.Copy()
	if c == nil || c.Fleet == nil || c.MaxAge != severalAge {
		t.Fatalf("the copy is %+v", c)
	}
	if _, err := c.Fleet.Gateway("gw"); !errors.Is(err, fleet.ErrUnknownGateway) {
		t.Errorf("a gateway before it has joined: %v", err)
	}
	gateway := joinGateway(t, first, "gw")
	eventually(t, "the gateway is in the copy", func() bool {
		_, err := c.Fleet.Gateway("gw")
		return err == nil
	})
	if err := second.admit("gw", gateway.Leaf()); err != nil {
		t.Errorf("it is not let in here: %v", err)
	}
	if err := first.fleet().Revoke(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is revoked in the copy", func() bool {
		g, err := c.Fleet.Gateway("gw")
		return err == nil && g.Revoked
	})
	if err := second.admit("gw", gateway.Leaf()); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a revoked gateway is let in here: %v", err)
	}
	later := joinGateway(t, first, "gw-2")
	if err := second.admit("gw-2", later.Leaf()); err != nil {
		t.Errorf("a gateway that has just joined is not let in: %v", err)
	}
	topic, err := first.broker.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	second.copies.Refresh(t.Context())
	log := first.shards.get(catalogueShard).Log
	if _, err := log.DeletingTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	second.copies.Refresh(t.Context())
	if c := second.broker.Copy(); second.knows("a", topic.ID) || !c.Exists(topic.ID) {
		t.Error("a topic that is being deleted is given out, or does not exist")
	}
	if err := log.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	second.copies.Refresh(t.Context())
	if second.broker.Copy().Exists(topic.ID) {
		t.Error("a deleted topic exists")
	}
}

// TestCatalogueFromBucket: a node that finds no owner of the catalogue knows it from the
// bucket, and not for ever.
func TestCatalogueFromBucket(t *testing.T) {
	bucket := bucketOf(t, 3)
	alone := openNode(t, bucket, "alone", t.TempDir())
	t.Cleanup(func() { _ = alone.Close() })
	for range 3 {
		alone.renewCopy(t.Context(), 0)
	}
	if alone.broker.Copy() != nil {
		t.Error("there is a catalogue before anybody has owned it")
	}
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	topic, err := first.broker.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.users().SetCredentials(t.Context(), "ann", credential(t, "secret")); err != nil {
		t.Fatal(err)
	}
	first.stop()
	<-first.ended
	alone.renewCopy(t.Context(), 0)
	c := alone.broker.Copy()
	if c == nil || !alone.knows("a", topic.ID) || c.Users.CheckPassword("ann", "secret") != nil || c.Position.IsZero() {
		t.Fatalf("from the bucket: %+v", c)
	}
	old := *c
	old.Asked = time.Now().Add(-severalAge - time.Second)
	alone.broker.SetCopy(&old)
	if alone.broker.Copy() != nil || alone.access.Users() != nil || alone.members() != nil {
		t.Error("what nobody has confirmed for a minute is used")
	}
	if err := alone.admitCopied(old.Fleet, "gw", nil); !errors.Is(err, join.ErrUnavailable) {
		t.Errorf("a gateway that came when the copy became too old: %v", err)
	}
}

// notAnswering is an owner that this node does not reach.
var notAnswering = broker.Node{Name: "first", Addresses: cluster.Addresses{cluster.Peer: {"": "127.0.0.1:1"}}}

// TestCatalogueBesideOwner: a node that does not reach the owner of the catalogue knows it
// from the bucket, and reads it again before the copy is too old to be used, not sooner.
func TestCatalogueBesideOwner(t *testing.T) {
	bucket := bucketOf(t, 3)
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	cut := openNode(t, bucket, "cut", t.TempDir())
	t.Cleanup(func() { _ = cut.Close() })
	cut.broker.Follow(catalogueShard, notAnswering, "")
	for i, age := range []time.Duration{0, staleAge, staleAge + time.Second} {
		topic, err := first.broker.CreateTopic(t.Context(), fmt.Sprint("t", i), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if last := cut.broker.LastCopy(); last != nil {
			old := *last
			old.Asked = time.Now().Add(-age + time.Second)
			cut.broker.SetCopy(&old)
		}
		cut.renewCopy(t.Context(), 0)
		if i == 2 { // the bucket was read a moment ago
			if cut.knows(topic.Name, topic.ID) {
				t.Error("the bucket is read all the time")
			}
			cut.copies.read = time.Now().Add(-readEvery)
			old := *cut.broker.LastCopy()
			old.Asked = time.Now().Add(-age)
			cut.broker.SetCopy(&old)
			cut.renewCopy(t.Context(), 0)
		}
		if want := i != 1; cut.knows(topic.Name, topic.ID) != want {
			t.Errorf("topic %d is known after the copy was %v old: %v", i, age, !want)
		}
	}
}

// stuck is a bucket that does not answer a List.
type stuck struct {
	storage.Bucket
	called chan struct{}
}

func (s stuck) List(ctx context.Context, _, _ string, _ int) ([]string, error) {
	select {
	case s.called <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestNewOwnerWhileReading: a new owner is asked at once, also while the bucket is read.
func TestNewOwnerWhileReading(t *testing.T) {
	bucket := bucketOf(t, 3)
	n := openNode(t, bucket, "cut", t.TempDir())
	t.Cleanup(func() { _ = n.Close() })
	for known, rounds := range map[bool]int{false: 2, true: 1} {
		called, over := make(chan struct{}, 1), make(chan struct{})
		n.bucket, n.copies.unowned, n.copies.read = stuck{bucket, called}, 0, time.Time{}
		if known {
			n.broker.Follow(catalogueShard, notAnswering, "")
		} else {
			n.broker.Follow(catalogueShard, broker.Node{}, "")
		}
		go func() {
			defer close(over)
			for range rounds {
				n.renewCopy(t.Context(), 0)
			}
		}()
		<-called
		n.copies.hurry(false) // a client that waits
		select {
		case <-over:
			t.Error("a client ends the reading")
		default:
		}
		n.copies.follow()
		select {
		case <-over:
		case <-time.After(readTime / 2):
			t.Fatalf("with an owner (%v): the bucket is read all the same", known)
		}
	}
}

// TestSameDecoy: a user that does not exist has the same salt at all nodes.
func TestSameDecoy(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	salt := func(users *auth.Auth) string {
		t.Helper()
		answer, err := users.NewExchange(auth.SCRAMSHA256).First([]byte("n,,n=nobody,r=x"))
		if err != nil {
			t.Fatal(err)
		}
		_, salt, _ := strings.Cut(string(answer), ",s=") // behind the nonce, which is random
		return salt
	}
	if a, b := salt(first.users()), salt(second.broker.Copy().Users); a != b {
		t.Errorf("%s at the owner, %s at the standby", a, b)
	}
}
