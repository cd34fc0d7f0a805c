package broker

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestHidden: to each call that names a hidden topic there is none, and no call creates
// one.
func TestHidden(t *testing.T) {
	b := newBroker(Options{AutoCreate: true})
	log := lead(t, b, mem.New())
	const name = weir.VhostTopics + "x"
	topic, err := log.CreateTopicIn(t.Context(), weir.SliceOfVhost("x"), name)
	if err != nil {
		t.Fatal(err)
	}
	others := map[string]bool{ // these name no topic, or not by its id
		"Transactions": true, "Marks": true, "MarksHere": true, "Serves": true, "BufferState": true, "Retire": true, "Topics": true, "Topic": true, "CreateTopic": true, "Groups": true, "NewProducer": true,
	}
	tried := 0
	for call, do := range calls(b, topic.ID) {
		if others[call] {
			continue
		}
		if err := do(t.Context()); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("%s: %v", call, err)
		}
		tried++
	}
	if tried < 17 {
		t.Errorf("%d calls only", tried)
	}
	if _, err := b.DeleteRecords(t.Context(), topic.ID, 0, -1); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("delete records: %v", err)
	}
	source := &Source{Stream: weir.Stream{Gateway: "gw"}, First: 1, Last: 1, Row: weir.Row{Partitions: 1}}
	if _, err := appendTo(b, Append{Topic: topic.ID, Batch: batch(t, 1), Source: source}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("append of a gateway: %v", err)
	}
	if _, err := b.Topic(name); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("by name: %v", err)
	}
	if _, err := b.KnownTopic(name); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("known by name: %v", err)
	}
	if _, err := b.KnownTopicByID(topic.ID); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("known by id: %v", err)
	}
	if made, err := b.CreateTopic(t.Context(), name, 1, nil); !errors.Is(err, ErrInvalidTopic) || made.Name != "" {
		t.Errorf("create: %v, %v", made, err)
	}
	if _, err := b.CreateTopic(t.Context(), weir.VhostTopics+"y", 1, nil); !errors.Is(err, ErrInvalidTopic) {
		t.Errorf("create another one: %v", err)
	}
	if _, err := b.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	all, err := b.Topics()
	known, err2 := b.KnownTopics()
	if err != nil || err2 != nil || len(all) != 1 || len(known) != 1 || all[0].Name != "t" || known[0].Name != "t" {
		t.Errorf("listed: %v, %v, %v, %v", all, known, err, err2)
	}
	if _, end, err := log.Bounds(topic.ID, 0); end != 0 || err != nil {
		t.Errorf("the log's topic ends at %d, %v", end, err)
	}
	if made, found := log.Topic(weir.VhostTopics + "y"); found {
		t.Errorf("the log has %v", made)
	}
}
