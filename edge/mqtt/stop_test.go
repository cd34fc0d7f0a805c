package mqtt

import (
	"fmt"
	"testing"
)

// TestOwedStop: what was acknowledged before the server was stopped does not
// come again, however short a time before it was.
func TestOwedStop(t *testing.T) {
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 1))
		pub := join(t, s, 4, "pub", true)
		for i := range 30 {
			pub.publish("a", fmt.Sprint(i), 1, 1)
		}
		sub.collect(0, 20)
		_, s = d.stop(t, s, Options{})
		sub = join(t, s, 4, "sub", false)
		sub.collect(20, 10)
		sub.silent()
	})
}
