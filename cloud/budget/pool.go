package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// PoolOptions configure a Pool. Bytes is required.
type PoolOptions struct {
	Name    string // in log lines
	Bytes   int64  // that all peers together may hold
	Reserve int64  // of those, for small requests only; default: an eighth
	Small   int64  // bytes of the largest request that may use the reserve; default: 8 KiB
	Largest int64  // bytes of the largest request; default: half of what is no reserve
	Peer    int64  // that one peer may hold; at least Largest; default: a quarter of Bytes

	// Waited, if set, is told how long each request waited that found the pool short.
	Waited func(time.Duration)
	Log    *slog.Logger // default: slog.Default
}

func (o PoolOptions) withDefaults() (PoolOptions, error) {
	o.Reserve = cmp.Or(o.Reserve, o.Bytes/8)
	o.Small = cmp.Or(o.Small, 8<<10)
	o.Largest = cmp.Or(o.Largest, (o.Bytes-o.Reserve)/2)
	o.Peer = max(cmp.Or(o.Peer, o.Bytes/4), o.Largest)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Bytes < 1 || o.Reserve < 0 || o.Small < 0 || o.Largest < 1 || o.Largest > o.Bytes-o.Reserve {
		return o, fmt.Errorf("pool %s of %d bytes with a reserve of %d cannot hold a request of %d bytes", o.Name, o.Bytes, o.Reserve, o.Largest)
	}
	return o, nil
}

// Pool is an amount of memory that the requests of many peers share. A request pays
// for bytes as they arrive:
//
//   - Who asks first gets first. A request that waits only because its own peer
//     holds too much keeps nobody else waiting.
//   - A small request that has arrived whole may use the reserve, and overtakes
//     those that wait for the rest.
//   - Requests that have not arrived whole may hold all but Largest bytes of what is
//     no reserve; beyond that, one of them after the other is completed. So they
//     never wait for each other, and never keep out a request that is whole for
//     longer than those that are worked on.
//
// A Pool may be used by many goroutines.
type Pool struct {
	o     PoolOptions
	short *Episode

	mu        sync.Mutex // guards what follows, and the fields of peers and claims
	used      int64      // outside the reserve
	small     int64      // in the reserve
	arriving  int64      // of used, by requests that have not arrived whole, except completed's
	completed *Claim     // the one of these that may use the last Largest bytes
	line      []*waiter
	pressed   bool // somebody in line waits for those that have not arrived whole
	peers     map[string]*Peer
}

// Peer is what one peer holds of a Pool: a connection, or all connections of an
// address. Its claims share the limit PoolOptions.Peer.
type Peer struct {
	pool     *Pool
	key      string
	users    int
	held     int64
	whole    int64    // of held, by requests that have arrived
	arriving []*Claim // the others, oldest first
}

// Claim is what one request holds of a Pool.
type Claim struct {
	peer    *Peer
	most    int64 // bytes of the whole request
	held    int64
	arrived bool
	reserve bool // held in the reserve
}

// waiter is a claim that waits for n more bytes.
type waiter struct {
	claim *Claim
	n     int64
	given chan struct{} // closed when it has them
}

// ErrTooLarge: a request has more bytes than the largest that the pool is for, or
// than it said.
var ErrTooLarge = errors.New("request is larger than its budget")

// shortAfter is how long a request has waited when the pool counts as short: less
// is how a busy server looks.
const shortAfter = 100 * time.Millisecond

// NewPool returns a pool of which nothing is used.
func NewPool(o PoolOptions) (*Pool, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Pool{o: o, peers: make(map[string]*Peer)}
	p.short = NewEpisode(EpisodeOptions{
		Begin: "memory for requests is short: large requests wait, small ones have a reserve",
		End:   "memory for requests is no longer short",
		Log:   o.Log.With("pool", o.Name),
	})
	return p, nil
}

// Peer returns the peer of that key, the same for all who ask for it until each has
// called Close. With "" it is a peer of its own.
func (p *Pool) Peer(key string) *Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[key]
	if peer == nil || key == "" {
		peer = &Peer{pool: p, key: key}
		if key != "" {
			p.peers[key] = peer
		}
	}
	peer.users++
	return peer
}

