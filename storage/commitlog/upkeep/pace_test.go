package upkeep

import (
	"log/slog"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// A pass takes what lies in a number of slots, and leaves the younger ones.
func TestJobsAreBounded(t *testing.T) {
	s, topic := state.Empty(), state.Topic{ID: weir.TopicID{1}, Name: "t", Partitions: 1}
	apply := func(slot uint64, kind uint16, body []byte) {
		if err := s.Apply(journal.Position{Epoch: 1, Slot: slot}, journal.Entry{Kind: kind, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	apply(1, state.KindTopicCreated, state.EncodeTopicCreated(topic))
	for i := range int64(10) {
		b := recordtest.Batch("a")
		b.SetBaseOffset(i)
		b.SetLeaderEpoch(1)
		body := state.AppendRunHead(nil, &state.Run{Topic: topic.ID, Base: i, Epoch: 1, Batches: 1})
		at := len(body)
		body = append(body, b...)
		if err := state.SealRun(body, at); err != nil {
			t.Fatal(err)
		}
		apply(uint64(i)+2, state.KindRun, body)
	}
	m := New(t.Context(), Host{Bucket: mem.New(), View: func(look func(*state.State)) { look(s) }}, Options{})
	one := s.Topics[topic.ID].Parts[0].Index[0].Size
	for _, limit := range []tally{{1 << 30, 4}, {4 * int64(one), 100}} {
		jobs, left := m.jobs(limit)
		if len(jobs) != 1 || len(jobs[0].extents) != 4 || jobs[0].next != 4 || left != (tally{6 * int64(one), 6}) {
			t.Errorf("%d jobs, %d are left of 10", len(jobs), left.slots)
		}
	}
}

// The longer a slot had to wait for its turn without a pause, and the more is owed,
// the longer is the pause behind it.
func TestPause(t *testing.T) {
	now := time.Now()
	for _, c := range []struct{ strain, pauses float64 }{{0.5, 0}, {1, 0}, {1.2, 0.25}, {1.5, 1}, {1.8, 4}, {2, 1000}, {9, 1000}} {
		m := New(t.Context(), Host{Bucket: mem.New(), FillBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}, Options{})
		m.debt.applied.bytes = int64(c.strain * 8 * (32 << 20))
		p := NewPacer(m)
		p.open = now.Add(-10 * time.Millisecond)
		p.Leave(now)
		if got := p.Hold(now); got.Round(time.Millisecond/10) != time.Duration(c.pauses*float64(10*time.Millisecond)) {
			t.Errorf("strain %v: held for %v", c.strain, got)
		}
		if got := p.Hold(now.Add(patience)); got != 0 {
			t.Errorf("strain %v: held for %v after %v", c.strain, got, patience)
		}
	}
}
