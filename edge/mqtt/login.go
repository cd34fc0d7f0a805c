package mqtt

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// errBusy: too many passwords from one address wait to be checked.
var errBusy = errors.New("too many passwords wait to be checked")

// maxInLine is how many passwords of one address may wait to be checked.
const maxInLine = 64

// busyPause is how long a password for which the line is full waits for errBusy.
const busyPause = 2 * time.Second

// longestPause is the longest pause that a wrong password costs its address.
const longestPause = 10 * time.Second

// line lets one password be checked at a time, because a check takes a small machine a
// second. One password of each address stands in the line; the others of that address wait
// behind it. So an address that asks a hundred times delays another one by one check.
type line struct {
	turn      chan struct{} // one token: held by the check that runs
	penalties *budget.Penalties

	mu        sync.Mutex
	addresses map[netip.Addr]*queuer // guarded by mu
}

// queuer is an address with passwords in the line.
type queuer struct {
	first   chan struct{} // one token: held by the password that stands in the line
	waiting int           // guarded by line.mu; passwords, including the first one
}

func newLine() *line {
	return &line{turn: make(chan struct{}, 1), addresses: make(map[netip.Addr]*queuer),
		penalties: budget.NewPenalties(budget.PenaltiesOptions{Longest: longestPause})}
}

// check calls fn when it is the turn of a password from the address, and after the pause
// for earlier wrong ones. fn reports whether the password was right. check returns errBusy,
// or the error of ctx.
func (l *line) check(ctx context.Context, from netip.Addr, fn func() bool) (right bool, err error) {
	l.mu.Lock()
	q := l.addresses[from]
	if q == nil {
		q = &queuer{first: make(chan struct{}, 1)}
		l.addresses[from] = q
	}
	if q.waiting >= maxInLine {
		l.mu.Unlock()
		// After an immediate answer the client would ask again immediately.
		select {
		case <-time.After(busyPause):
			return false, errBusy
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	q.waiting++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		if q.waiting--; q.waiting == 0 {
			delete(l.addresses, from)
		}
		l.mu.Unlock()
	}()
	if err := enter(ctx, q.first); err != nil {
		return false, err
	}
	defer func() { <-q.first }()
	if err := l.penalties.Wait(ctx, from); err != nil {
		return false, err
	}
	if err := enter(ctx, l.turn); err != nil {
		return false, err
	}
	defer func() { <-l.turn }()
	if right = fn(); !right {
		l.penalties.Wrong(from)
	}
	return right, nil
}

// enter waits for a token. Waiters get it in the order in which they came.
func enter(ctx context.Context, token chan<- struct{}) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
