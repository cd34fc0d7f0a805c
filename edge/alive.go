package edge

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// stuck is the longest that a step of the gateway may take. A working disk never takes
// this long for one sync.
const stuck = time.Minute

// pulse is the state of Alive between two calls. Calls do not overlap.
type pulse struct {
	storing atomic.Int64 // when the running Store began, in Unix nanoseconds; 0: none is running

	taken uint64    // count of packets that the committer had taken at the last call
	since time.Time // when the committer stopped taking packets that wait for it
}

// Alive returns an error if messages of devices are stuck. It asks every part of the
// gateway for its figures, so it does not return while one of them holds its lock. A
// gateway without a link, or without room, is alive.
func (e *Edge) Alive(context.Context) error {
	e.metrics.WritePrometheus(io.Discard)
	e.health()
	stats := e.mqtt.Stats()
	return e.pulse.judge(time.Now(), stats.Queued, stats.Taken)
}

// judge returns an error if something has been stuck for too long at time now. queued
// packets wait for the committer, which has taken that many in all.
func (p *pulse) judge(now time.Time, queued int, taken uint64) error {
	if began := p.storing.Load(); began != 0 {
		if wait := now.Sub(time.Unix(0, began)); wait > stuck {
			return fmt.Errorf("a write to the local log has not returned for %v", wait.Round(time.Second))
		}
	}
	if queued == 0 || taken != p.taken || p.since.IsZero() {
		p.taken, p.since = taken, now
	}
	if wait := now.Sub(p.since); wait > stuck {
		return fmt.Errorf("%d packets of devices have waited for %v, and none was processed", queued, wait.Round(time.Second))
	}
	return nil
}
