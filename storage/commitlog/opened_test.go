package commitlog

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// openShard opens the log of a shard in a cluster with the catalogue and two others.
func openShard(t testing.TB, b storage.Bucket, shard uint32, change ...func(*Options)) *Log {
	t.Helper()
	return open(t, b, append(change, func(o *Options) { o.Shard, o.Shards = shard, 3 })...)
}

// here is a partition of a topic whose slice is in a shard, with so many others.
func here(topic weir.TopicID, shard uint32) int32 {
	where := weir.FirstMap(3)
	for p := int32(0); ; p++ {
		if where[weir.SliceOf(topic, p)] == shard {
			return p
		}
	}
}

// A batch can follow the opening of its topic at once. What the catalogue says later is
// there after a restart, with and without a checkpoint.
func TestOpenTopic(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	catalogue, l := openShard(t, b, 0), openShard(t, b, 1)
	topic := createTopic(t, catalogue, "t", 2)
	p := here(topic.ID, 1)
	opened := make(chan error, 1)
	l.SubmitOpen(t.Context(), topic, journal.Position{Epoch: 1, Slot: 2}, func(err error) { opened <- err })
	sent := send(l, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch("a")})
	if r := <-sent; <-opened != nil || r.err != nil {
		t.Fatal(r.err)
	}
	must(catalogue.GrowTopic(ctx, topic.ID, 4))
	grown, _ := catalogue.TopicByID(topic.ID)
	must(l.OpenTopic(ctx, grown, journal.Position{Epoch: 1, Slot: 3}))
	must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1})) // late, and changes nothing
	if got, _ := l.Topic("t"); got.Partitions != 4 || l.CataloguePosition() != (journal.Position{Epoch: 1, Slot: 3}) {
		t.Errorf("%+v at %v", got, l.CataloguePosition())
	}
	before := l.Changes()
	must(l.OpenTopic(ctx, grown, journal.Position{Epoch: 1, Slot: 9}))
	if l.Changes() != before || l.CataloguePosition().Slot == 9 {
		t.Error("the same topic at a later position was logged again")
	}
	for range 2 {
		must(l.Close())
		l = openShard(t, b, 1)
		if got, _ := l.TopicByID(topic.ID); got.Partitions != 4 || l.CataloguePosition().Slot != 3 || readAll(t, l, topic.ID, p)[0] != "a" {
			t.Errorf("after a restart: %+v at %v", got, l.CataloguePosition())
		}
		must(l.Maintain(t.Context()))
	}
	if keys, err := b.List(ctx, "0001/checkpoint/", "", 1); err != nil || len(keys) == 0 {
		t.Errorf("there was no checkpoint: %v", err)
	}
	sound(t, b)
}

