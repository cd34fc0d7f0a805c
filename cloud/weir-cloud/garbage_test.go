package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
)

func TestPercentOf(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 200}, {1 << 20, 200}, {4 << 20, 200}, {8 << 20, 100}, {16 << 20, 50}, {64 << 20, 12},
	} {
		if got := percentOf(c.live); got != c.want {
			t.Errorf("%d bytes are in use: %d %%, want %d", c.live, got, c.want)
		}
	}
}

// TestCollect: the collector of a node waits for more garbage while the cluster has several
// shards and little memory is in use, and only then.
func TestCollect(t *testing.T) {
	before := debug.SetGCPercent(garbage)
	defer debug.SetGCPercent(before)
	var several atomic.Bool
	defer collect(several.Load)()
	await := func(what string, is func(percent uint64) bool) {
		t.Helper()
		for runs := 0; !is(percentSet()); runs++ { // each run of the collector may change it, a little later
			if runs == 100_000 {
				t.Fatalf("%s: it is %d %%", what, percentSet())
			}
			runtime.GC()
		}
	}
	several.Store(true)
	await("several shards, little memory in use", func(percent uint64) bool { return percent > garbage })
	much := make([]byte, 64<<20)
	await("much memory in use", func(percent uint64) bool { return percent == garbage })
	runtime.KeepAlive(much)
	await("little memory in use again", func(percent uint64) bool { return percent > garbage })
	several.Store(false)
	await("one shard", func(percent uint64) bool { return percent == garbage })
}

func percentSet() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
