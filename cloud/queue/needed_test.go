package queue

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
)

// serveSmall is serve with a log that has small segments, and is told what is needed.
func serveSmall(t *testing.T, bucket storage.Bucket) *served {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e := New(Options{Log: quiet})
	log, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: "a", Log: quiet, Machines: []logstate.Machine{e},
		Needed: e.Needed, Upkeep: upkeep.Options{Bytes: 64 << 10, Segment: 32 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	e.Start(t.Context(), machine.WaitingLog{Log: log})
	s := &served{e, t, log}
	t.Cleanup(s.end)
	if err := e.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// size returns the bytes that the messages of the default vhost take at rest.
func (s *served) size() int64 {
	s.t.Helper()
	for range 2 {
		if err := s.log.Maintain(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	s.mu.Lock()
	topic := s.state.Vhost(DefaultVhost).Topic
	s.mu.Unlock()
	n, err := s.log.Size(topic, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// TestOldMessages: messages that wait for a long time, and those that are delayed, are
// there, and hold nothing that came after them and is gone.
func TestOldMessages(t *testing.T) {
	bucket := mem.New()
	s := serveSmall(t, bucket)
	s.declare("old", nil)
	s.declare("priorities", func(set *state.Settings) { set.MaxPriority = 3 })
	s.declare("young", nil)
	s.publish("old", "first")
	full := strings.Repeat("x", 2000)
	for i := range 300 {
		s.publish("young", full)
		if i%100 == 50 {
			s.publish("old", fmt.Sprint("old ", i))
			s.publish("priorities", fmt.Sprint("priority ", i))
		}
	}
	before := s.size()
	if n, err := s.Purge(t.Context(), DefaultVhost, "young", ""); n != 300 || err != nil {
		t.Fatalf("%d were purged, %v", n, err)
	}
	if after := s.size(); before < 600_000 || after > before/5 {
		t.Errorf("messages take %d bytes, %d before most of them went", after, before)
	}
	s.end()
	s = serveSmall(t, bucket)
	for queue, want := range map[string][]string{"old": {"first", "old 50", "old 150", "old 250"}, "priorities": {"priority 50", "priority 150", "priority 250"}} {
		got, err := s.Peek(t.Context(), DefaultVhost, queue, "", 0, 10)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d messages, %v", queue, len(got), err)
		}
		for i := range got {
			if string(got[i].Body) != want[i] {
				t.Errorf("%s: %q, want %q", queue, got[i].Body, want[i])
			}
		}
	}
}
