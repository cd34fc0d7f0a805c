package commitlog

import (
	"cmp"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// TestGrowth: one who reads all partitions is told of those that have changed, once each,
// until it stops.
func TestGrowth(t *testing.T) {
	l := open(t, mem.New())
	a, b := createTopic(t, l, "a", 2), createTopic(t, l, "b", 1)
	g, other := NewGrowth(), NewGrowth()
	stop, stopOther := l.Notify(g), l.Notify(other)
	add := func(topic weir.TopicID, partition int32) {
		appended(t, l, Append{Topic: topic, Partition: partition, Batch: recordtest.Batch("x")})
	}
	expect := func(what string, g *Growth, want ...state.Place) {
		t.Helper()
		<-g.C()
		got := g.Take(nil)
		slices.SortFunc(got, func(x, y state.Place) int {
			return cmp.Or(slices.Compare(x.Topic[:], y.Topic[:]), cmp.Compare(x.Partition, y.Partition))
		})
		slices.SortFunc(want, func(x, y state.Place) int {
			return cmp.Or(slices.Compare(x.Topic[:], y.Topic[:]), cmp.Compare(x.Partition, y.Partition))
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v changed, want %v", what, got, want)
		}
	}
	add(a.ID, 1)
	add(a.ID, 1)
	add(b.ID, 0)
	expect("appends", g, state.Place{Topic: a.ID, Partition: 1}, state.Place{Topic: b.ID})
	if again := g.Take(nil); len(again) > 0 {
		t.Errorf("%v is told twice", again)
	}
	if err := l.DeleteTopic(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	expect("a topic that was deleted", g, state.Place{Topic: b.ID})
	stop()
	add(a.ID, 0)
	expect("another reader", other, state.Place{Topic: a.ID}, state.Place{Topic: a.ID, Partition: 1}, state.Place{Topic: b.ID})
	stopOther()
	add(a.ID, 0)
	for _, g := range []*Growth{g, other} {
		select {
		case <-g.C():
			t.Error("somebody is told after stop")
		default:
		}
	}
}
