package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// garbage is the amount of it, in percent of the memory in use, at which the collector
// runs. Nearly all memory of a node is records without pointers: scanning them costs
// little, and waiting costs memory. The buffers that come and go with every request are
// used again without it (package freelist): on a busy node it would run forty times a
// second for them.
const garbage = 25

// leastGarbage, in bytes, is how much there is before the collector runs on a node of
// several shards. They divide a load among nodes with little memory in use each, of which a
// quarter is soon used up: four nodes would run the collector four times as often as one
// does under the same load, a sixth of their processor time. A node with all shards has
// more than that at work.
const leastGarbage = 8 << 20

// collector sets anew after each run of the garbage collector how much garbage there is
// at the next one.
type collector struct {
	several func() bool // reports whether the cluster has several shards
	percent int         // as it was set last
	stopped atomic.Bool
}

// collect begins to set it, until stop is called.
func collect(several func() bool) (stop func()) {
	c := &collector{several: several, percent: garbage}
	c.set()
	return func() { c.stopped.Store(true) }
}

// await makes the next run of the collector call set: it finds that nothing refers to a
// new object.
func (c *collector) await() {
	runtime.AddCleanup(new(*collector), func(c *collector) { c.set() }, c)
}

// set is called by one goroutine at a time.
func (c *collector) set() {
	if c.stopped.Load() {
		return
	}
	defer c.await()
	percent := garbage
	if c.several() {
		percent = max(garbage, percentOf(live()))
	}
	// To set it stops the process for a moment. Not for what makes little difference.
	if math.Abs(float64(percent-c.percent)) > float64(c.percent)/8 {
		debug.SetGCPercent(percent)
		c.percent = percent
	}
}

// percentOf is how much leastGarbage is of the memory in use, in percent. More than 200 % would
// also raise the size below which the collector does not run at all.
func percentOf(live uint64) int { return int(min(200, leastGarbage*100/max(live, 1))) }

// live is the memory in bytes that was in use when the collector ran last.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
