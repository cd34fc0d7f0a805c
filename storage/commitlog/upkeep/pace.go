package upkeep

import (
	"sync"
	"time"
)

// tally is an amount of the log.
type tally struct{ bytes, slots int64 }

// minus returns the difference of two tallies, at least 0.
func (t tally) minus(u tally) tally {
	return tally{max(t.bytes-u.bytes, 0), max(t.slots-u.slots, 0)}
}

// debt is what the upkeep still has to do: all that was applied and is not yet behind a
// durable checkpoint, with its data in segments. A new owner has to read no more than
// that.
type debt struct {
	mu      sync.Mutex
	applied tally     // guarded by mu; all that this owner has applied, in recovery too
	settled tally     // guarded by mu; the part of it that is no longer debt
	placed  tally     // guarded by mu; the part of it that is in segments, behind a checkpoint or not
	moved   time.Time // guarded by mu; when the upkeep last made progress
	failing bool      // guarded by mu; the last pass failed
}

// add counts a slot that was applied, and returns what is to be placed with it.
func (d *debt) add(bytes int64) tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied.bytes += bytes
	d.applied.slots++
	return d.applied.minus(d.placed)
}

// owed returns the debt.
func (d *debt) owed() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applied.minus(d.settled)
}

// toPlace returns what is not in segments.
func (d *debt) toPlace() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applied.minus(d.placed)
}

// mark returns all that was applied until now.
func (d *debt) mark() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applied
}

// settles returns how much of the debt is settled if of everything up to mark only left is
// not in segments, and the rest is behind a durable checkpoint.
func (d *debt) settles(mark, left tally) tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return mark.minus(left).minus(d.settled)
}

// settle notes that of everything up to mark only left is not in segments, and if saved
// is set, that the rest is behind a durable checkpoint.
func (d *debt) settle(mark, left tally, saved bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.placed = tally{mark.bytes - left.bytes, mark.slots - left.slots}
	if saved {
		d.settled = d.placed
	}
}

// deduct subtracts what the upkeep itself has written, which alone needs no pass.
func (d *debt) deduct(mine tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled.bytes += mine.bytes
	d.settled.slots += mine.slots
	d.placed.bytes += mine.bytes
	d.placed.slots += mine.slots
}

// clear is for a recovery that starts over.
func (d *debt) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied, d.settled, d.placed = tally{}, tally{}, tally{}
}

// inherit notes that at least so much was left by the owners before this one: a
// checkpoint may lie behind slots that were not rewritten.
func (d *debt) inherit(left tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied = tally{max(d.applied.bytes, left.bytes), max(d.applied.slots, left.slots)}
}

// step notes that the upkeep made progress. After a failed pass only a complete one
// counts; otherwise an upkeep that fails each time at the same place would look alive.
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

// lastStep returns when the upkeep last made progress.
func (d *debt) lastStep() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.moved
}

// Pacer slows down writers that are faster than the upkeep. Up to a limit of debt they
// are not slowed down. Beyond it, a pause follows each slot, the longer the larger the
// debt. At twice the limit no slot leaves before some debt is settled. So writers
// approach the speed of the upkeep without a jump, whatever the speed of the bucket.
//
// If the upkeep makes no progress for a while, writers are no longer held back. A
// bucket that accepts no writes accepts no slots either. One that accepts slots, but no
// segments or checkpoints, would otherwise block all writers for the sake of a faster
// recovery.
type Pacer struct {
	upkeep *Maintainer

	// Of the committer alone.
	open   time.Time     // since when the next slot could have left
	left   time.Time     // when the last one left
	took   time.Duration // from open to left, at most busyMost
	over   time.Time     // since when the limit is exceeded; zero: it is not
	lifted bool          // it is exceeded, but writers are not held back

	mu    sync.Mutex
	since time.Time     // guarded by mu; of the pause under way; zero: there is none
	total time.Duration // guarded by mu; of pauses
}

// NewPacer returns one for the committer of the log that m keeps.
func NewPacer(m *Maintainer) *Pacer { return &Pacer{upkeep: m} }

const (
	// patience is how long the upkeep may make no progress before writers no longer wait
	// for it. Kafka's producers give up a request after 30 s.
	patience = 10 * time.Second

	// busyMost is the longest time between two slots that a pause is in proportion to:
	// after a longer time the writers were idle.
	busyMost = 100 * time.Millisecond
)

// Hold returns how long requests that could leave now have to wait if nothing is
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

// Leave notes that a slot with requests of writers leaves.
func (p *Pacer) Leave(now time.Time) {
	p.took = min(now.Sub(p.open), busyMost)
	p.left, p.open = now, now
}

// Throttled returns the total time that requests were held back.
func (p *Pacer) Throttled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return p.total
	}
	return p.total + time.Since(p.since)
}
