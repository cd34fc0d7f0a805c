package commitlog

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// TestAlike: topics that differ in dots and underscores only would be one in metrics.
// Topics that exist already stay, and Weir's own topics do not collide with others.
func TestAlike(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	old := createTopic(t, l, "a.b_c", 1)
	for name, refused := range map[string]bool{
		"a_b.c": true, "a.b.c": true, "a_b_c": true, "a.b-c": false, "a-b_c": false, "a.b_c.d": false, "a.b_": false,
	} {
		check := l.Alike(name)
		made, err := l.CreateTopic(ctx, name, 1, nil)
		if !refused {
			if err != nil || check != nil {
				t.Errorf("%s: %v, %v", name, err, check)
			}
			continue
		}
		if !errors.Is(err, state.ErrInvalidTopic) || !errors.Is(check, state.ErrInvalidTopic) || made.ID != (weir.TopicID{}) || !strings.Contains(err.Error(), "a.b_c") {
			t.Errorf("%s: %v, %v", name, err, check)
		}
	}
	if _, err := l.CreateTopic(ctx, "a.b_c", 1, nil); !errors.Is(err, ErrTopicExists) {
		t.Error(err)
	}
	if err := l.DeleteTopic(ctx, old.ID); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a_b_c", "weir_gaps", "weir.gaps", "weir.lost"} {
		createTopic(t, l, name, 1)
	}
	sound(t, b)
}

// TestCreateTopicIn: the partition lies in the slice, and the topic is like any other.
func TestCreateTopicIn(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	for _, slice := range []weir.Slice{0, 7, weir.Slices - 1} {
		name := fmt.Sprint("weir.vhost.", slice)
		topic, err := l.CreateTopicIn(t.Context(), slice, name)
		if err != nil || weir.SliceOf(topic.ID, 0) != slice || topic.Partitions != 1 || len(topic.Configs) > 0 {
			t.Fatalf("%+v, %v", topic, err)
		}
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(name)})
		if again, err := l.CreateTopicIn(t.Context(), slice, name); !errors.Is(err, ErrTopicExists) || again.ID != topic.ID {
			t.Errorf("%v, %v", again, err)
		}
		if got := readAll(t, l, topic.ID, 0); len(got) != 1 || got[0] != name {
			t.Error(got)
		}
	}
	if _, err := l.CreateTopicIn(t.Context(), 0, "weir.vhost./"); !errors.Is(err, state.ErrInvalidTopic) {
		t.Error(err)
	}
	must(l.Close())
	if r := sound(t, b); r.Records != 3 {
		t.Errorf("%d records were checked", r.Records)
	}
}

// TestAlikeInFlight: of two that are created at once one is refused.
func TestAlikeInFlight(t *testing.T) {
	l := open(t, mem.New())
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = l.CreateTopic(context.Background(), []string{"a.b", "a_b"}[i%2], 1, nil)
		})
	}
	wg.Wait()
	made, refused := 0, 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case errors.Is(err, state.ErrInvalidTopic):
			refused++
		case !errors.Is(err, ErrTopicExists):
			t.Error(err)
		}
	}
	if made != 1 || refused != 4 {
		t.Errorf("%d topics were created, %d refused: %v", made, refused, errs)
	}
}

func TestCatalogue(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b, func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(42) } })
	configs := map[string]string{"retention.ms": "-1", "cleanup.policy": "compact"}
	made, err := l.CreateTopic(ctx, "b", 3, configs)
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "b" || made.Partitions != 3 || made.Created != 42 || !reflect.DeepEqual(made.Configs, configs) || made.ID == (weir.TopicID{}) {
		t.Errorf("%+v", made)
	}
	if old, err := l.CreateTopic(ctx, "b", 1, nil); !errors.Is(err, ErrTopicExists) || old.ID != made.ID {
		t.Errorf("%+v %v", old, err)
	}
	a := createTopic(t, l, "a", 1)
	if got := l.Topics(); len(got) != 2 || got[0].ID != a.ID || got[1].ID != made.ID {
		t.Errorf("%+v", got)
	}
	for _, n := range []int32{-1, 2, 3, state.MaxPartitions + 1} {
		if err := l.GrowTopic(ctx, made.ID, n); !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("grow to %d: %v", n, err)
		}
	}
	if err := l.GrowTopic(ctx, made.ID, 5); err != nil {
		t.Fatal(err)
	}
	appended(t, l, Append{Topic: made.ID, Partition: 4, Batch: recordtest.Batch("x")})
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
		if _, err := l.CreateTopic(ctx, name, 1, nil); !errors.Is(err, state.ErrInvalidTopic) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, n := range []int32{0, -1, state.MaxPartitions + 1} {
		if _, err := l.CreateTopic(ctx, "t", n, nil); !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("%d: %v", n, err)
		}
	}
	for _, configs := range []map[string]string{{"k": strings.Repeat("v", 70_000)}, {"a": strings.Repeat("v", 40_000), "b": strings.Repeat("v", 40_000)}} {
		if _, err := l.CreateTopic(ctx, "t", 1, configs); !errors.Is(err, state.ErrInvalidTopic) {
			t.Error(err)
		}
	}
	if len(l.Topics()) != 0 {
		t.Error(l.Topics())
	}
	createTopic(t, l, strings.Repeat("x", 249), state.MaxPartitions)
}

