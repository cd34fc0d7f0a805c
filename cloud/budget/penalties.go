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
	Quiet     time.Duration // between two log lines about one address; default: 1 min
}

// Penalties remember which addresses have shown wrong secrets. A right one is not
// remembered: somebody who has one account cannot use it to guess at another. It may
// be used by many goroutines.
type Penalties struct {
	o PenaltiesOptions

	mu      sync.Mutex // guards what follows
	guilty  map[netip.Addr]*penalty
	logged  int       // lines in the second of logging
	logging time.Time // see lines
	missed  int       // lines of addresses that were forgotten
}

// penalty is what is remembered of one address.
type penalty struct {
	wrong    float64 // secrets, less those that are forgotten
	latest   time.Time
	until    time.Time // when it may try again
	line     time.Time // of the latest log line
	unlogged int       // wrong secrets since then
}

// lines is how many log lines there are in a second, whatever the number of
// addresses.
const lines = 5

// Verdict is what follows from a wrong secret.
type Verdict struct {
	Pause    time.Duration // until the address may try again
	Log      bool          // whether to write a line about it
	Unlogged int           // wrong secrets about which none was written, since the last one
}

// NewPenalties returns Penalties of nobody.
func NewPenalties(o PenaltiesOptions) *Penalties {
	o.First = cmp.Or(o.First, time.Second)
	o.Longest = cmp.Or(o.Longest, 30*time.Second)
	o.Forget = cmp.Or(o.Forget, time.Minute)
	o.Addresses = cmp.Or(o.Addresses, 4_096)
	o.Quiet = cmp.Or(o.Quiet, time.Minute)
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
	for n := 2.0; n <= g.wrong && pause < p.o.Longest; n++ {
		pause *= 2
	}
	pause = min(pause, p.o.Longest)
	g.until = now.Add(pause)
	v := Verdict{Pause: pause}
	if g.unlogged++; now.Sub(g.line) >= p.o.Quiet && p.mayLog(now) {
		v.Log, v.Unlogged = true, g.unlogged-1+p.missed
		g.line, g.unlogged, p.missed = now, 0, 0
	}
	return v
}

// left is how many wrong secrets are not forgotten.
func (p *Penalties) left(g *penalty, now time.Time) float64 {
	return max(g.wrong-float64(now.Sub(g.latest))/float64(p.o.Forget), 0)
}

// mayLog reports whether a line fits into this second.
func (p *Penalties) mayLog(now time.Time) bool {
	if now.Sub(p.logging) >= time.Second {
		p.logging, p.logged = now, 0
	}
	p.logged++
	return p.logged <= lines
}

// forget makes room for one address: all that are forgiven go, else the one that has
// least to be forgiven.
func (p *Penalties) forget(now time.Time) {
	var least netip.Addr
	fewest := -1.0
	for from, g := range p.guilty {
		left := p.left(g, now)
		if left == 0 && !now.Before(g.until) {
			p.missed += g.unlogged
			delete(p.guilty, from)
			continue
		}
		if fewest < 0 || left < fewest {
			least, fewest = from, left
		}
	}
	if len(p.guilty) >= p.o.Addresses {
		p.missed += p.guilty[least].unlogged
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
