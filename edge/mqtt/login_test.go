package mqtt

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// TestPasswordsInLine: one password is checked at a time, an address that has
// many of them delays another by one, and wrong ones cost their address a
// growing pause.
func TestPasswordsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		var running, most atomic.Int32
		bcrypt := func(right bool) func() bool {
			return func() bool {
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Second)
				running.Add(-1)
				return right
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wrong, busy, late atomic.Int32
		for range 100 {
			go func() {
				right, err := l.check(ctx, budget.Address(peer(1)), bcrypt(false))
				switch {
				case errors.Is(err, errBusy):
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				case err == nil && !right:
					wrong.Add(1)
				default:
					t.Errorf("%v, %v", right, err)
				}
			}()
		}
		synctest.Wait()
		begin := time.Now()
		if right, err := l.check(ctx, budget.Address(peer(2)), bcrypt(true)); err != nil || !right {
			t.Errorf("%v, %v", right, err)
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("another address waits %v", d)
		}
		time.Sleep(40 * time.Second)
		if w := wrong.Load(); w < 3 || w > 6 || busy.Load() != 100-maxInLine || late.Load() != maxInLine-w {
			t.Errorf("%d wrong, %d busy, %d late", w, busy.Load(), late.Load())
		}
		if most.Load() != 1 || len(l.addresses) != 0 {
			t.Errorf("%d at a time, %d addresses are left", most.Load(), len(l.addresses))
		}
	})
}
