package mqtt

import (
	"fmt"
	"runtime"
	"testing"
)

// TestIdleConnection measures connections that have connected, subscribed and
// received a message, and then do nothing. The client's end is in the same
// process: its 4 KiB reader is taken off, its socket is not.
func TestIdleConnection(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: memory is not measured under the race detector")
	}
	const n = 300
	const budget = 12 << 10
	s := start(t, Options{})
	join(t, s, 4, "first", true).silent()
	heap, stack := memory()
	var all []*testClient
	for i := range n {
		c := join(t, s, 4, fmt.Sprintf("c%d", i), true)
		c.subscribe(filter(fmt.Sprintf("t/%d", i), 1))
		c.publish(fmt.Sprintf("t/%d", i), "x", 0, 0)
		c.message("x")
		all = append(all, c)
	}
	for _, c := range all {
		c.silent()
	}
	heapNow, stackNow := memory()
	perHeap, perStack := int(heapNow-heap)/n-4<<10, int(stackNow-stack)/n
	t.Logf("per idle connection: %d bytes of heap, %d of stack", perHeap, perStack)
	if perHeap > budget {
		t.Errorf("%d bytes of heap per idle connection, more than %d", perHeap, budget)
	}
	runtime.KeepAlive(all)
}

// memory is what is in use now.
func memory() (heap, stack uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}
