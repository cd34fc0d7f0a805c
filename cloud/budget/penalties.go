package budget

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"
)

// PenaltiesOptions configure Penalties. The zero value of a field means its default.
type PenaltiesOptions struct {
	First     time.Duration // pause after the first wrong secret; it doubles with each; default: 1 s
	Longest   time.Duration // pause; default: 30 s
	Forget    time.Duration // in which one wrong secret is forgotten; default: 1 min
	Addresses int           // that are remembered at once; default: 4,096
	Lines     *Lines        // how much of it is logged; default: Lines of their own
}

// Penalties remember which addresses have shown wrong secrets. A right one is not
// remembered: somebody who has one account cannot use it to guess at another. It may
// be used by many goroutines.
type Penalties struct {
	o PenaltiesOptions

	mu     sync.Mutex // guards what follows
	guilty map[netip.Addr]*penalty
}

// penalty is what is remembered of one address.
type penalty struct {
	wrong  float64 // secrets, less those that are forgotten
	latest time.Time
	until  time.Time // when it may try again
}

// Verdict is what follows from a wrong secret.
type Verdict struct {
	Pause    time.Duration // until the address may try again
	Log      bool          // whether to write a line about it
	Unlogged int           // lines that were not written before this one
}

// NewPenalties returns Penalties of nobody.
func NewPenalties(o PenaltiesOptions) *Penalties {
	o.First = cmp.Or(o.First, time.Second)
	o.Longest = cmp.Or(o.Longest, 30*time.Second)
	o.Forget = cmp.Or(o.Forget, time.Minute)
	o.Addresses = cmp.Or(o.Addresses, 4_096)
	if o.Lines == nil {
		o.Lines = NewLines(LinesOptions{})
	}
	return &Penalties{o: o, guilty: make(map[netip.Addr]*penalty)}
}

// Wrong counts a wrong secret from an address (see Address).
func (p *Penalties) Wrong(from netip.Addr) Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	g := p.guilty[from]
	if g == nil {
		if len(p.guilty) >= p.o.Addresses {
			p.forget(now)
		}
		g = new(penalty)
		p.guilty[from] = g
	}
	g.wrong = p.left(g, now) + 1
	g.latest = now
	pause := p.o.First
	for n := 2.0; n <= g.wrong+0.5 && pause < p.o.Longest; n++ { // what was forgotten during a pause does not count
		pause *= 2
	}
	pause = min(pause, p.o.Longest)
	g.until = now.Add(pause)
	v := Verdict{Pause: pause}
	v.Log, v.Unlogged = p.o.Lines.May(from)
	return v
}

// left is how many wrong secrets are not forgotten.
func (p *Penalties) left(g *penalty, now time.Time) float64 {
	return max(g.wrong-float64(now.Sub(g.latest))/float64(p.o.Forget), 0)
}

// forget makes room for one address: all that have waited enough go, else the one that has
// least to wait for.
func (p *Penalties) forget(now time.Time) {
	var least netip.Addr
	fewest := -1.0
	for from, g := range p.guilty {
		left := p.left(g, now)
		if left == 0 && !now.Before(g.until) {
			delete(p.guilty, from)
			continue
		}
		if fewest < 0 || left < fewest {
			least, fewest = from, left
		}
	}
	if len(p.guilty) >= p.o.Addresses {
		delete(p.guilty, least)
	}
}

// Pause returns how long an address must wait before its next try, 0 if it need not.
func (p *Penalties) Pause(from netip.Addr) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.guilty[from]
	if g == nil {
		return 0
	}
	return max(time.Until(g.until), 0)
}

// Wait waits until an address may try. It returns ctx.Err() if ctx ends first.
func (p *Penalties) Wait(ctx context.Context, from netip.Addr) error {
	for {
		pause := p.Pause(from)
		if pause == 0 {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
