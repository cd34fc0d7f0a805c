package commitlog

import (
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// TestDefaults: a default setting holds for topics without a setting of their own, from
// the next pass of the upkeep on.
func TestDefaults(t *testing.T) {
	b := mem.New()
	var clock atomic.Int64
	clock.Store(1_000_000)
	var defaults atomic.Pointer[map[string]string]
	defaults.Store(&map[string]string{})
	l := open(t, b, tiny, func(o *Options) {
		o.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
		o.Defaults = func() map[string]string { return *defaults.Load() }
	})
	create := func(name string, configs map[string]string) state.Topic {
		topic, err := l.CreateTopic(t.Context(), name, 1, configs)
		must(err)
		return topic
	}
	topics := []state.Topic{
		create("plain", nil), create("forever", map[string]string{"retention.ms": "-1"}),
		create("shorter", map[string]string{"retention.ms": "1000"}), create("compacted", map[string]string{"cleanup.policy": "compact"}),
		create("weir.gaps", nil),
	}
	queues, err := l.CreateTopicIn(t.Context(), 7, "weir.vhost.x")
	must(err)
	topics = append(topics, queues)
	for i := range 10 {
		for _, topic := range topics {
			builder := record.NewBuilder(record.None)
			must(builder.Append(&record.Record{Timestamp: clock.Load(), Key: fmt.Append(nil, "k", i), Value: []byte(strings.Repeat("v", 6000))}))
			out, err := builder.Build()
			must(err)
			appended(t, l, Append{Topic: topic.ID, Batch: out})
		}
		clock.Add(1000)
		maintained(t, l)
	}
	starts := func() map[string]bool { // of which topics records are gone
		maintained(t, l)
		maintained(t, l)
		gone := make(map[string]bool)
		for _, topic := range topics {
			start, _ := from(t, l, topic.ID, 0)
			gone[topic.Name] = start > 0
		}
		return gone
	}
	if got, want := starts(), map[string]bool{"plain": false, "forever": false, "shorter": true, "compacted": false, "weir.gaps": false, "weir.vhost.x": false}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	defaults.Store(&map[string]string{"retention.ms": "5000", "cleanup.policy": "compact"})
	if got, want := starts(), map[string]bool{"plain": false, "forever": false, "shorter": true, "compacted": false, "weir.gaps": false, "weir.vhost.x": false}; !maps.Equal(got, want) {
		t.Errorf("compacted by default: %v, want %v", got, want)
	}
	defaults.Store(&map[string]string{"retention.ms": "5000"})
	if got, want := starts(), map[string]bool{"plain": true, "forever": false, "shorter": true, "compacted": false, "weir.gaps": false, "weir.vhost.x": false}; !maps.Equal(got, want) {
		t.Errorf("5 s by default: %v, want %v", got, want)
	}
	sound(t, b)
}
