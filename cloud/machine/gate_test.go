package machine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/weir"
)

// TestGate: a closed slice takes no change, and closing it waits for those that are inside.
// Other slices are not concerned.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		var set weir.SliceSet
		set.Add(7)
		set.Add(700)
		first, _ := g.Enter(7)
		second, _ := g.Enter(7)
		third, _ := g.Enter(700)
		if _, ok := g.Enter(8); !ok {
			t.Fatal("an open gate is closed")
		}
		ended, stop := context.WithCancel(t.Context())
		stop()
		if err := g.Close(ended, set); !errors.Is(err, context.Canceled) {
			t.Errorf("closed with changes inside: %v", err)
		}
		closed := make(chan error, 1)
		go func() { closed <- g.Close(t.Context(), set) }()
		for _, leave := range []func(){first, third, second} {
			synctest.Wait()
			if _, ok := g.Enter(7); ok || len(closed) > 0 || !g.Closed(700) {
				t.Errorf("%v, %d, %v", ok, len(closed), g.Closed(700))
			}
			leave()
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if leave, ok := g.Enter(9); !ok {
			t.Error("another slice is closed")
		} else {
			leave()
		}
		g.Open(set)
		if _, ok := g.Enter(7); !ok {
			t.Error("the slice stays closed")
		}
	})
}
