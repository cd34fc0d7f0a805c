package upkeep

import (
	"sync"
	"time"
)

// tally is an amount of the log.
type tally struct{ bytes, slots int64 }

// debt is what the upkeep still has to do: what was applied and is not yet
// rewritten into segments, where it is data, behind a durable checkpoint. A new
// owner reads no more than that once more.
type debt struct {
	mu      sync.Mutex
	applied tally     // guarded by mu; all that this owner has, in recovery too
	settled tally     // guarded by mu; the part of it that is done with
	moved   time.Time // guarded by mu; when upkeep got on last
	failing bool      // guarded by mu; its last pass did not get through
}

// add counts a slot that was applied, and returns what is owed with it.
func (d *debt) add(bytes int64) tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied.bytes += bytes
	d.applied.slots++
	return d.due()
}

// due needs mu.
func (d *debt) due() tally {
	return tally{max(d.applied.bytes-d.settled.bytes, 0), max(d.applied.slots-d.settled.slots, 0)}
}

// owed is what there is to do.
func (d *debt) owed() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.due()
}

// mark is everything that was applied until now.
func (d *debt) mark() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applied
}

// settle notes that of everything up to mark only left is still to be done.
func (d *debt) settle(mark, left tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = tally{mark.bytes - left.bytes, mark.slots - left.slots}
}

// deduct takes off what the upkeep itself has written: that is no reason for it.
func (d *debt) deduct(mine tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled.bytes += mine.bytes
	d.settled.slots += mine.slots
}

// clear is for a recovery that starts over.
func (d *debt) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied, d.settled = tally{}, tally{}
}

// inherit notes that at least so much was left by the owners before this one: a
// checkpoint may lie behind slots that were not rewritten.
func (d *debt) inherit(left tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied = tally{max(d.applied.bytes, left.bytes), max(d.applied.slots, left.slots)}
}

// step notes that the upkeep got on. After a pass that failed only one that gets
// through counts, or what fails each time at the same place would look alive.
func (d *debt) step() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.failing {
		d.moved = time.Now()
	}
}

// ended notes how a pass ended.
func (d *debt) ended(err error) {
	d.mu.Lock()
	d.failing = err != nil
	d.mu.Unlock()
	d.step()
}

// lastStep is when the upkeep got on last.
func (d *debt) lastStep() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.moved
}

// Pacer slows writers down who are faster than the upkeep. Up to a limit nobody
// is slowed down; beyond it, each moment in which slots may leave is followed by
// a pause that is the longer the more is owed; at twice the limit none leaves
// before something was settled. So writers get as fast as the upkeep, without a
// jump, whatever the bucket's speed.
//
// An upkeep that does not get on for a while holds nobody back. A bucket that
// takes nothing takes no slots either, and needs no brake; one that takes slots
// but no segments or no checkpoints would else be lost for writers, for the sake
// of a faster recovery.
type Pacer struct {
	upkeep *Maintainer

	// Of the committer alone.
	open   time.Time     // since when the next slot might have left
	left   time.Time     // when the last one left
	took   time.Duration // from open to left, at most busyMost
	over   time.Time     // since when the limit is exceeded; zero: it is not
	lifted bool          // it is, and nobody is held back

	mu    sync.Mutex
	since time.Time     // guarded by mu; of the pause under way; zero: there is none
	total time.Duration // guarded by mu; of pauses
}

// NewPacer returns one for the committer of the log that m keeps.
func NewPacer(m *Maintainer) *Pacer { return &Pacer{upkeep: m} }

const (
	// patience is how long the upkeep may take for a step before writers do
	// not wait for it any more. Kafka's producers give up a request after 30 s.
	patience = 10 * time.Second

	// busyMost is the longest time between two slots that a pause is in
	// proportion to: what is longer was a writer's leisure.
	busyMost = 100 * time.Millisecond
)

// Hold says how long requests that could leave now have to wait, if nothing is
// settled meanwhile; 0: not at all.
func (p *Pacer) Hold(now time.Time) time.Duration {
	wait := p.pause(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case wait > 0 && p.since.IsZero():
		p.since = now
	case wait <= 0 && !p.since.IsZero():
		p.total += now.Sub(p.since)
		p.since, p.open = time.Time{}, now
	}
	return max(wait, 0)
}

func (p *Pacer) pause(now time.Time) time.Duration {
	strain := p.upkeep.strain()
	if strain <= 1 {
		p.over, p.lifted = time.Time{}, false
		return 0
	}
	if p.over.IsZero() {
		p.over = now
	}
	step := p.upkeep.debt.lastStep()
	if step.Before(p.over) {
		step = p.over
	}
	rest := patience - now.Sub(step)
	if lifted := rest <= 0; lifted != p.lifted {
		if p.lifted = lifted; lifted {
			p.upkeep.log.Logger.Warn("log upkeep is stalled; writers are no longer throttled",
				"shard", p.upkeep.log.Shard, "bytes", p.upkeep.debt.owed().bytes, "last_step", step)
		}
	}
	if p.lifted {
		return 0
	}
	if strain >= 2 {
		return rest
	}
	owed := time.Duration(float64(p.took) * (strain - 1) / (2 - strain))
	return min(owed-now.Sub(p.left), rest)
}

// Leave notes that a slot leaves that a pause might have held back.
func (p *Pacer) Leave(now time.Time) {
	p.took = min(now.Sub(p.open), busyMost)
	p.left, p.open = now, now
}

// Throttled is how long requests were held back, together.
func (p *Pacer) Throttled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return p.total
	}
	return p.total + time.Since(p.since)
}
