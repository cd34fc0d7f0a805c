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

// lines admits one login of each address at a time, in the order in which they came.
type lines struct {
	mu sync.Mutex // guards what follows
	of map[netip.Addr]*line
}

type line struct {
	token chan struct{}
	users int // logins that have the turn or wait for it
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

// known remembers which users have logged in from which address with the current
// credentials. It keeps a MAC of the password, under a key that only this process
// has: a client that presents the same password again need not wait. After a few
// wrong passwords for the user from the same address, logins from there wait again.
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
	latest     time.Time // when misses was last updated
}

// Limits of known.
const (
	maxPairs  = 10_000
	maxMisses = 10          // wrong secrets for a user from its address
	missLife  = time.Minute // one of them is forgotten after this long
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

// state returns what is known of a login's user and address, nil if that cannot help
// the login. The caller holds k.mu.
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

// has reports whether the user has logged in with this password from this address.
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

// may reports whether the user has logged in from this address, with few wrong
// secrets since.
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
		for other := range k.pairs { // any one: its user has to wait once
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
