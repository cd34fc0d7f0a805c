package upkeep

import (
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

// trickle spreads one step of a pass, building segments or storing them, over a part of
// the time until the next pass is due, so that writers find the disk and the processors
// nearly idle at each moment. A pass that is in a hurry goes on at full speed.
type trickle struct {
	m     *Maintainer
	rate  float64 // bytes a second; 0: as fast as possible
	began time.Time
	spent atomic.Int64 // bytes
}

const (
	// stepShare is the part of the time between two passes over which each step of the
	// second one is spread. The last segment is stored after it was built, so the pass
	// takes up to twice as long, and still ends in time if writers become faster.
	stepShare = 0.3

	// longestStep bounds how long a step takes only because it is not in a hurry.
	longestStep = 4 * time.Second

	// nap is how often a pass that waits looks whether it has to hurry.
	nap = 20 * time.Millisecond
)

// beginPass returns those of the two steps of a pass that rewrites so many bytes.
func (m *Maintainer) beginPass(bytes int64) (building, storing *trickle) {
	now, rate := time.Now(), 0.0
	if between := now.Sub(m.began); !m.began.IsZero() && between > 0 && m.log.lost == nil {
		rate = float64(bytes) / min(stepShare*between.Seconds(), longestStep.Seconds())
	}
	m.began = now
	return &trickle{m: m, rate: rate, began: now}, &trickle{m: m, rate: rate, began: now}
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
