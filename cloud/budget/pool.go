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
	Bytes   int64  // limit for all peers together
	Reserve int64  // of Bytes, for small requests only; default: an eighth
	Small   int64  // bytes of the largest request that may use the reserve; default: 8 KiB
	Largest int64  // bytes of the largest request; default: half of Bytes without the reserve
	Peer    int64  // limit for one peer, at least Largest; default: a quarter of Bytes

	// Waited, if set, is called with the waiting time of each request that had to wait.
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
//   - Requests are served in the order in which they ask. A request that waits only
//     because its own peer holds too much does not hold up the others.
//   - A small request that has arrived whole may use the reserve, and overtakes the
//     requests that wait for the rest.
//   - Requests that have not arrived whole may hold all but Largest bytes of the
//     memory outside the reserve. The last Largest bytes go to one of them at a time,
//     which is completed. So they never wait for each other, and they delay a request
//     that has arrived no longer than the requests being worked on do.
//
// A Pool may be used by many goroutines.
type Pool struct {
	o     PoolOptions
	short *Episode

	mu        sync.Mutex // guards what follows, and the fields of peers and claims
	used      int64      // outside the reserve
	small     int64      // in the reserve
	arriving  int64      // part of used: requests that have not arrived whole, except completed
	completed *Claim     // the one arriving request that may use the last Largest bytes
	line      []*waiter
	pressed   bool // a waiting request needs memory held by requests that have not arrived whole
	peers     map[string]*Peer
}

// Peer is the share of one peer in a Pool. A peer is a connection, or all connections
// of an address. Its claims share the limit PoolOptions.Peer.
type Peer struct {
	pool     *Pool
	key      string
	users    int
	held     int64
	whole    int64    // bytes held by requests that have arrived
	arriving []*Claim // requests that have not arrived whole, oldest first
}

// Claim is the share of one request.
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
	given chan struct{} // closed when the bytes are granted
}

// ErrTooLarge means that a request has more bytes than PoolOptions.Largest, or more
// than it announced.
var ErrTooLarge = errors.New("request is larger than its budget")

// shortAfter is how long a request must have waited before the pool counts as short.
// Shorter waits are normal on a busy server.
const shortAfter = 100 * time.Millisecond

// NewPool returns an unused pool.
func NewPool(o PoolOptions) (*Pool, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Pool{o: o, peers: make(map[string]*Peer)}
	p.short = NewEpisode(EpisodeOptions{
		Begin: "memory for requests is short: large requests wait, small ones use a reserve",
		End:   "memory for requests is no longer short",
		Log:   o.Log.With("pool", o.Name),
	})
	return p, nil
}

// Peer returns the peer of a key. All callers get the same one until each of them has
// called Close. With the key "" each call returns a new peer.
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

// Close must be called once for each call of Pool.Peer. Claims stay valid until they
// are released.
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

// Take waits for n bytes for a request that has arrived whole, or that is made here.
// The caller releases the claim. Errors: ErrTooLarge, or ctx's; then nothing is held.
func (peer *Peer) Take(ctx context.Context, n int64) (*Claim, error) {
	c := &Claim{peer: peer, most: n, arrived: true}
	return c, peer.pool.wait(ctx, c, n)
}

// TryTake is Take without waiting: it returns nil if Take would wait.
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

// Claim begins a request that has announced most bytes. The claim holds nothing until
// Grow is called. The caller releases it.
func (peer *Peer) Claim(most int64) *Claim { return &Claim{peer: peer, most: most} }

// Grow waits for n more bytes, which arrive next. Errors: ErrTooLarge, or ctx's; then
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

// Arrived records that the request has arrived whole: from now on only the server's
// own work keeps it in memory.
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

// leave removes a claim from all sums.
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

// join adds a claim to the sums, with n more bytes. The claim is new, or leave
// removed it.
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

// grow adds n bytes to a claim, which need not be in the sums yet.
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

// blocked says what requests earlier in the line wait for: later requests must not
// take it.
type blocked struct {
	bytes    bool // memory outside the reserve
	arriving bool // the part of it for requests that have not arrived whole
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

// peerFits reports whether the peer may hold n more bytes for this claim. Beyond its
// limit only the oldest of its arriving requests and the one being completed may
// grow, and only when none of its requests that have arrived is left: they must be
// able to end.
func (p *Pool) peerFits(c *Claim, n int64) bool {
	peer := c.peer
	if peer.held+n <= p.o.Peer {
		return true
	}
	return !c.arrived && peer.whole == 0 && (p.completed == c || len(peer.arriving) > 0 && peer.arriving[0] == c)
}

// fitsReserve reports whether a request may use the reserve and there is room in it.
func (p *Pool) fitsReserve(c *Claim, n int64) bool {
	return c.arrived && c.held == 0 && n <= p.o.Small && p.small+n <= p.o.Reserve
}
