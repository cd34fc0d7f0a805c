package login

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/auth"
)

// lines let one login of each address go on at a time, who came first first.
type lines struct {
	mu sync.Mutex // guards what follows
	of map[netip.Addr]*line
}

type line struct {
	token chan struct{}
	users int // who are in it
}

// enter waits for the turn. It returns ctx.Err() if ctx ends first.
func (l *lines) enter(ctx context.Context, from netip.Addr) (leave func(), err error) {
	l.mu.Lock()
	if l.of == nil {
		l.of = make(map[netip.Addr]*line)
	}
	own := l.of[from]
	if own == nil {
		own = &line{token: make(chan struct{}, 1)}
		l.of[from] = own
	}
	own.users++
	l.mu.Unlock()
	gone := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(l.of, from)
		}
	}
	select {
	case own.token <- struct{}{}:
		return func() { <-own.token; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}

// known are users who have logged in from an address, under the credentials that there
// are now. A password is kept as its MAC, under a key that only this process has: who
// shows it again need not wait. Who shows another from the same address has few tries
// before nobody there has that advantage.
type known struct {
	key []byte

	mu    sync.Mutex // guards what follows
	pairs map[pair]*pairState
}

type pair struct {
	from netip.Addr
	user string
}

type pairState struct {
	users      *auth.Auth
	generation uint64
	mac        []byte // of the password; nil after a login by SCRAM
	misses     float64
	latest     time.Time // of the misses
}

// What is kept of known users.
const (
	maxPairs  = 10_000
	maxMisses = 10          // wrong secrets for a user from its address
	missLife  = time.Minute // in which one of them is forgotten
)

func newKnown() *known {
	k := &known{key: make([]byte, 32), pairs: make(map[pair]*pairState)}
	rand.Read(k.key) // never fails
	return k
}

func (k *known) sum(password string) []byte {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(password))
	return h.Sum(nil)
}

// state is what is known of a login's user and address, nil if nothing helps it.
// k.mu is held.
func (k *known) state(g *Login) *pairState {
	s := k.pairs[pair{g.from, g.user}]
	if s == nil || s.users != g.users || s.generation != g.began {
		return nil
	}
	now := time.Now()
	s.misses = max(s.misses-float64(now.Sub(s.latest))/float64(missLife), 0)
	s.latest = now
	if s.misses >= maxMisses {
		return nil
	}
	return s
}

// has reports whether the user has logged in with this password from there.
func (k *known) has(g *Login, password string) bool {
	mac := k.sum(password)
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.state(g)
	if s == nil || s.mac == nil {
		return false
	}
	if !hmac.Equal(s.mac, mac) {
		s.misses++
		return false
	}
	return true
}

// may reports whether the user has logged in from there, and not too many have missed
// since.
func (k *known) may(g *Login) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state(g) != nil
}

// missed counts a wrong secret.
func (k *known) missed(g *Login) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.state(g); s != nil {
		s.misses++
	}
}

// add remembers a login.
func (k *known) add(g *Login, password string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := pair{g.from, g.user}
	s := k.pairs[at]
	if s == nil {
		for other := range k.pairs { // any: it costs its user one wait
			if len(k.pairs) < maxPairs {
				break
			}
			delete(k.pairs, other)
		}
		s = &pairState{}
		k.pairs[at] = s
	}
	if s.users != g.users || s.generation != g.began {
		*s = pairState{users: g.users, generation: g.began, misses: s.misses, latest: s.latest}
	}
	if password != "" {
		s.mac = k.sum(password)
	}
}
