package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// threeShards is a node of a cluster of three shards that owns the catalogue, and by
// default the others, too.
func threeShards(t *testing.T, name string) *Broker {
	t.Helper()
	return New(Options{Self: Node{ID: 1, Name: name}, Shards: 3, Partitions: 4, Metrics: metrics.NewSet()})
}

// topicsOf are the topics of the cluster as b knows them.
func topicsOf(b *Broker) *machine.Topics {
	return &machine.Topics{
		All: func() []Topic {
			all, _ := b.Topics()
			return all
		},
		ByID: func(id weir.TopicID) (Topic, bool) {
			t, err := b.TopicByID(id)
			return t, err == nil
		},
	}
}

// inBackground runs a task of the node until the test ends.
func inBackground(t *testing.T, task func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { task(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(late) {
			t.Fatalf("never: %s", what)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// TestOpening: a topic is opened in the shards of its partitions before the first record,
// and whoever reads it before that finds empty partitions.
func TestOpening(t *testing.T) {
	b := threeShards(t, "a")
	bucket := mem.New()
	leadShard(t, b, bucket, 0, nil)
	leadShard(t, b, bucket, 1, topicsOf(b))
	leadShard(t, b, bucket, 2, topicsOf(b))
	topic, err := b.CreateTopic(t.Context(), "t", 4, map[string]string{"max.message.bytes": "2000"})
	if err != nil {
		t.Fatal(err)
	}
	for p := range topic.Partitions {
		start, end, err := b.Bounds(topic.ID, p)
		stable, err2 := b.Stable(topic.ID, p)
		_, err3 := b.Fetch(t.Context(), topic.ID, p, 0, 1)
		_, err4 := b.FetchCommitted(t.Context(), topic.ID, p, 0, 1)
		at, _, err5 := b.OffsetByTime(t.Context(), topic.ID, p, 0)
		most, _, err6 := b.MaxTimestamp(t.Context(), topic.ID, p)
		epoch, next, err7 := b.EpochEnd(topic.ID, p, 9)
		producers, err8 := b.Producers(topic.ID, p)
		size, err9 := b.Size(topic.ID, p)
		if err := errors.Join(err, err2, err3, err4, err5, err6, err7, err8, err9); err != nil || start != 0 || end != 0 || stable != 0 || at != -1 || most != -1 || epoch != -1 || next != 0 || producers != nil || size != 0 {
			t.Fatalf("partition %d, not opened: %v; %d to %d, stable %d", p, err, start, end, stable)
		}
		if _, err := b.Fetch(t.Context(), topic.ID, p, 7, 1); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("offset 7 of an empty partition: %v", err)
		}
	}
	if _, _, err := b.Bounds(topic.ID, 4); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("partition 4 of 4: %v", err)
	}
	more := b.Watch(topic.ID, 0)
	for p := range topic.Partitions {
		for want := range int64(2) {
			if base, err := appendTo(b, Append{Topic: topic.ID, Partition: p, Batch: batch(t, 10)}); err != nil || base != want {
				t.Fatalf("append to partition %d: %d, %v", p, base, err)
			}
		}
	}
	select {
	case <-more:
	case <-time.After(20 * time.Second):
		t.Error("a reader of a partition that was not opened is not told of records")
	}
	if _, err := appendTo(b, Append{Topic: topic.ID, Partition: 0, Batch: batch(t, 3000)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a batch that the topic does not take: %v", err)
	}
	if _, err := appendTo(b, Append{Topic: topic.ID, Partition: 4, Batch: batch(t, 10)}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("append to partition 4 of 4: %v", err)
	}
	if _, err := appendTo(b, Append{Topic: weir.TopicID{9}, Batch: batch(t, 10)}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("append to no topic: %v", err)
	}
	if start, err := b.DeleteRecords(t.Context(), topic.ID, 1, 1); err != nil || start != 1 {
		t.Errorf("records deleted up to %d, %v", start, err)
	}
	if err := b.GrowTopic(t.Context(), topic.ID, 6); err != nil {
		t.Fatal(err)
	}
	if base, err := appendTo(b, Append{Topic: topic.ID, Partition: 5, Batch: batch(t, 10)}); err != nil || base != 0 {
		t.Errorf("append to a new partition: %d, %v", base, err)
	}
}

// TestFollowCatalogue: what changes in the catalogue changes in the shards of a topic.
func TestFollowCatalogue(t *testing.T) {
	b := threeShards(t, "a")
	bucket := mem.New()
	leadShard(t, b, bucket, 0, nil)
	leadShard(t, b, bucket, 1, topicsOf(b))
	own := b.table.Load().shards[1].own
	inBackground(t, func(ctx context.Context) {
		b.FollowCatalogue(ctx, own, func(topic string, err error) { t.Errorf("topic %q: %v", topic, err) })
	})
	topic, err := b.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	is := func(partitions int32, limit string) func() bool {
		return func() bool {
			got, ok := own.Log.TopicByID(topic.ID)
			return ok && got.Partitions == partitions && got.Configs["max.message.bytes"] == limit
		}
	}
	until(t, "the topic is opened", is(2, ""))
	if err := b.GrowTopic(t.Context(), topic.ID, 3); err != nil {
		t.Fatal(err)
	}
	until(t, "it has a new partition", is(3, ""))
	if err := b.AlterTopic(t.Context(), topic.ID, func(configs map[string]string) error {
		configs["max.message.bytes"] = "4000"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "it has a new setting", is(3, "4000"))

	catalogue := b.table.Load().shards[0].own
	b.Follow(2, Node{Name: "z"}, "")
	b.o.Drop = func(context.Context, Node, uint32, weir.TopicID, journal.Position) error { return nil }
	inBackground(t, func(ctx context.Context) { b.FinishDeletions(ctx, catalogue, func(string, error) {}) })
	if err := b.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	deleted := catalogue.Log.Acked()
	deleted.Slot--
	until(t, "the shard forgets that it was dropped", func() bool { return !own.Log.CataloguePosition().Before(deleted) })
}

// TestFollowCatalogueFails: a topic that cannot be opened is told, each time.
func TestFollowCatalogueFails(t *testing.T) {
	b := threeShards(t, "a")
	bucket := mem.New()
	leadShard(t, b, bucket, 0, nil)
	leadShard(t, b, bucket, 1, topicsOf(b))
	own := b.table.Load().shards[1].own
	topic, err := b.CreateTopic(t.Context(), "t", 4, map[string]string{"max.message.bytes": "4000"})
	if err != nil {
		t.Fatal(err)
	}
	other := Topic{ID: topic.ID, Name: "t", Partitions: 9}
	if err := own.Log.OpenTopic(t.Context(), other, journal.Position{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	failures := make(chan error)
	inBackground(t, func(ctx context.Context) {
		b.FollowCatalogue(ctx, own, func(_ string, err error) {
			select {
			case failures <- err:
			case <-ctx.Done():
			}
		})
	})
	for range 2 {
		if err := <-failures; !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("the reason is %v", err)
		}
	}
}

// TestDropAbsent: a shard got a topic with slices, which the catalogue has deleted meanwhile.
// Its name is used again. A topic of which this node has not heard yet is not one of those.
func TestDropAbsent(t *testing.T) {
	b := threeShards(t, "a")
	bucket := mem.New()
	leadShard(t, b, bucket, 0, nil)
	leadShard(t, b, bucket, 1, topicsOf(b))
	own := b.table.Load().shards[1].own
	again, err := b.CreateTopic(t.Context(), "t", 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone, young := Topic{ID: weir.TopicID{9}, Name: "t", Partitions: 1}, Topic{ID: weir.TopicID{8}, Name: "young", Partitions: 1}
	if err := own.Log.OpenTopic(t.Context(), gone, journal.Position{Epoch: 1, Slot: 1}); err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	following := make(chan struct{})
	go func() {
		defer close(following)
		b.FollowCatalogue(ended, own, func(topic string, err error) { t.Errorf("topic %q: %v", topic, err) })
	}()
	until(t, "the topic of today is opened", func() bool { _, ok := own.Log.TopicByID(again.ID); return ok })
	stop()
	<-following
	if _, ok := own.Log.TopicByID(gone.ID); ok {
		t.Error("the deleted topic is still there")
	}
	if err := own.Log.OpenTopic(t.Context(), young, journal.Position{Epoch: 9}); err != nil {
		t.Fatal(err)
	}
	if err := b.dropAbsent(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if _, ok := own.Log.TopicByID(young.ID); !ok {
		t.Error("a topic is dropped that this node has not heard of yet")
	}
}

// TestLookUp: what a node finds in the catalogue is what that is at the position.
func TestLookUp(t *testing.T) {
	b := threeShards(t, "a")
	leadShard(t, b, mem.New(), 0, nil)
	var first, later journal.Position
	created := make(chan error, 1)
	if err := b.lookUp(func(c catalogue) {
		first = c.at
		go func() {
			_, err := b.CreateTopic(t.Context(), "t", 1, nil)
			created <- err
		}()
		select {
		case err := <-created:
			t.Errorf("a topic is created meanwhile: %v", err)
			created <- err
		case <-time.After(50 * time.Millisecond):
		}
		if all := c.all(); len(all) > 0 {
			t.Errorf("at %v there is %+v", c.at, all)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	if _, later, _ = b.find(topic.ID, 0); !first.Before(later) {
		t.Errorf("the topic is there at %v, and was not at %v", later, first)
	}
	for partition, want := range map[int32]bool{-1: false, 0: true, 1: false} {
		if _, _, ok := b.find(topic.ID, partition); ok != want {
			t.Errorf("partition %d is there: %v", partition, ok)
		}
	}
}

// TestOpenedBehind: a batch for a topic that the node has read in an older catalogue is to
// be sent again, and is not taken for one of a topic that is gone.
func TestOpenedBehind(t *testing.T) {
	b := threeShards(t, "a")
	leadShard(t, b, mem.New(), 1, topicsOf(b))
	own := b.table.Load().shards[1].own
	topic := Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 9}
	copied := func(slot uint64) {
		c := &Copy{Position: journal.Position{Epoch: 1, Slot: slot}, Asked: time.Now()}
		c.SetTopics([]Topic{topic})
		b.SetCopy(c)
	}
	b.Follow(0, Node{Name: "z"}, "")
	for _, err := range []error{
		own.Log.DropTopic(t.Context(), weir.TopicID{2}, journal.Position{Epoch: 1, Slot: 5}),
		own.Log.ForgetDropped(t.Context(), journal.Position{Epoch: 1, Slot: 7}, func(weir.TopicID) bool { return false }),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := int32(0)
	for b.RouteOf(weir.SliceOf(topic.ID, p)) != 1 {
		p++
	}
	a := Append{Topic: topic.ID, Partition: p, Batch: batch(t, 10)}
	source := Source{Stream: weir.Stream{Gateway: "g", Buffer: weir.BufferID{1}}, First: 1, Last: 1}
	fromGateway := a
	fromGateway.Source = &source
	copied(6)
	for _, a := range []Append{a, fromGateway} {
		if _, err := appendTo(b, a); !errors.Is(err, ErrBehind) || !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("appended to a topic as of slot 6: %v", err)
		}
	}
	copied(7)
	if _, err := appendTo(b, fromGateway); err != nil {
		t.Errorf("as of slot 7: %v", err)
	}
}

// TestAwaitCatalogue: a shard is served by a node that knows the catalogue as far as the
// shard's log does, and a topic that the node does not know is not deleted for that.
func TestAwaitCatalogue(t *testing.T) {
	b := threeShards(t, "b")
	at := journal.Position{Epoch: 3, Slot: 7}
	reached := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return b.AwaitCatalogue(ctx, at) == nil
	}
	if reached() {
		t.Error("a node that knows nothing has reached a position")
	}
	copied := func(at journal.Position) *Copy {
		c := &Copy{Position: at, Asked: time.Now()}
		c.SetTopics(nil)
		return c
	}
	b.Follow(0, Node{Name: "a"}, "")
	b.SetCopy(copied(journal.Position{Epoch: 3, Slot: 6}))
	if reached() {
		t.Error("an older copy will do")
	}
	done := make(chan error, 1)
	go func() { done <- b.AwaitCatalogue(t.Context(), at) }()
	b.SetCopy(copied(journal.Position{Epoch: 4, Slot: 0}))
	if err := <-done; err != nil || !reached() {
		t.Errorf("a newer copy will not do: %v", err)
	}
}

// TestDeletion: a topic leaves all shards before its name is free, also those of another
// node, which is asked until it has answered.
func TestDeletion(t *testing.T) {
	bucket := mem.New()
	a, b := threeShards(t, "a"), threeShards(t, "b")
	var mu sync.Mutex
	away, asked := true, 0
	a.o.Drop = func(ctx context.Context, owner Node, id uint32, topic weir.TopicID, at journal.Position) error {
		mu.Lock()
		defer mu.Unlock()
		if asked++; away || owner.Name != "b" {
			return errors.New("node is away")
		}
		return b.DropTopic(ctx, id, topic, at)
	}
	leadShard(t, a, bucket, 0, nil)
	leadShard(t, a, bucket, 1, topicsOf(a))
	leadShard(t, b, bucket, 2, topicsOf(a))
	a.Follow(2, b.Self(), "")
	b.Follow(0, a.Self(), "")
	topic, err := a.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &Copy{Position: journal.Position{Epoch: 1, Slot: 1 << 20}, Asked: time.Now()}
	c.SetTopics([]Topic{topic})
	b.SetCopy(c)
	for p := range topic.Partitions {
		node := a
		if a.RouteOf(weir.SliceOf(topic.ID, p)) == 2 {
			node = b
		}
		if _, err := appendTo(node, Append{Topic: topic.ID, Partition: p, Batch: batch(t, 10)}); err != nil {
			t.Fatal(err)
		}
	}
	name := named(a, 2, weir.SliceOfGroup)
	groups, err := b.Groups(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := groups.Commit(t.Context(), group.CommitRequest{Group: name, Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID}, Offset: 1}}}); err != nil {
		t.Fatal(err)
	}

	failures := make(chan error, 100)
	inBackground(t, func(ctx context.Context) {
		a.FinishDeletions(ctx, a.table.Load().shards[0].own, func(topic string, err error) {
			select {
			case failures <- err:
			default:
			}
		})
	})
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.DeleteTopic(short, topic.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deleted although a node is away: %v", err)
	}
	if err := <-failures; !strings.Contains(err.Error(), "shard 2") || !strings.Contains(err.Error(), "away") {
		t.Errorf("the reason is %v", err)
	}
	if _, err := a.Topic("t"); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("a topic that is being deleted is found: %v", err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.CreateTopic(brief, "t", 1, nil); !errors.Is(err, ErrTopicDeleting) {
		t.Errorf("its name is free: %v", err)
	}
	second := make(chan error, 1)
	go func() { second <- a.deleteEverywhere(t.Context(), a.table.Load().shards[0].own, topic.ID) }()
	mu.Lock()
	away = false
	mu.Unlock()
	if _, err := a.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Errorf("the name is not free when the deletion has ended: %v", err)
	}
	if err := <-second; !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("the topic is deleted twice: %v", err)
	}
	if asked < 2 {
		t.Errorf("the other node was asked %d times", asked)
	}
	for p := range topic.Partitions { // b's copy has the topic still
		node := a
		if a.RouteOf(weir.SliceOf(topic.ID, p)) == 2 {
			node = b
		}
		if _, err := appendTo(node, Append{Topic: topic.ID, Partition: p, Batch: batch(t, 10)}); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("append to partition %d of a deleted topic: %v", p, err)
		}
	}
	if all, err := groups.Offsets(name, nil); err != nil || len(all) != 0 {
		t.Errorf("offsets of the deleted topic: %v, %v", all, err)
	}
	if err := a.DropTopic(t.Context(), 0, topic.ID, journal.Position{Epoch: 1}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("dropped from the catalogue's shard: %v", err)
	}
	if err := a.DropTopic(t.Context(), 2, topic.ID, journal.Position{Epoch: 1}); !errors.Is(err, ErrNotOwner) {
		t.Errorf("dropped from the shard of another node: %v", err)
	}
}

// TestSeveralRefuse: what would be in many shards is refused, and what a node that owns no
// data cannot list is empty.
func TestSeveralRefuse(t *testing.T) {
	b := threeShards(t, "a")
	leadShard(t, b, mem.New(), 0, nil)
	if _, err := b.Queues("/"); !errors.Is(err, ErrNotOwner) {
		t.Errorf("work queues: %v", err)
	}
	if all, err := b.AllQueues(); err != nil || len(all) != 0 {
		t.Errorf("all work queues: %v, %v", all, err)
	}
	if _, ok := b.InternalTopic(); ok {
		t.Error("there is an offsets topic")
	}
	if all, err := b.listings(); err != nil || len(all) != 0 {
		t.Errorf("groups: %v, %v", all, err)
	}
	if c, err := b.Coordination(); err != nil || len(c.Groups) != 0 {
		t.Errorf("coordination: %+v, %v", c, err)
	}
	if id, err := b.NewProducerID(t.Context()); err != nil || id < 0 {
		t.Errorf("producer id %d, %v", id, err)
	}
}

// TestDeletionMeetsSplit: a topic is deleted in a shard, too, that the cluster gets while the
// others drop the topic.
func TestDeletionMeetsSplit(t *testing.T) {
	b := threeShards(t, "a")
	leadShard(t, b, mem.New(), 0, nil)
	topic, err := b.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := make(map[uint32]bool)
	b.Follow(1, Node{Name: "z"}, "")
	b.Follow(2, Node{Name: "z"}, "")
	b.Follow(3, Node{Name: "z"}, "")
	b.o.Drop = func(_ context.Context, _ Node, id uint32, _ weir.TopicID, _ journal.Position) error {
		mu.Lock()
		defer mu.Unlock()
		asked[id] = true
		m, _ := b.Map()
		b.SetMap(m, 4)
		return nil
	}
	catalogue := b.table.Load().shards[0].own
	inBackground(t, func(ctx context.Context) { b.FinishDeletions(ctx, catalogue, func(string, error) {}) })
	if err := b.DeleteTopic(t.Context(), topic.ID); err != nil || !asked[3] {
		t.Errorf("%v; the shards that dropped it: %v", err, asked)
	}
}
