package quota

import (
	"testing"
	"time"

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
