package edge

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// stuck is how long a step of the gateway may take. No disk that works takes so long for
// one sync.
const stuck = time.Minute

// pulse is what Alive keeps from one call to the next. Calls do not overlap.
type pulse struct {
	storing atomic.Int64 // when the Store that runs began, in Unix nanoseconds; 0: none does

	taken uint64    // by the committer, at the last call
	since time.Time // that it has not taken what waits for it
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

// judge returns an error if something has been stuck for too long by now. queued packets
// wait for the committer, which has taken so many in all.
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
		return fmt.Errorf("%d packets of devices have waited for %v, and none was taken", queued, wait.Round(time.Second))
	}
	return nil
}