// Close says that the caller of Pool.Peer needs it no more. Claims stay good until
// they are released.
func (peer *Peer) Close() {
	p := peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if peer.users--; peer.users == 0 && peer.key != "" {
		delete(p.peers, peer.key)
	}
}

// Used returns the bytes that are held now.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used + p.small
}

// Waiting returns how many requests wait now.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.line)
}

// Take waits for the bytes of a request that has arrived whole, or that is made
// here. The caller releases the claim. Errors: ErrTooLarge, or ctx's, with which
// nothing is held.
func (peer *Peer) Take(ctx context.Context, n int64) (*Claim, error) {
	c := &Claim{peer: peer, most: n, arrived: true}
	return c, peer.pool.wait(ctx, c, n)
}

// TryTake is Take for callers that do not wait: it returns nil if they would.
func (peer *Peer) TryTake(n int64) *Claim {
	p := peer.pool
	w := &waiter{claim: &Claim{peer: peer, most: n, arrived: true}, n: n, given: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 0 || n > p.o.Largest {
		return nil
	}
	p.line = append(p.line, w)
	p.serve()
	if last := len(p.line) - 1; last >= 0 && p.line[last] == w {
		p.line = slices.Delete(p.line, last, last+1)
		return nil
	}
	return w.claim
}

// Claim begins a request that is said to have so many bytes. It holds nothing: Grow
// does. The caller releases it.
func (peer *Peer) Claim(most int64) *Claim { return &Claim{peer: peer, most: most} }

// Grow waits for n bytes that arrive next. Errors: ErrTooLarge, or ctx's, with which
// the claim holds what it held before.
func (c *Claim) Grow(ctx context.Context, n int64) error { return c.peer.pool.wait(ctx, c, n) }

// pressed reports whether others wait for what is held by requests that have not
// arrived whole.
func (c *Claim) pressed() bool {
	p := c.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pressed
}

// Arrived says that the request is there as a whole: from now on nothing but the
// server's own work keeps it in memory.
func (c *Claim) Arrived() {
	p := c.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.arrived {
		return
	}
	p.leave(c)
	c.arrived = true
	p.join(c, 0)
	p.serve()
}

// Held returns how many bytes the claim holds.
func (c *Claim) Held() int64 {
	p := c.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.held
}

// Shrink gives back what the claim holds beyond n bytes.
func (c *Claim) Shrink(n int64) {
	p := c.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if n >= c.held {
		return
	}
	p.leave(c)
	c.held = max(n, 0)
	p.join(c, 0)
	p.serve()
}

// Release gives back all that the claim holds. Only the first call counts.
func (c *Claim) Release() {
	p := c.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.held == 0 && p.completed != c {
		return
	}
	p.leave(c)
	c.held, c.reserve = 0, false
	p.serve()
}

// leave takes a claim out of all sums.
func (p *Pool) leave(c *Claim) {
	peer := c.peer
	peer.held -= c.held
	switch {
	case c.reserve:
		p.small -= c.held
	default:
		p.used -= c.held
	}
	if c.arrived {
		peer.whole -= c.held
		return
	}
	peer.arriving = slices.DeleteFunc(peer.arriving, func(o *Claim) bool { return o == c })
	if p.completed == c {
		p.completed = nil
		return
	}
	p.arriving -= c.held
}

// join puts a claim that leave took out, or a new one, into the sums, with n bytes
// more.
func (p *Pool) join(c *Claim, n int64) {
	c.held += n
	peer := c.peer
	peer.held += c.held
	if c.reserve {
		p.small += c.held
	} else {
		p.used += c.held
	}
	if c.arrived {
		peer.whole += c.held
		return
	}
	peer.arriving = append(peer.arriving, c)
	p.arriving += c.held
}

// grow adds n bytes to a claim that is, or is not yet, in the sums.
func (p *Pool) grow(c *Claim, n int64) {
	if c.held == 0 && p.completed != c {
		p.join(c, n)
		return
	}
	c.held += n
	c.peer.held += n
	p.used += n
	switch {
	case c.arrived:
		c.peer.whole += n
	case p.completed != c:
		p.arriving += n
	}
}

// wait grants n bytes to a claim, now or in its turn.
func (p *Pool) wait(ctx context.Context, c *Claim, n int64) error {
	p.mu.Lock()
	if n < 0 || c.held+n > min(c.most, p.o.Largest) {
		defer p.mu.Unlock()
		return fmt.Errorf("%w: %d bytes and %d more, at most %d are allowed", ErrTooLarge, c.held, n, min(c.most, p.o.Largest))
	}
	w := &waiter{claim: c, n: n, given: make(chan struct{})}
	own := !p.peerFits(c, n)
	p.line = append(p.line, w)
	p.serve()
	p.mu.Unlock()
	select {
	case <-w.given:
		return nil
	default:
	}
	began := time.Now()
	defer func() {
		if p.o.Waited != nil && !own {
			p.o.Waited(time.Since(began))
		}
	}()
	if !own {
		late := time.AfterFunc(shortAfter, func() { p.short.Note("held", p.Used(), "bytes", p.o.Bytes) })
		defer late.Stop()
	}
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.line, w)
	if i < 0 {
		return nil // it was given just now
	}
	p.line = slices.Delete(p.line, i, i+1)
	if p.completed == c && c.held == 0 {
		p.leave(c)
	}
	p.serve()
	return ctx.Err()
}

