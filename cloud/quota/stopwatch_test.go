package quota

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine/machinetest"
)

func TestStopwatch(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := start(t, Options{Now: func() time.Time { return now }})
	pass := func(ms int) { now = now.Add(time.Duration(ms) * time.Millisecond) }
	limit(t, q, "u", "", Limits{Request: 1})
	s := q.Stopwatch()
	ctx := context.WithoutCancel(With(t.Context(), s))
	lap := func(what string, want int) {
		t.Helper()
		if got := s.Lap(); got != time.Duration(want)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", what, got, want)
		}
	}
	pass(3)
	lap("work", 3)
	lap("nothing", 0)
	pass(1)
	ended := Waiting(ctx)
	pass(10)
	within := Waiting(ctx)
	pass(20)
	within()
	pass(40)
	ended()
	pass(2)
	lap("waits within waits", 3)
	for _, c := range []struct{ passes, most, want int }{{5, 9, 5}, {5, 4, 4}} {
		pass(1)
		bounded := Bounded(ctx)
		pass(c.passes)
		bounded(time.Duration(c.most) * time.Millisecond)
		pass(2)
		lap("bounded", 1+c.want+2)
	}
	pass(-7)
	lap("a clock that goes back", 0)
	pass(4)
	lap("and on", 4)
}

// Without a limit on time nothing is measured, and what waits need not know.
func TestNoStopwatch(t *testing.T) {
	q := start(t, Options{Now: func() time.Time { t.Error("the clock is looked at"); return time.Time{} }})
	limit(t, q, "u", "", Limits{Produce: 1})
	s := q.Stopwatch()
	ctx := With(t.Context(), s)
	Waiting(ctx)()
	Bounded(ctx)(0)
	if s != nil || s.Lap() != 0 || ctx != t.Context() {
		t.Error("a stopwatch without a limit on time")
	}
	if n := testing.AllocsPerRun(100, func() { Waiting(With(ctx, q.Stopwatch()))(); Bounded(ctx)(0) }); n != 0 {
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
	if err := q.Set(With(t.Context(), s), Entity{User: "v"}, func(l *Limits) { l.Request = 2 }, false); err != nil {
		t.Fatal(err)
	}
	if worked := s.Lap(); worked != 0 {
		t.Errorf("%v are counted", worked)
	}
}
