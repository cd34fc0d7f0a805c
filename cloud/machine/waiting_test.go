package machine

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/stopwatch"
)

// TestTurn: changes come one after the other, and waiting for one's turn is no work.
func TestTurn(t *testing.T) {
	var turn Turn
	done := turn.Take(t.Context())
	var clock atomic.Int64
	var asked atomic.Int32
	stands := make(chan struct{})
	watch := stopwatch.New(func() time.Time {
		if asked.Add(1) == 2 { // the watch began, and now it stands
			close(stands)
		}
		return time.Unix(clock.Load(), 0)
	})
	go func() {
		<-stands
		clock.Add(60)
		done()
	}()
	turn.Take(stopwatch.With(t.Context(), watch))()
	if worked := watch.Lap(); worked != 0 || clock.Load() != 60 {
		t.Errorf("of %d s, %v are work", clock.Load(), worked)
	}
}
