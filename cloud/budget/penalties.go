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
	Longest   time.Duration // longest pause; default: 30 s
	Forget    time.Duration // one wrong secret is forgotten after this long; default: 1 min
	Addresses int           // addresses that are remembered at once; default: 4,096
	Lines     *Lines        // limits the log lines; default: a Lines of its own
}

// Penalties remembers which addresses have presented wrong secrets. A correct secret
// clears nothing, so that the owner of one account cannot use it to guess at another.
// It may be used by many goroutines.
type Penalties struct {
	o PenaltiesOptions

	mu     sync.Mutex // guards what follows
	guilty map[netip.Addr]*penalty
}

// penalty is what is remembered about one address.
type penalty struct {
	wrong  float64 // wrong secrets, less those that have been forgotten
	latest time.Time
	until  time.Time // when the address may try again
}

// Verdict is the consequence of a wrong secret.
type Verdict struct {
	Pause    time.Duration // until the address may try again
	Log      bool          // whether to write a log line about it
	Unlogged int           // lines that were left out before this one
}

// NewPenalties returns Penalties that remember no address yet.
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

// left returns how many wrong secrets have not been forgotten.
func (p *Penalties) left(g *penalty, now time.Time) float64 {
	return max(g.wrong-float64(now.Sub(g.latest))/float64(p.o.Forget), 0)
}

// forget makes room for one address. It drops all addresses without wrong secrets or
// a pause; if that is not enough, the one with the fewest wrong secrets.
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

// Pause returns how long an address must wait before its next try, 0 if it may try
// now.
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