// What must not be opened is refused, and so is what needs a later format level.
func TestOpenTopicRefused(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	l := openShard(t, b, 1)
	at := func(slot uint64) journal.Position { return journal.Position{Epoch: 1, Slot: slot} }
	topic := state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 3}
	must(l.OpenTopic(ctx, topic, at(5)))
	changed := func(change func(*state.Topic)) state.Topic {
		c := topic
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		topic state.Topic
		slot  uint64
		want  error
	}{
		"fewer partitions": {changed(func(t *state.Topic) { t.Partitions = 2 }), 9, ErrInvalidPartitions},
		"no partitions":    {changed(func(t *state.Topic) { t.Partitions = 0 }), 9, ErrInvalidPartitions},
		"another name":     {changed(func(t *state.Topic) { t.Name = "u" }), 9, state.ErrInvalidTopic},
		"a bad name":       {changed(func(t *state.Topic) { t.Name = "u/v" }), 9, state.ErrInvalidTopic},
		"a taken name":     {changed(func(t *state.Topic) { t.ID[0] = 2 }), 9, ErrTopicExists},
		"too many settings": {changed(func(t *state.Topic) {
			t.Configs = map[string]string{"k": strings.Repeat("x", maxConfigs)}
		}), 9, state.ErrInvalidTopic},
	} {
		if err := l.OpenTopic(ctx, c.topic, at(c.slot)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.OpenTopic(ctx, topic, journal.Position{}); !errors.Is(err, state.ErrInvalidTopic) {
		t.Errorf("without a position: %v", err)
	}
	must(l.Close())
	if err := l.OpenTopic(ctx, topic, at(9)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	old := mem.New()
	must(old.Create(ctx, identity.Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
	l = open(t, old)
	_, err := l.DeletingTopic(ctx, topic.ID)
	for _, err := range []error{err, l.OpenTopic(ctx, topic, at(5)), l.DropTopic(ctx, topic.ID, at(5))} {
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("at level 1: %v", err)
		}
	}
}

// A topic is deleted in two steps, over a change of both owners.
func TestDeleteInSteps(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	catalogue, l := openShard(t, b, 0), openShard(t, b, 1)
	topic := createTopic(t, catalogue, "t", 2)
	must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1}))
	appended(t, l, Append{Topic: topic.ID, Partition: here(topic.ID, 1), Batch: recordtest.Batch("a")})

	at, err := catalogue.DeletingTopic(ctx, topic.ID)
	must(err)
	for range 2 {
		if again, err := catalogue.DeletingTopic(ctx, topic.ID); !errors.Is(err, ErrTopicDeleting) || again != at || at.IsZero() {
			t.Errorf("again at %v, not %v: %v", again, at, err)
		}
		if _, found := catalogue.Topic("t"); found || len(catalogue.Topics()) > 0 {
			t.Error("a topic that is being deleted is given out")
		}
		if all := catalogue.Deletions(); len(all) != 1 || all[0].Topic.ID != topic.ID || all[0].At != at {
			t.Errorf("deletions %+v", all)
		}
		_, err := catalogue.CreateTopic(ctx, "t", 1, nil)
		if !errors.Is(err, ErrTopicDeleting) {
			t.Errorf("the name is free: %v", err)
		}
		for _, err := range []error{catalogue.GrowTopic(ctx, topic.ID, 5), catalogue.AlterTopic(ctx, topic.ID, nil)} {
			if !errors.Is(err, ErrUnknownTopic) {
				t.Errorf("it is changed: %v", err)
			}
		}
		must(catalogue.Close())
		catalogue = openShard(t, b, 0)
	}
	must(l.DropTopic(ctx, topic.ID, at))
	must(l.DropTopic(ctx, topic.ID, at))
	must(l.Close())
	l = openShard(t, b, 1)
	if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("b")}); !errors.Is(r.err, ErrUnknownTopic) {
		t.Errorf("appended to a dropped topic: %v", r.err)
	}
	if err := l.OpenTopic(ctx, topic, journal.Position{Epoch: 9, Slot: 1}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("opened a dropped topic: %v", err)
	}
	must(catalogue.DeleteTopic(ctx, topic.ID))
	next := createTopic(t, catalogue, "t", 1)
	must(l.OpenTopic(ctx, next, journal.Position{Epoch: 9, Slot: 1}))

	none := func(weir.TopicID) bool { return false }
	must(l.ForgetDropped(ctx, at, none)) // not yet
	must(l.ForgetDropped(ctx, journal.Position{Epoch: 9, Slot: 2}, func(id weir.TopicID) bool { return id == topic.ID }))
	if l.CataloguePosition().Slot == 2 {
		t.Error("forgotten while the catalogue has it")
	}
	must(l.ForgetDropped(ctx, journal.Position{Epoch: 9, Slot: 2}, none))
	if l.CataloguePosition() != (journal.Position{Epoch: 9, Slot: 2}) || len(l.state.Dropped) > 0 {
		t.Errorf("at %v %v is left", l.CataloguePosition(), l.state.Dropped)
	}
	sound(t, b)
}

// A topic that the catalogue had once must not come back when the shard has forgotten that
// it was dropped: it would keep its name from the next one. That holds for the next
// owner, too.
func TestOpenedLate(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	l := openShard(t, b, 1)
	at := func(slot uint64) journal.Position { return journal.Position{Epoch: 1, Slot: slot} }
	old := state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 2}
	must(l.OpenTopic(ctx, old, at(1)))
	must(l.DropTopic(ctx, old.ID, at(2)))
	must(l.ForgetDropped(ctx, at(4), func(weir.TopicID) bool { return false }))
	if err := l.OpenTopic(ctx, old, at(3)); !errors.Is(err, ErrBehind) {
		t.Errorf("opened as of a position before the one at which it is forgotten: %v", err)
	}
	next := state.Topic{ID: weir.TopicID{2}, Name: "t", Partitions: 2}
	must(l.OpenTopic(ctx, next, at(4)))
	must(l.OpenTopic(ctx, next, at(3))) // late, but it is there
	must(l.Close())
	l = openShard(t, b, 1)
	if err := l.OpenTopic(ctx, state.Topic{ID: weir.TopicID{3}, Name: "u", Partitions: 2}, at(3)); !errors.Is(err, ErrBehind) {
		t.Errorf("opened by the next owner: %v", err)
	}
	must(l.OpenTopic(ctx, state.Topic{ID: weir.TopicID{3}, Name: "u", Partitions: 2}, at(4)))
	sound(t, b)
}

