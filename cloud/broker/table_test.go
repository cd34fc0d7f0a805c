package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestPlaces: calls about partitions, groups, transactional ids and gateways go to the
// shard that has their slice, wherever that is, all others to the catalogue's.
func TestPlaces(t *testing.T) {
	catalogue := map[string]bool{"Topics": true, "Topic": true, "TopicByID": true, "CreateTopic": true, "DeleteTopic": true, "AlterTopic": true,
		"GrowTopic": true, "NewProducer": true}
	b := newBroker(Options{})
	lead(t, b, mem.New())
	other := Node{ID: 2, Name: "b"}
	b.Follow(1, other, "")
	moved := *b.table.Load()
	for s := range moved.routes {
		moved.routes[s] = 1
	}
	b.table.Store(&moved)

	// This node has the catalogue, the other one the slices.
	alter := calls(b, weir.TopicID{})
	alter["AlterTopic"] = func(ctx context.Context) error {
		return b.AlterTopic(ctx, weir.TopicID{}, func(map[string]string) error { return nil })
	}
	for name, call := range alter {
		var elsewhere *NotOwnerError
		err := call(t.Context())
		if is := errors.As(err, &elsewhere); is == catalogue[name] || is && elsewhere.Owner.Name != other.Name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l, ok := b.Leader(weir.TopicID{}, 0); !ok || l.Name != other.Name || l.Epoch != -1 || b.Epoch(weir.TopicID{}, 0) != -1 {
		t.Errorf("leader of a partition: %+v", l)
	}
	if l, ok := b.Coordinator(weir.SliceOfGroup("g")); !ok || l.Name != other.Name {
		t.Errorf("coordinator of a group: %+v", l)
	}
	if l, ok := b.Controller(); !ok || l.Name != b.Self().Name || !b.IsController() || l.Epoch < 1 {
		t.Errorf("controller: %+v", l)
	}
	if nodes := b.Nodes(); len(nodes) != 2 || nodes[0].Name != b.Self().Name || nodes[1].Name != other.Name {
		t.Errorf("nodes: %+v", nodes)
	}
	b.o.Members = func() []Node { return []Node{other, {Name: "idle"}} }
	b.SetMap(b.table.Load().routes, 2)
	if nodes := b.Nodes(); len(nodes) != 3 || nodes[2].Name != "idle" || nodes[2].Epoch != -1 {
		t.Errorf("nodes, with one that serves nothing: %+v", nodes)
	}
	if all, err := b.listings(); err != nil || len(all) != 0 {
		t.Errorf("groups here: %+v, %v", all, err)
	}

	// It is the other way round. Any shard can make ids for producers.
	delete(catalogue, "NewProducer")
	own := b.table.Load().shards[0]
	b.Follow(0, other, "")
	b.change(1, "", func(served) served { return own })
	for name, call := range alter {
		if err := call(t.Context()); errors.Is(err, ErrNotOwner) != catalogue[name] {
			t.Errorf("%s without the catalogue: %v", name, err)
		}
	}
	if _, err := b.Groups("g"); err != nil || b.IsController() {
		t.Error(err)
	}
}

// TestAwaitLeader: who asks about a shard that was just handed over hears who has it, or
// waits no longer than a moment after that. Nobody waits for any other shard.
func TestAwaitLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(Options{})
		id := weir.TopicID{}
		waits := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			if b.AwaitLeader(id, 0); time.Since(began) != want {
				t.Errorf("it has waited for %v, want %v", time.Since(began), want)
			}
		}
		waits(0)
		b.Follow(catalogueShard, Node{}, "")
		waits(0)
		b.HandedOver(catalogueShard)
		b.Doubt(catalogueShard, false)
		time.AfterFunc(givenTime/5, func() { b.FollowAt(catalogueShard, Node{ID: 2, Name: "b"}, 7, "") })
		waits(givenTime / 5)
		if l, known := b.Leader(id, 0); !known || l.Name != "b" || l.Epoch != 7 {
			t.Errorf("the leader is %+v", l)
		}
		waits(0)
		b.HandedOver(catalogueShard)
		time.Sleep(givenTime * 4 / 5)
		waits(givenTime / 5)
		waits(0)
		b.Follow(catalogueShard, Node{}, "")
		waits(0)
	})
}

// leadMoving makes b own shards 0 and 1 of a bucket, with a move of a slice that is in both
// logs, and decided.
func leadMoving(t *testing.T, b *Broker) (from, to *commitlog.Log, m weir.Move) {
	t.Helper()
	bucket, ctx := mem.New(), t.Context()
	from, to = leadShard(t, b, bucket, 0, nil), leadShard(t, b, bucket, 1, topicsOf(b))
	m.To = 1
	m.ID[0] = 1
	m.Slices.Add(3)
	err := from.Separate(ctx, m.Slices)
	if err == nil {
		err = from.Stop(ctx, m)
	}
	e, failed := from.Export(ctx, m)
	if err = errors.Join(err, failed); err == nil {
		err = to.Import(ctx, m, e)
	}
	if err == nil {
		err = from.MoveOut(ctx, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return from, to, m
}

// TestLeadMoving: a node that leads a shard with a move under way knows that slices are in
// two shards until it is told that they are not, and closes no slice for good that comes to
// be served in the same moment.
func TestLeadMoving(t *testing.T) {
	b := threeShards(t, "a")
	_, to, m := leadMoving(t, b)
	b.Lead(b.table.Load().shards[0].own)
	var other weir.SliceSet
	other.Add(4)
	if b.OpenSlices(0, other); !b.Moving(0) || b.Moving(1) {
		t.Error("it does not know that slices move")
	}
	if b.Moved(0); b.Moving(0) {
		t.Error("slices move after they have moved")
	}

	own := b.table.Load().shards[1].own
	b.changing.Lock()
	begun, led := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(led)
		close(begun)
		b.Lead(own)
	}()
	<-begun
	err := to.ConfirmMove(t.Context(), m)
	b.changing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	b.OpenSlices(1, m.Slices)
	<-led
	if closed := b.table.Load().shards[1].closed; closed.Has(3) {
		t.Error("a slice is closed that has moved here")
	}
}
