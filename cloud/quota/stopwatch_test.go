package quota

import (
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// Without a limit on time nothing is measured, and what waits need not know.
func TestNoStopwatch(t *testing.T) {
	q := start(t, Options{Now: func() time.Time { t.Error("the clock is looked at"); return time.Time{} }})
	limit(t, q, "u", "", Limits{Produce: 1})
	s := q.Stopwatch()
	ctx := stopwatch.With(t.Context(), s)
	stopwatch.Waiting(ctx)()
	stopwatch.Bounded(ctx)(0)
	if s != nil || s.Lap() != 0 || ctx != t.Context() {
		t.Error("a stopwatch without a limit on time")
	}
	if n := testing.AllocsPerRun(100, func() { stopwatch.Waiting(stopwatch.With(ctx, q.Stopwatch()))(); stopwatch.Bounded(ctx)(0) }); n != 0 {
		t.Errorf("%v allocations for nothing", n)
	}
	for i, to := range []Limits{{Request: 1}, {Request: 2, Produce: 1}, {Produce: 1}, {Request: 3}, {}} {
		limit(t, q, "u", "c", to)
		if measured := q.timed.Load() > 0; measured != (to.Request > 0) {
			t.Errorf("change %d: measured is %v", i, measured)
		}
	}
}

// A change that waits to be durable does not count for the request that wants it.
func TestSetWaits(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := New(Options{Now: func() time.Time { return now }})
	q.Serve(&machinetest.Log{Before: func() { now = now.Add(time.Minute) }})
	if err := q.Apply(kindLimits, []byte(`{"user":"u","request":1}`)); err != nil {
		t.Fatal(err)
	}
	s := q.Stopwatch()
	if err := q.Set(stopwatch.With(t.Context(), s), Entity{User: "v"}, func(l *Limits) { l.Request = 2 }, false); err != nil {
		t.Fatal(err)
	}
	if worked := s.Lap(); worked != 0 {
		t.Errorf("%v are counted", worked)
	}
}
