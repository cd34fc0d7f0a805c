package measure

import (
	"context"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/weir"
)

const (
	meterStep    = 10 * time.Second
	meterSamples = 7 // a minute from the first to the last
)

// Meter measures how fast topics grow, while this node owns them.
type Meter struct {
	mu      sync.Mutex // guards samples
	samples []sample   // the oldest first, at most meterSamples
}

// sample is the end offsets of all topics at one time, in records.
type sample struct {
	at   time.Time
	ends map[weir.TopicID]int64
}

// Run measures until ctx ends.
func (m *Meter) Run(ctx context.Context, b *broker.Broker) {
	ticker := time.NewTicker(meterStep)
	defer ticker.Stop()
	for {
		m.sample(b, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sample reads the end offsets of the topics. If this node does not own the shard, the
// earlier samples are dropped.
func (m *Meter) sample(b *broker.Broker, now time.Time) {
	ends := make(map[weir.TopicID]int64)
	topics, err := b.Topics()
	for _, t := range topics {
		for p := range t.Partitions {
			_, end, err := b.Bounds(t.ID, p)
			if err != nil {
				continue // deleted meanwhile, or this node has lost the shard
			}
			ends[t.ID] += end
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.samples = nil
		return
	}
	if len(m.samples) == meterSamples {
		m.samples = append(m.samples[:0], m.samples[1:]...)
	}
	m.samples = append(m.samples, sample{now, ends})
}

// Rate returns how many records a second a topic got over the last minute, or over the
// part of it that is known. A topic that did not exist at first began at 0.
func (m *Meter) Rate(topic weir.TopicID) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return 0
	}
	return max(0, float64(last.ends[topic]-first.ends[topic])/took)
}
