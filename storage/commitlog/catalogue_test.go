package commitlog

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/mem"
)

func TestCatalogue(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b, func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(42) } })
	configs := map[string]string{"retention.ms": "-1", "cleanup.policy": "compact"}
	made, err := l.CreateTopic(ctx, "b", 3, configs)
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "b" || made.Partitions != 3 || made.Created != 42 || !reflect.DeepEqual(made.Configs, configs) || made.ID == (TopicID{}) {
		t.Errorf("%+v", made)
	}
	if old, err := l.CreateTopic(ctx, "b", 1, nil); !errors.Is(err, ErrTopicExists) || old.ID != made.ID {
		t.Errorf("%+v %v", old, err)
	}
	a := createTopic(t, l, "a", 1)
	if got := l.Topics(); len(got) != 2 || got[0].ID != a.ID || got[1].ID != made.ID {
		t.Errorf("%+v", got)
	}
	for _, n := range []int32{-1, 2, 3, MaxPartitions + 1} {
		if err := l.GrowTopic(ctx, made.ID, n); !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("grow to %d: %v", n, err)
		}
	}
	if err := l.GrowTopic(ctx, made.ID, 5); err != nil {
		t.Fatal(err)
	}
	appended(t, l, Append{Topic: made.ID, Partition: 4, Batch: batch("x")})
	if err := l.DeleteTopic(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{l.DeleteTopic(ctx, a.ID), l.GrowTopic(ctx, a.ID, 9)} {
		if !errors.Is(err, ErrUnknownTopic) {
			t.Error(err)
		}
	}
	if _, ok := l.Topic("a"); ok {
		t.Error("the topic is still there")
	}
	again := createTopic(t, l, "a", 2)
	if again.ID == a.ID {
		t.Error("a topic id came back")
	}
	for range 2 {
		got, ok := l.Topic("b")
		byID, ok2 := l.TopicByID(made.ID)
		if made.Partitions = 5; !ok || !ok2 || !reflect.DeepEqual(got, made) || !reflect.DeepEqual(byID, made) {
			t.Errorf("%+v %+v, want %+v", got, byID, made)
		}
		l = open(t, b)
	}
	sound(t, b)
}

func TestInvalidTopics(t *testing.T) {
	ctx := context.Background()
	l := open(t, mem.New())
	for _, name := range []string{"", ".", "..", "a b", "ä", "a/b", strings.Repeat("x", 250)} {
		if _, err := l.CreateTopic(ctx, name, 1, nil); !errors.Is(err, ErrInvalidTopic) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, n := range []int32{0, -1, MaxPartitions + 1} {
		if _, err := l.CreateTopic(ctx, "t", n, nil); !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("%d: %v", n, err)
		}
	}
	for _, configs := range []map[string]string{{"k": strings.Repeat("v", 70_000)}, {"a": strings.Repeat("v", 40_000), "b": strings.Repeat("v", 40_000)}} {
		if _, err := l.CreateTopic(ctx, "t", 1, configs); !errors.Is(err, ErrInvalidTopic) {
			t.Error(err)
		}
	}
	if len(l.Topics()) != 0 {
		t.Error(l.Topics())
	}
	createTopic(t, l, strings.Repeat("x", 249), MaxPartitions)
}

// Of many who create a topic at once one does, and the others learn its id.
func TestCreateTopicRace(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	ids := make([]TopicID, 20)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			topic, err := l.CreateTopic(context.Background(), "t", 1, nil)
			if err != nil && !errors.Is(err, ErrTopicExists) {
				t.Error(err)
			}
			ids[i] = topic.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == (TopicID{}) {
			t.Errorf("ids %v and %v", id, ids[0])
		}
	}
	sound(t, b)
}

func TestCluster(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	if _, found, err := ReadCluster(ctx, b); found || err != nil {
		t.Fatal(found, err)
	}
	l := open(t, b)
	c, found, err := ReadCluster(ctx, b)
	if !found || err != nil || c.ID != l.ClusterID() || len(c.ID) != 22 || c.Format != 1 || c.Shards != 1 {
		t.Errorf("%+v %v %v", c, found, err)
	}
	if again := open(t, b); again.ClusterID() != c.ID {
		t.Error(again.ClusterID())
	}
	if _, err := Open(ctx, options(b, func(o *Options) { o.Shard = 1 })); err == nil {
		t.Error("opened a shard that the cluster does not have")
	}
	for raw, want := range map[string]error{
		`{"id":"x","format":2,"shards":1}`: ErrFormat,
		`{"id":"x","format":1,"shards":0}`: ErrCorrupt,
		`{"id":"","format":1,"shards":1}`:  ErrCorrupt,
		`nonsense`:                         ErrCorrupt,
	} {
		b := mem.New()
		if err := b.Create(ctx, clusterKey, []byte(raw)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(ctx, options(b)); !errors.Is(err, want) {
			t.Errorf("%s: %v", raw, err)
		}
		if keys, _ := b.List(ctx, "0000/", "", 1); len(keys) > 0 {
			t.Errorf("%s: claimed all the same", raw)
		}
	}
}
