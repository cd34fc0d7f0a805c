package queue

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
)

// watched is an engine that calls after when it has applied an entry, before whoever wrote
// the entry is told.
type watched struct {
	*Engine
	after func(kind uint16)
}

func (w *watched) Apply(kind uint16, body []byte) error {
	err := w.Engine.Apply(kind, body)
	w.after(kind)
	return err
}

// TestReadyWhileSettling: a message that is gone does not count as leased any more, also
// before its client has the answer.
func TestReadyWhileSettling(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	e := New(Options{Log: quiet})
	var settles atomic.Int64
	w := &watched{Engine: e, after: func(kind uint16) {
		if kind != state.KindSettle {
			return
		}
		i, err := e.Queue(DefaultVhost, "q", "")
		if err != nil || i.Ready != 6 {
			t.Errorf("%d messages are ready, want 6: %v", i.Ready, err)
		}
		settles.Add(1)
	}}
	log, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet, Machines: []logstate.Machine{w}})
	if err != nil {
		t.Fatal(err)
	}
	e.Start(t.Context(), machine.WaitingLog{Log: log})
	s := &served{Engine: e, t: t, log: log}
	t.Cleanup(s.end)
	s.declare("q", nil)
	c := s.consume("q", 4)
	s.publish("q", numbered(10)...)
	got := c.expect("0", "1", "2", "3")
	for _, d := range got {
		if _, err := s.submit(Work{Settlements: []Settlement{{c.Queue(), []int64{d.ID}, Accept}}}); err != nil {
			t.Fatal(err)
		}
	}
	if settles.Load() < 4 {
		t.Errorf("%d entries were seen", settles.Load())
	}
}

// TestCounts: what goes in and out of a queue and its vhost is counted.
func TestCounts(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	c := s.consume("q", 2)
	s.publish("q", numbered(5)...)
	got := c.expect("0", "1")
	c.settle(Accept, got[0])
	c.expect("2")
	c.settle(Release, got[1])
	again := c.expect("1")
	want := Counts{Published: 5, Delivered: 4, Redelivered: 1, Accepted: 1}
	check := func(when string) {
		t.Helper()
		i, err := s.Queue(DefaultVhost, "q", "")
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.Counts(DefaultVhost)
		if i.Counts != want || all != want || err != nil {
			t.Errorf("%s: %+v, of the vhost %+v, %v; want %+v", when, i.Counts, all, err, want)
		}
	}
	check("delivered")
	c.settle(Reject, again...) // the consumer gets another one, and does not take it
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := s.submit(Work{Publications: []Publication{{Key: "nobody"}}}); err != nil {
		t.Fatal(err)
	}
	want.Got = 1
	check("asked for one")
}
