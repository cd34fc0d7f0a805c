package measure

import (
	"log/slog"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// TestMeter: the rate of a topic is that of the last minute, or of the part of it that
// is known.
func TestMeter(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := broker.New(broker.Options{})
	b.Lead(s)
	known, err := b.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	var m Meter
	now := time.Now()
	m.sample(b, now)
	if got := m.Rate(known.ID); got != 0 {
		t.Errorf("at first: %v", got)
	}
	for i := range 10 {
		write(t, b, known, 20)
		now = now.Add(10 * time.Second)
		m.sample(b, now)
		if got := m.Rate(known.ID); got != 2 {
			t.Errorf("sample %d: %v records a second", i, got)
		}
	}
	for range meterSamples {
		now = now.Add(10 * time.Second)
		m.sample(b, now)
	}
	if got := m.Rate(known.ID); got != 0 {
		t.Errorf("a minute after the last record: %v", got)
	}
	b.Follow(0, broker.Node{}, "")
	m.sample(b, now.Add(time.Second))
	if len(m.samples) != 0 {
		t.Error("a standby has samples")
	}
}

// write appends records to partition 0, and waits until they are durable.
func write(t *testing.T, b *broker.Broker, topic broker.Topic, n int) {
	t.Helper()
	builder := record.NewBuilder(record.None)
	for range n {
		if err := builder.Append(&record.Record{Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := builder.Build()
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	b.Append(broker.Append{Topic: topic.ID, Batch: batch}, func(_ int64, err error) { written <- err })
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}
