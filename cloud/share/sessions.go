package share

import (
	"math"
	"sync"
)

// Sessions are the share sessions of one node (KIP-932): which partitions a member
// fetches from, so that a request need not name them all. A session belongs to the
// connection that has opened it, and ends with it.
type Sessions struct {
	limit int

	mu  sync.Mutex
	all map[member]*Session
}

type member struct{ group, id string }

// maxSession is how many partitions one session can have.
const maxSession = 10_000

// Session is one session. Only its connection uses it.
type Session struct {
	Group, Member string
	sessions      *Sessions
	epoch         int32 // of the next request; guarded by Sessions.mu
	places        []Place
	has           map[Place]bool
}

// NewSessions returns room for so many sessions.
func NewSessions(limit int) *Sessions {
	return &Sessions{limit: limit, all: make(map[member]*Session)}
}

// Open begins a session. One that the member had before ends. Errors: ErrSessionLimit.
func (s *Sessions) Open(group, id string) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := member{group, id}
	if s.all[key] == nil && len(s.all) >= s.limit {
		return nil, ErrSessionLimit
	}
	x := &Session{Group: group, Member: id, sessions: s, epoch: 1, has: make(map[Place]bool)}
	s.all[key] = x
	return x, nil
}

// Check returns nil if the session is still the member's, and epoch is the one that its
// next request must have. It then expects the epoch after that. A negative epoch is always
// right, and changes nothing. Errors: ErrNoSession, ErrSessionEpoch.
func (x *Session) Check(epoch int32) error {
	s := x.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all[member{x.Group, x.Member}] != x:
		return ErrNoSession
	case epoch < 0:
		return nil
	case epoch != x.epoch:
		return ErrSessionEpoch
	case x.epoch == math.MaxInt32:
		x.epoch = 1
	default:
		x.epoch++
	}
	return nil
}

// Close ends the session. It reports whether it was still the member's.
func (x *Session) Close() bool {
	s := x.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	key := member{x.Group, x.Member}
	if s.all[key] != x {
		return false
	}
	delete(s.all, key)
	return true
}

// Add adds a partition. Errors: ErrSessionTooWide.
func (x *Session) Add(at Place) error {
	switch {
	case x.has[at]:
		return nil
	case len(x.places) >= maxSession:
		return ErrSessionTooWide
	}
	x.has[at] = true
	x.places = append(x.places, at)
	return nil
}

// Remove removes a partition.
func (x *Session) Remove(at Place) {
	if !x.has[at] {
		return
	}
	delete(x.has, at)
	for i := range x.places {
		if x.places[i] == at {
			x.places = append(x.places[:i:i], x.places[i+1:]...)
			return
		}
	}
}

// Places lists the partitions. The first is another one at each call, so that all get
// their turn. The list must not be changed.
func (x *Session) Places() []Place {
	if n := len(x.places); n > 1 {
		x.places = append(x.places[1:n:n], x.places[0])
	}
	return x.places
}