// blocked says for what those who stand in line wait already: who comes later must
// not take it.
type blocked struct {
	bytes    bool // what is no reserve
	arriving bool // the part of it for requests that have not arrived
}

// serve grants what can be granted, in the order of the line. The request that is
// being completed comes first: the others wait for it.
func (p *Pool) serve() {
	var b blocked
	defer func() { p.pressed = b.arriving }()
	if len(p.line) == 0 {
		return
	}
	if i := slices.IndexFunc(p.line, func(w *waiter) bool { return w.claim == p.completed }); i >= 0 && p.completed != nil {
		if w := p.line[i]; p.tryGrant(w, &b) {
			p.line = slices.Delete(p.line, i, i+1)
			close(w.given)
		}
	}
	p.line = slices.DeleteFunc(p.line, func(w *waiter) bool {
		if w.claim == p.completed || !p.tryGrant(w, &b) {
			return false
		}
		close(w.given)
		return true
	})
}

// tryGrant grants a request what it waits for, or notes in b what it waits for.
func (p *Pool) tryGrant(w *waiter, b *blocked) bool {
	c, n := w.claim, w.n
	if !p.peerFits(c, n) {
		return false
	}
	if p.fitsReserve(c, n) {
		c.reserve = true
		p.grow(c, n)
		return true
	}
	most := p.o.Bytes - p.o.Reserve
	if !c.arrived && p.completed != c {
		if b.arriving {
			return false
		}
		if p.arriving+n > most-p.o.Largest {
			if p.completed != nil {
				b.arriving = true
				return false
			}
			p.complete(c)
		}
	}
	if b.bytes || p.used+n > most {
		b.bytes = true
		return false
	}
	p.grow(c, n)
	return true
}

// complete makes c the request that may use the last Largest bytes.
func (p *Pool) complete(c *Claim) {
	p.completed = c
	if c.held > 0 {
		p.arriving -= c.held
		return
	}
	c.peer.arriving = append(c.peer.arriving, c)
}

// peerFits reports whether the peer may hold n bytes more for this claim. Beyond
// its limit only the oldest of its requests that are arriving may grow, and the one
// that is being completed, when all that have arrived are done with: they must be
// able to end.
func (p *Pool) peerFits(c *Claim, n int64) bool {
	peer := c.peer
	if peer.held+n <= p.o.Peer {
		return true
	}
	return !c.arrived && peer.whole == 0 && (p.completed == c || len(peer.arriving) > 0 && peer.arriving[0] == c)
}

// fitsReserve reports whether a request may use the reserve, and finds room there.
func (p *Pool) fitsReserve(c *Claim, n int64) bool {
	return c.arrived && c.held == 0 && n <= p.o.Small && p.small+n <= p.o.Reserve
}