// Two requests for one topic in one slot: the second one sees what the first one does.
func TestOpenedSpeculation(t *testing.T) {
	b := mem.New()
	l := openShard(t, b, 1)
	topic := state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 3}
	at := journal.Position{Epoch: 1, Slot: 5}
	answers := make(chan error, 3)
	l.mu.Lock() // admission waits, so all are in one slot or the one behind it
	l.SubmitOpen(t.Context(), topic, at, func(err error) { answers <- err })
	l.SubmitOpen(t.Context(), topic, at, func(err error) { answers <- err })
	other := topic
	other.ID[0] = 2
	l.SubmitOpen(t.Context(), other, at, func(err error) { answers <- err })
	l.mu.Unlock()
	for i, want := range []error{nil, nil, ErrTopicExists} {
		if err := <-answers; !errors.Is(err, want) {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	sound(t, b)
}

// Whoever waits for room in line leaves when its ctx ends. Others wait on.
func TestFullLine(t *testing.T) {
	l := openShard(t, mem.New(), 1)
	filler := request{size: l.line.limit, admit: func(*builder) {}, refuse: func(error) {}}
	l.mu.Lock()
	must(l.line.push(t.Context(), filler))
	must(l.line.push(t.Context(), filler)) // the committer has the first one, and waits
	topic := state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 3}
	at := journal.Position{Epoch: 1, Slot: 5}
	opened := make(chan error, 1)
	go l.SubmitOpen(t.Context(), topic, at, func(err error) { opened <- err })
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error)
	go func() { answers <- l.OpenTopic(ctx, topic, at) }()
	go func() { answers <- l.DropTopic(ctx, weir.TopicID{2}, at) }()
	go func() { answers <- l.ProposeAll(ctx, nil, &TransactionEnd{Producer: 1}) }()
	cancel()
	for range 3 {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	_, bytes, _ := l.line.state()
	if l.mu.Unlock(); bytes != l.line.limit+requestOverhead {
		t.Errorf("%d bytes are in line", bytes)
	}
	must(<-opened)
}

// Check compares the shards with the catalogue. What is newer than what it has read of
// that is no damage.
func TestCheckAcross(t *testing.T) {
	ctx := context.Background()
	next := journal.Position{Epoch: 1, Slot: 100}
	for name, c := range map[string]struct {
		do   func(catalogue, l *Log, topic state.Topic)
		want string
	}{
		"in order": {func(_, l *Log, topic state.Topic) { must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1})) }, ""},
		"newer": {func(_, l *Log, topic state.Topic) {
			topic.ID[0]++
			must(l.OpenTopic(ctx, topic, next))
			must(l.DropTopic(ctx, weir.TopicID{1}, next))
		}, ""},
		"unknown": {func(_, l *Log, topic state.Topic) {
			topic.ID[0]++
			must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1}))
		}, "the catalogue does not have it"},
		"more partitions": {func(_, l *Log, topic state.Topic) {
			topic.Partitions++
			must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1}))
		}, "it has 3 partitions"},
		"dropped alive": {func(_, l *Log, topic state.Topic) {
			must(l.DropTopic(ctx, topic.ID, journal.Position{Epoch: 1, Slot: 1}))
		}, "the catalogue has it as"},
		"another shard's": {func(_, l *Log, topic state.Topic) {
			must(l.OpenTopic(ctx, topic, journal.Position{Epoch: 1, Slot: 1}))
			appended(t, l, Append{Topic: topic.ID, Partition: here(topic.ID, 2), Batch: recordtest.Batch("a")})
		}, "belongs to shard 2"},
	} {
		b := mem.New()
		catalogue, l := openShard(t, b, 0), openShard(t, b, 1)
		c.do(catalogue, l, createTopic(t, catalogue, "t", 2))
		r, err := check.Check(ctx, b, nil)
		must(err)
		if got := strings.Join(r.Problems, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
		if name == "in order" && (r.Topics != 1 || r.Partitions != 2) {
			t.Errorf("%d topics, %d partitions", r.Topics, r.Partitions)
		}
	}
}

// A repair finds out how many shards there were, and gives a recovered topic its name
// back when it is opened.
func TestRepairOfShards(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	catalogue, l := openShard(t, b, 0), openShard(t, b, 1)
	topic := createTopic(t, catalogue, "t", 2)
	at := journal.Position{Epoch: 1, Slot: 1}
	must(l.OpenTopic(ctx, topic, at))
	p := here(topic.ID, 1)
	appended(t, l, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch("a")})
	must(errors.Join(catalogue.Close(), l.Close()))
	must(b.Delete(ctx, identity.Key, journal.SlotKey(1, journal.Position{Epoch: 1, Slot: 1})))

	for shard := range uint32(2) {
		must(Repair(ctx, options(b, func(o *Options) { o.Shard = shard }), func(string) {}))
	}
	c, _, err := identity.ReadCluster(ctx, b)
	if err != nil || c.Shards != 3 || c.ID != catalogue.ClusterID() {
		t.Fatalf("%+v, %v", c, err)
	}
	l = openShard(t, b, 1)
	if got, _ := l.TopicByID(topic.ID); !got.Recovered() {
		t.Fatalf("%+v", got)
	}
	must(l.OpenTopic(ctx, topic, at))
	if got, found := l.Topic("t"); !found || got.ID != topic.ID || len(l.Topics()) != 1 {
		t.Errorf("%+v", l.Topics())
	}
	if values := readAll(t, l, topic.ID, p); len(values) != 1 || values[0] != "a" {
		t.Errorf("left of the records: %q", values)
	}
}
