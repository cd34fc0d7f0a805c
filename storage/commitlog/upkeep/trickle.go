package upkeep

import (
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

// trickle spreads what a pass rewrites over a part of the time until the next pass is
// due, so that writers find the disk and the processors nearly idle at each moment. A
// pass that is in a hurry goes on at full speed.
type trickle struct {
	m     *Maintainer
	rate  float64 // bytes a second; 0: as fast as possible
	began time.Time
	spent atomic.Int64 // bytes
}

const (
	// restShare is the part of the time between two passes in which the second one
	// rewrites, so that it ends in time even if writers become faster.
	restShare = 0.4

	// longestPass bounds how long a pass takes only because it is not in a hurry.
	longestPass = 4 * time.Second

	// nap is how often a pass that waits looks whether it has to hurry.
	nap = 20 * time.Millisecond
)

// newTrickle returns one for a pass that rewrites so many bytes.
func (m *Maintainer) newTrickle(bytes int64) *trickle {
	now := time.Now()
	t := &trickle{m: m, began: now}
	if between := now.Sub(m.began); !m.began.IsZero() && m.log.lost == nil {
		t.rate = float64(bytes) / min(restShare*between.Seconds(), longestPass.Seconds())
	}
	m.began = now
	return t
}

// spend notes that bytes were rewritten or written, and waits until more may be.
func (t *trickle) spend(bytes int) {
	if t == nil || t.rate == 0 {
		return
	}
	due := time.Duration(float64(t.spent.Add(int64(bytes))) / t.rate * float64(time.Second))
	for !t.m.hurries() {
		wait := due - time.Since(t.began)
		if wait < time.Millisecond || pause.For(t.m.ctx, min(wait, nap)) != nil {
			return
		}
	}
}

// hurries reports whether somebody waits for the pass under way: writers soon, or a
// caller of Maintain.
func (m *Maintainer) hurries() bool {
	return m.asked.Load() > 0 || m.ctx.Err() != nil || m.strain() > 0.5
}