// TestAlterTopic: new settings replace all old ones at once, and stay.
func TestAlterTopic(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	l := open(t, b)
	made, err := l.CreateTopic(ctx, "t", 1, map[string]string{"a": "1", "b": "2"})
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]string{"b": "3"}
	if err := l.AlterTopic(ctx, made.ID, configs); err != nil {
		t.Fatal(err)
	}
	configs["b"] = "changed by the caller"
	if err := l.GrowTopic(ctx, made.ID, 2); err != nil {
		t.Fatal(err)
	}
	if made.Configs["a"] != "1" || made.Configs["b"] != "2" {
		t.Errorf("who had the topic has %v now", made.Configs)
	}
	for _, again := range []struct {
		what string
		open func() *Log
	}{
		{"in running", func() *Log { return l }},
		{"after recovery", func() *Log { return open(t, b) }},
		{"from a checkpoint", func() *Log { l := open(t, b); maintained(t, l); return open(t, b) }},
	} {
		l := again.open()
		if got, _ := l.Topic("t"); got.Partitions != 2 || !reflect.DeepEqual(got.Configs, map[string]string{"b": "3"}) {
			t.Errorf("%s: %+v", again.what, got)
		}
	}
	l = open(t, b)
	if err := l.AlterTopic(ctx, made.ID, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := l.TopicByID(made.ID); len(got.Configs) != 0 {
		t.Errorf("%+v", got)
	}
	if err := l.AlterTopic(ctx, made.ID, map[string]string{"k": strings.Repeat("v", 70_000)}); !errors.Is(err, state.ErrInvalidTopic) {
		t.Error(err)
	}
	if err := l.AlterTopic(ctx, weir.TopicID{9}, nil); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	sound(t, b)
}

// TestAlteredRetention: the upkeep uses the current settings.
func TestAlteredRetention(t *testing.T) {
	ctx := context.Background()
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 1)
	end := int64(0)
	for _, step := range []struct {
		configs map[string]string
		start   int64 // after a pass; -1: the end
	}{
		{nil, 0},
		{map[string]string{"retention.bytes": "0", "cleanup.policy": "compact"}, 0},
		{map[string]string{"retention.bytes": "1000000"}, 0},
		{map[string]string{"retention.bytes": "0"}, -1},
		{map[string]string{"retention.ms": "1"}, -1},
		{nil, 5},
	} {
		if err := l.AlterTopic(ctx, topic.ID, step.configs); err != nil {
			t.Fatal(err)
		}
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("v")})
		end++
		maintained(t, l)
		want := step.start
		if want < 0 {
			want = end
		}
		if start, _, err := l.Bounds(topic.ID, 0); err != nil || start != want {
			t.Errorf("with %v: begins at %d of %d, want %d; %v", step.configs, start, end, want, err)
		}
	}
}

// TestSize: what a partition takes, in slots and in segments.
func TestSize(t *testing.T) {
	l := open(t, mem.New())
	topic := createTopic(t, l, "t", 2)
	data := recordtest.Batch(strings.Repeat("x", 1000))
	for range 3 {
		appended(t, l, Append{Topic: topic.ID, Batch: data})
	}
	for _, where := range []string{"slots", "segments"} {
		size, err := l.Size(topic.ID, 0)
		if err != nil || size < 3000 || size > 4000 {
			t.Errorf("in %s: %d bytes, %v", where, size, err)
		}
		maintained(t, l)
	}
	if size, err := l.Size(topic.ID, 1); size != 0 || err != nil {
		t.Errorf("empty: %d bytes, %v", size, err)
	}
	if _, err := l.Size(topic.ID, 2); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
}

// Of many callers that create a topic at once, one creates it, and the others get its
// id.
func TestCreateTopicRace(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	ids := make([]weir.TopicID, 20)
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
		if id != ids[0] || id == (weir.TopicID{}) {
			t.Errorf("ids %v and %v", id, ids[0])
		}
	}
	sound(t, b)
}

func TestCluster(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	if _, found, err := identity.ReadCluster(ctx, b); found || err != nil {
		t.Fatal(found, err)
	}
	l := open(t, b)
	c, found, err := identity.ReadCluster(ctx, b)
	if !found || err != nil || c.ID != l.ClusterID() || len(c.ID) != 22 || c.Format != identity.Level || c.Shards != 1 || c.Slices != weir.Slices {
		t.Errorf("%+v %v %v", c, found, err)
	}
	if again := open(t, b); again.ClusterID() != c.ID {
		t.Error(again.ClusterID())
	}
	if _, err := Open(ctx, options(b, func(o *Options) { o.Shard = weir.MaxShards })); err == nil {
		t.Error("opened a shard that no cluster has")
	}
	if _, err := Open(ctx, options(b, func(o *Options) { o.Shards = 5 })); !errors.Is(err, identity.ErrShards) {
		t.Errorf("opened a cluster of one shard as one of five: %v", err)
	}
	for raw, want := range map[string]error{
		`{"id":"x","format":3,"shards":1}`: state.ErrFormat,
		`{"id":"x","format":1,"shards":0}`: state.ErrCorrupt,
		`{"id":"","format":1,"shards":1}`:  state.ErrCorrupt,
		`nonsense`:                         state.ErrCorrupt,
		`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":2,"slices":512,"shards":1,"crc":"b30ac381"}`:  state.ErrFormat,
		`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":2,"slices":1024,"shards":1,"crc":"b30ac381"}`: state.ErrCorrupt,
		`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":2,"shards":1,"crc":"f41120f8"}`:               state.ErrFormat,
		`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":2,"slices":1024,"shards":1}`:                  state.ErrCorrupt,
	} {
		b := mem.New()
		if err := b.Create(ctx, identity.Key, []byte(raw)); err != nil {
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
