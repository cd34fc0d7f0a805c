package stopwatch

import (
	"context"
	"testing"
	"time"
)

func TestStopwatch(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	pass := func(ms int) { now = now.Add(time.Duration(ms) * time.Millisecond) }
	s := New(func() time.Time { return now })
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
